"""Where a side first does something else than the reference, given the same inputs, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise.backward import search_backward
from resnet_spec.parity.localise.forward import search_forward
from resnet_spec.parity.localise.statistics import search_statistics
from resnet_spec.parity.localise.update import search_update
from resnet_spec.parity.side import Side
from resnet_spec.reporting.report import Finding

__all__ = ["MODES", "localise", "search"]

MODES: dict[str, Callable[[Side, Floors], Finding | None]] = {
    "forward": search_forward,
    "backward": search_backward,
    "statistics": search_statistics,
    "update": search_update,
}

_MODES_OF = {
    "shapes": ("forward",),
    "counts": ("forward",),
    "init": ("forward",),
    "logits": ("forward",),
    "activations": ("forward",),
    "train_logits": ("forward",),
    "accuracy": ("forward",),
    "gradients": ("forward", "backward"),
    "statistics": ("forward", "statistics"),
    "update": ("forward", "backward", "update"),
    "trajectory": ("forward", "backward", "statistics", "update"),
}
"""What can explain a level that differs; names explain themselves."""


def search(mode: str, got: Side, floors: Floors) -> Finding | None:
    """Return the first wrong node in `mode`, one of MODES; None when all are right."""
    return MODES[mode](got, floors)


def localise(got: Side, floors: Floors, levels: Sequence[str]) -> list[Finding]:
    """Return what explains the `levels` that differ: the first mode in which a node is wrong."""
    wanted = {mode for level in levels for mode in _MODES_OF.get(level, ())}
    for mode in MODES:
        found = search(mode, got, floors) if mode in wanted else None
        if found is not None:
            return [found]
    return []
