"""Try a backend in a process of its own, on a tiny network.

A framework may take the whole process with it when it starts on a device that is broken, and a
process that only starts others imports none. The child is this module.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from resnet_spec.running.child_processes import command_of, signal_name

if TYPE_CHECKING:
    from resnet_spec.contract import Session

_SECONDS = 300
"""How long a backend may take to start; MindSpore on a busy machine takes half a minute."""

_NETWORK: dict[str, Any] = {
    "name": "trial",
    "classes": 2,
    "block": "basic",
    "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 8, "blocks": 1}],
    "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
}


@dataclass(frozen=True)
class Trial:
    """What came of it.

    works: whether all that was asked for came out. info: what the session says of itself. notes:
    what is wrong. is_refused: the backend said so itself, and did not fail.
    """

    works: bool
    info: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    is_refused: bool = False


def tried(backend: str, device: str = "auto", *, predicts: bool = True) -> Trial:
    """Return what comes of a session of `backend` on `device`.

    predicts: whether the network is run, too, and its logits are looked at.
    """
    asked = [backend, device, *(["predict"] if predicts else [])]
    command = command_of("resnet_spec.running.trial", asked)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Trial(False, notes=[f"does not start within {_SECONDS} s"])
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return Trial(**json.loads(lines[-1]))
    return Trial(False, notes=[_ending(done)])


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    """Return why the child did not answer, in a line."""
    if done.returncode < 0:
        return f"its process was ended by {signal_name(-done.returncode)}"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return f"its process ended with status {done.returncode}: {said[-1] if said else 'no word'}"


# --- In the child ---------------------------------------------------------------------------------


def _trial(backend: str, device: str, *, predicts: bool) -> Trial:
    from resnet_spec.errors import ResnetSpecError
    from resnet_spec.loader import conditions_of
    from resnet_spec.running.building import session

    try:
        made = session(_NETWORK, backend, device=device)
        notes = (
            [] if not predicts or _is_finite(made) else ["a tiny network's logits are not finite"]
        )
    except ResnetSpecError as error:
        return Trial(False, notes=list(error.problems), is_refused=True)
    except Exception as error:  # Whatever a framework raises on a machine that is broken.
        words = " ".join(str(error).split())
        return Trial(False, notes=[f"{type(error).__name__}: {words[:300]}"])
    works = not notes
    return Trial(works, dict(made.info), [*conditions_of(backend, "of_framework"), *notes])


def _is_finite(made: Session) -> bool:
    """Return whether the network's logits are finite."""
    import numpy as np

    from resnet_spec.contract import Batch

    images = np.zeros((2, 8, 8, 3), np.uint8)
    (logits,) = made.predict([Batch(images, np.zeros(2, np.int64), np.arange(2))])
    return bool(np.isfinite(logits).all())


if __name__ == "__main__":
    print(json.dumps(asdict(_trial(*sys.argv[1:3], predicts="predict" in sys.argv[3:]))))
