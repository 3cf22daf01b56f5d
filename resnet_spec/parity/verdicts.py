"""From differences to a verdict, with a second look where rounding can do more than it seems.

A difference above the tolerance is first taken for real. Two effects of rounding are then ruled
out: a pre-activation within rounding of a ReLU's corner (gradients), and a run that amplifies any
rounding (trajectory). Neither look widens a tolerance: the first compares with the float64 network
on the same side of the corner, the second with the backend's own drift under a change of one ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import State
from resnet_spec.parity.comparison import Difference, difference, worst
from resnet_spec.parity.corners import flips, is_far, same_side
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.side import Side
from resnet_spec.parity.tolerances import tolerance
from resnet_spec.report import Row, Verdict

_SAMPLES = 4
_DRIFTS = 3.0
"""A run may be this many times its own drift from the reference. Four samples of a drift differ by
up to ten times, so that their largest falls short of the drift's range by two or three."""


class _Look(NamedTuple):
    """What a second look found: another difference or tolerance, and what to tell the reader."""

    worst: Difference
    tolerance: float
    note: str
    verdict: Verdict | None = None


def judge(level: str, got: Side, expected: Side) -> Row:
    """Compare two sides at `level` and return the finding, after a second look where needed."""
    row = first_look(level, got, expected)
    look = _SECOND_LOOKS.get(level)
    if row.verdict != "different" or look is None:
        return row
    found = look(level, got, expected)
    return row if found is None else _row(level, got, found)


def first_look(level: str, got: Side, expected: Side) -> Row:
    """Compare two sides at `level` by the table of tolerances alone."""
    limit = 0.0 if LEVELS[level].exact else tolerance(level, got.backend, got.precision)
    return _row(level, got, _Look(worst(LEVELS[level].compare(got, expected)), limit, ""))


def _row(level: str, got: Side, look: _Look) -> Row:
    found, limit, note, verdict = look
    if verdict is None:
        verdict = "rounding" if found.max_rel <= limit else "different"
        verdict = "equal" if found.max_rel == 0 else verdict
    return Row(got.backend, level, verdict, found.name, found.max_abs, found.max_rel, limit, note)


def _look_at_corners(level: str, got: Side, expected: Side) -> _Look | None:
    """Compare gradients with those of the reference on the same side of every ReLU's corner."""
    count = flips(got, expected)
    if count == 0 or is_far(got, expected):
        return None
    limit = tolerance(level, got.backend, got.precision)
    shadow = same_side(got, expected)
    if shadow is None:
        found = worst(LEVELS[level].compare(got, expected))
        return _Look(found, limit, f"{count} ReLUs flip, not resolved", "undecided")
    found = worst(LEVELS[level].compare(got, shadow))
    return _Look(found, limit, f"{count} ReLUs flip within rounding")


def _look_at_drift(level: str, got: Side, expected: Side) -> _Look:
    """Compare a run's losses with the reference's as the run drifts from itself."""
    drift = own_drift(got)
    limit = max(_DRIFTS * drift, tolerance(level, got.backend, got.precision))
    found = worst(LEVELS[level].compare(got, expected))
    return _Look(found, limit, f"drifts by {drift:.0e} under one ulp")


def own_drift(side: Side) -> float:
    """Return how far the losses of a run move when its weights change by one ulp, up or down.

    The largest of a few random changes; weights that are zero stay so.
    """
    dtype = np.float64 if side.precision == "float64" else np.float32
    draw = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(_SAMPLES):
        moved: State = {}
        for name, array in side.setup.state.items():
            weights = array.astype(dtype)
            moved[name] = weights + np.spacing(weights) * draw.choice([-1, 1], weights.shape)
            moved[name] = np.where(weights == 0, weights, moved[name]).astype(dtype)
        found.append(difference("loss", side.losses_from(moved), side.losses).max_rel)
    return max(found)


_SECOND_LOOKS: dict[str, Callable[[str, Side, Side], _Look | None]] = {
    "gradients": _look_at_corners,
    "update": _look_at_corners,
    "velocity": _look_at_corners,
    "trajectory": _look_at_drift,
}
