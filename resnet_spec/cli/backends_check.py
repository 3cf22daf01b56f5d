"""Start one backend in a process of its own and run a tiny network on it.

A framework may take the whole process with it when it starts on a device that is broken. The child
is this module, run with the backend's name.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

_SECONDS = 300
"""How long a backend may take to start; MindSpore on a busy machine takes half a minute."""

_NETWORK: dict[str, Any] = {
    "name": "check",
    "classes": 2,
    "block": "basic",
    "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 8, "blocks": 1}],
    "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
}


@dataclass(frozen=True)
class Checked:
    """What came of it: whether logits came out, what the session is, and what is wrong."""

    works: bool
    info: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])


def checked(name: str) -> Checked:
    """Return what comes of running the backend `name`."""
    command = [sys.executable, "-m", "resnet_spec.cli.backends_check", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return Checked(False, notes=[f"does not start within {_SECONDS} s"])
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return Checked(**json.loads(lines[-1]))
    return Checked(False, notes=[_ending(done)])


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    """Return why the child did not answer, in a line."""
    if done.returncode < 0:
        return f"its process was ended by {signal.Signals(-done.returncode).name}"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return f"its process ended with status {done.returncode}: {said[-1] if said else 'no word'}"


def check(name: str) -> Checked:
    """Run the backend `name` in this process."""
    import numpy as np

    from resnet_spec.contract import Batch
    from resnet_spec.errors import ResnetSpecError
    from resnet_spec.loader import conditions_of
    from resnet_spec.running.building import session

    try:
        made = session(_NETWORK, name)
        images = np.zeros((2, 8, 8, 3), np.uint8)
        (logits,) = made.predict([Batch(images, np.zeros(2, np.int64), np.arange(2))])
    except ResnetSpecError as error:
        return Checked(False, notes=list(error.problems))
    except Exception as error:  # Whatever a framework raises on a machine that is broken.
        words = " ".join(str(error).split())
        return Checked(False, notes=[f"{type(error).__name__}: {words[:300]}"])
    notes = conditions_of(name, "of_framework")
    if not np.isfinite(logits).all():
        notes.append("a tiny network's logits are not finite")
    return Checked(bool(np.isfinite(logits).all()), dict(made.info), notes)


if __name__ == "__main__":
    print(json.dumps(asdict(check(sys.argv[1]))))
