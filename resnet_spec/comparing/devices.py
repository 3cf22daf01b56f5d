"""Whether a grid's backends have its device: asked before anything is written, in processes.

A device is known to its framework alone, which the process of a grid does not import: each backend
makes a session there in a process of its own. The child is this module.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from resnet_spec.errors import BackendError, ResnetSpecError

AUTO = "auto"
"""What every backend has, and what is not asked for."""

_REFUSED = 3
_TINY: dict[str, Any] = {
    "name": "device",
    "classes": 2,
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
    "input": {"size": 8},
}


def check_device(device: str, backends: Iterable[str]) -> None:
    """Raise BackendError with what each of `backends` has against `device`, as its session says it.

    A process that ends in another way is not judged here: the run itself says more, in its log.
    """
    if device == AUTO:
        return
    problems = [line for name in dict.fromkeys(backends) for line in _asked(name, device)]
    if problems:
        raise BackendError(*problems)


def _asked(backend: str, device: str) -> list[str]:
    command = [sys.executable, "-P", "-m", "resnet_spec.comparing.devices", backend, device]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != _REFUSED:
        return []
    problems: list[str] = json.loads(done.stdout.splitlines()[-1])
    return [f"{backend}: {line}" for line in problems]


def _main(backend: str, device: str) -> int:
    from resnet_spec.describing.spec import Spec
    from resnet_spec.planning.lowering import lower
    from resnet_spec.running.opening import open_session

    try:
        open_session(backend, lower(Spec.from_dict(_TINY)), device=device)
    except ResnetSpecError as error:
        print(json.dumps(error.problems))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:3]))
