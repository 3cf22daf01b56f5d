"""From differences to a verdict: errors in multiples of the noise floor.

Nothing here is a tolerance that somebody guessed: the floor is computed for every tensor of the
network at hand (see `floors`), and how many floors count as rounding was measured (see `limits`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from resnet_spec.contract import State
from resnet_spec.parity.comparison import Difference
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import level_of, run_differences, slot_differences
from resnet_spec.parity.limits import LIMITS, SUSPECT
from resnet_spec.parity.side import Side
from resnet_spec.reporting.report import SEVERITY, Item, Row, Verdict

_SAMPLES = 4


def judge(level: str, got: Side, floors: Floors, look: Row | None = None) -> Row:
    """Compare `got` with the reference at `level`; look at a run's own drift where it differs.

    look: what the first look has given, where it has been taken.
    """
    row = look or first_look(level, got, floors)
    if _is_run(level) and verdict_of(row.items) in ("different", "suspect"):
        return _against_drift(row, got, floors)
    return row


def first_look(level: str, got: Side, floors: Floors) -> Row:
    """Compare `got` with the reference at `level`, by the noise floor alone."""
    found, note = floors.compared(level_of(level).compare, level, got), ""
    if level_of(level).derivative:
        _, choices = floors.alike(got)
        note = _of_choices(choices.count, choices.far)
    if level_of(level).exact:
        items = tuple(_item(difference, 0.0, 0.0) for difference in found)
        return Row(got.backend, level, verdict_of(items), items)
    floor, limit = floors.of(level), LIMITS[level].multiples
    items = tuple(_item(d, floor.get(d.name, 0.0), limit) for d in found)
    curves = _curves(got, floors.expected) if _is_run(level) else {}
    return Row(got.backend, level, verdict_of(items), items, limit, note, curves)


def _is_run(level: str) -> bool:
    return "run" in level_of(level).values


def verdict_of(items: tuple[Item, ...]) -> Verdict:
    """Return the worst verdict of `items`; equal for none."""
    worst: Verdict = "equal"
    for item in items:
        worst = min(worst, item.verdict, key=lambda verdict: SEVERITY[verdict])
    return worst


def _item(found: Difference, floor: float, limit: float) -> Item:
    item = Item(
        found.name,
        "equal",
        found.max_abs,
        found.max_rel,
        found.element_rel,
        found.cosine,
        found.index,
        floor,
    )
    return replace(item, verdict=_verdict(item, limit))


def _verdict(item: Item, limit: float) -> Verdict:
    if item.max_rel == 0.0:
        return "equal"
    if not math.isfinite(item.floor):
        return "undecided"  # The reference itself overflows in this precision.
    multiples = item.floor_multiples
    if multiples <= limit:
        return "rounding"
    return "suspect" if multiples <= SUSPECT * limit else "different"


def _of_choices(count: int, far: int) -> str:
    if far:
        return f"{far} ReLUs or pools choose otherwise, beyond rounding"
    return f"{count} ReLUs or pools choose otherwise within rounding" if count else ""


def _curves(got: Side, expected: Side) -> dict[str, tuple[float, ...]]:
    return {
        "loss": tuple(got.losses.tolist()),
        "reference loss": tuple(expected.losses.tolist()),
    }


# --- A run's own drift ----------------------------------------------------------------------------


def _against_drift(row: Row, got: Side, floors: Floors) -> Row:
    """Take the run's own drift for the floor where it is larger."""
    drift = own_drift(got.by_itself)
    items = tuple(
        replace(item, floor=max(item.floor, drift.get(item.name, 0.0))) for item in row.items
    )
    items = tuple(replace(i, verdict=_verdict(i, row.limit)) for i in items)
    note = f"its own loss drifts by {drift['loss']:.0e} under one ulp"
    return replace(row, items=items, verdict=verdict_of(items), note=note)


def own_drift(side: Side) -> dict[str, float]:
    """Return how far a run moves when its weights change by one ulp, up or down.

    By the names of a run's items; the largest of a few random changes. Weights that are
    zero stay so.
    """
    dtype = np.float64 if side.precision == "float64" else np.float32
    draw = np.random.default_rng(0)
    drift: dict[str, float] = {}
    losses, end = side.run
    for _ in range(_SAMPLES):
        moved: State = {}
        for name, array in side.setup.state.items():
            weights = array.astype(dtype)
            up = weights + np.spacing(weights) * draw.choice([-1, 1], weights.shape)
            moved[name] = np.where(weights == 0, weights, up).astype(dtype)
        tensors = side.setup.plan.tensors
        again, other_end = side.run_from(moved)
        apart = run_differences(tensors, again, other_end, losses, end)
        for found in (*apart, *slot_differences(other_end, end)):
            drift[found.name] = max(drift.get(found.name, 0.0), found.max_rel)
    return drift
