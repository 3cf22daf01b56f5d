"""Why a run of several processes is not that of one: what each known fault makes of the first step.

Each cause is computed by the reference, from the same weights and batch, as a group with that fault
would; it is named where that is what the group came to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array, Batch, State
from resnet_spec.data.batches import share_of, taken
from resnet_spec.group import Group
from resnet_spec.optimizers import clipped, row_of, slots_of
from resnet_spec.parity.comparison import differences
from resnet_spec.parity.floors import UNIT
from resnet_spec.parity.group_side import GroupSide
from resnet_spec.parity.side import Side
from resnet_spec.reporting.report import Finding
from resnet_spec.session_state import family

_EXPLAINED = 0.05
"""A cause must leave less of the first step's error than this fraction."""


_ROUNDING = 1e4
"""An error of fewer roundings than this is no fault's."""


class Cause(NamedTuple):
    """A fault of groups. moved: returns what the reference would come to with it."""

    name: str
    about: str
    moved: Callable[[Side, int], State]


def explained(got: GroupSide, expected: Side) -> Finding | None:
    """Return what is worst after the first step, and why; None where that step is right."""
    wrong = differences(got.stepped, expected.stepped, expected.stepped)
    worst = max(wrong, key=lambda difference: difference.max_rel)
    multiples = worst.max_rel / UNIT[got.precision]
    if multiples < _ROUNDING:
        return None
    cause = next(_fitting(got, expected), Cause("", "", _summed))
    found = got.backend, "first step", worst.name, multiples
    return Finding(*found, cause.name, cause.about)


def _fitting(got: GroupSide, expected: Side) -> Iterator[Cause]:
    """Yield the causes that explain the first step, all but a twentieth of its error."""
    for cause in CAUSES:
        moved = cause.moved(expected, got.size)
        before = _error(got.stepped, expected.stepped, moved)
        if _error(got.stepped, moved, moved) < _EXPLAINED * before:
            yield cause


def _error(got: State, expected: State, names: Mapping[str, Array]) -> float:
    return max(difference.max_rel for difference in differences(got, expected, names))


# --- What a group with a fault would come to ------------------------------------------------------


def _parts(expected: Side) -> list[Batch]:
    return _parts_of(expected.batch, expected.setup.recipe.accumulate)


def _parts_of(batch: Batch, count: int) -> list[Batch]:
    return [share_of(batch, Group(i, count)) for i in range(count)]


def _gradients(expected: Side, batches: Sequence[Batch]) -> State:
    """Return the mean of the gradients of batches of equal sizes."""
    found = [expected.session.gradients(batch)[1] for batch in batches]
    return {name: np.mean([each[name] for each in found], axis=0) for name in found[0]}


def _stepped(expected: Side, gradients: State) -> State:
    """Return the weights, and what the optimiser keeps, after a first step by these gradients."""
    setup = expected.setup
    settings, state = setup.recipe.optimizer, expected.state
    families = {slot.family for slot in slots_of(settings)}
    slots = {name: array for name, array in state.items() if family(name) in families}
    moved: State = {}
    gradients = clipped(settings, gradients, state, setup.plan.classifier)
    for tensor in setup.plan.tensors:
        if tensor.trainable:
            numbers = float(setup.rates[0]) * tensor.rate, setup.recipe.decay_of(tensor)
            own = state[tensor.name], gradients[tensor.name], slots
            new, kept = row_of(settings).step(settings, tensor.name, *numbers, *own)
            moved |= {tensor.name: new, **kept}
    return moved


def _summed(expected: Side, size: int) -> State:
    mean = _gradients(expected, _parts(expected))
    return _stepped(expected, {name: size * gradient for name, gradient in mean.items()})


def _replicas(expected: Side, size: int) -> State:
    cut = [share_of(p, Group(rank, size)) for p in _parts(expected) for rank in range(size)]
    return _stepped(expected, _gradients(expected, cut))


def _contiguous(expected: Side, size: int) -> State:
    """Each process takes one run of the whole batch, and cuts that into parts."""
    batch, count = expected.batch, expected.setup.recipe.accumulate
    rows = np.arange(len(batch)).reshape(size, count, -1).transpose(1, 0, 2).ravel()
    return _stepped(expected, _gradients(expected, _parts_of(taken(batch, rows), count)))


def _noise_of_the_first(expected: Side, size: int) -> State:
    """Every process takes the factors of the first one's images."""
    found = list[Batch]()
    for part in _parts(expected):
        share = len(part) // size
        noise = {k: np.concatenate([a[:share]] * size) for k, a in part.noise.items()}
        found.append(replace(part, noise=noise))
    return _stepped(expected, _gradients(expected, found))


CAUSES = (
    Cause("gradients-summed", "gradients are added up over processes, not averaged", _summed),
    Cause(
        "contiguous-shares",
        "each process takes a run of the whole batch, not its share of each accumulated part",
        _contiguous,
    ),
    Cause("noise-repeated", "every process takes the first one's noise", _noise_of_the_first),
    Cause(
        "replica-statistics",
        "norms take the statistics of each process's own images, not of the whole batch",
        _replicas,
    ),
)
"""In the order in which they are tried."""
