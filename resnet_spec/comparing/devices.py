"""Whether a grid's backends have its device: asked before anything is written, in processes.

A device is known to its framework alone, which the process of a grid does not import.
"""

from __future__ import annotations

from collections.abc import Iterable

from resnet_spec.errors import BackendError
from resnet_spec.running.trial import tried

AUTO = "auto"
"""What every backend has, and what is not asked for."""


def check_device(device: str, backends: Iterable[str]) -> None:
    """Raise BackendError with what each of `backends` has against `device`, as its session says it.

    A backend that fails in another way is not judged here: the run itself says more, in its log.
    """
    if device == AUTO:
        return
    problems = list[str]()
    for name in dict.fromkeys(backends):
        trial = tried(name, device, predicts=False)
        problems += [f"{name}: {line}" for line in trial.notes if trial.is_refused]
    if problems:
        raise BackendError(*problems)
