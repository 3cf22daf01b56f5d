"""The two checkpoints that a run keeps: the last one, and the one before it for when that is lost.

While one is written there is, at every moment, a sound one under one of the two names
(`files.writing.replacing`).
"""

from __future__ import annotations

from pathlib import Path

from resnet_spec.errors import CheckpointError, DamagedError
from resnet_spec.weights.checkpoint import load_checkpoint

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


def is_sound(path: Path) -> bool:
    """Return whether there is a checkpoint at `path` that can be loaded."""
    try:
        load_checkpoint(path)
    except CheckpointError:
        return False
    return True


def before_damaged(path: Path) -> str:
    """Return the remedy where `path` is a run's last checkpoint, damaged, and the other is sound.

    "" where something else is wrong. For those who look at weights: nobody means other ones than
    those that are named.
    """
    before = path.with_name(PREVIOUS)
    if path.name != LAST:
        return ""
    try:
        load_checkpoint(path)
    except DamagedError:
        goes_on = f"train --resume {path.parent} goes on from it"
        return f"name {before}, the checkpoint before it; {goes_on}" if is_sound(before) else ""
    except CheckpointError:
        pass
    return ""
