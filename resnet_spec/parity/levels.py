"""The levels of a comparison: a table of functions from two sides to their differences.

A new level is a function and a line of the table. `exact` levels admit no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnet_spec.parity.comparison import Difference, apart, difference, differences
from resnet_spec.parity.side import Side


class Level(NamedTuple):
    """compare(got, expected) lists what was compared, with the error of each."""

    about: str
    compare: Callable[[Side, Side], list[Difference]]
    exact: bool = False


def _names(got: Side, expected: Side) -> list[Difference]:
    wrong = sorted(got.state.keys() ^ expected.state.keys())
    if not wrong and list(got.state) != list(expected.state):
        wrong = ["order of names"]
    return [apart(name) for name in wrong]


def _shapes(got: Side, expected: Side) -> list[Difference]:
    common = [name for name in expected.state if name in got.state]
    return [apart(n) for n in common if got.state[n].shape != expected.state[n].shape]


def _counts(got: Side, expected: Side) -> list[Difference]:
    found: list[Difference] = []
    for what, trainable in (("parameters", True), ("statistics", False)):
        a, b = (_count(side, trainable) for side in (got, expected))
        if a != b:
            found.append(Difference(what, abs(a - b), abs(a - b) / max(b, 1)))
    return found


def _count(side: Side, trainable: bool) -> int:
    names = (t.name for t in side.setup.plan.tensors if t.trainable == trainable)
    return sum(math.prod(side.state[name].shape) for name in names)


def _logits(got: Side, expected: Side) -> list[Difference]:
    return [difference("logits", got.logits, expected.logits)]


def _train_logits(got: Side, expected: Side) -> list[Difference]:
    a, b = (next(reversed(side.activations.values())) for side in (got, expected))
    return [difference("logits", a, b)]


def _gradients(got: Side, expected: Side) -> list[Difference]:
    (loss, gradients), (expected_loss, expected_gradients) = got.gradients, expected.gradients
    return [
        difference("loss", np.array(loss), np.array(expected_loss)),
        *differences(gradients, expected_gradients, expected.setup.plan.trainable),
    ]


def _statistics(got: Side, expected: Side) -> list[Difference]:
    names = [t.name for t in expected.setup.plan.tensors if not t.trainable]
    return differences(got.stepped, expected.stepped, names)


def _update(got: Side, expected: Side) -> list[Difference]:
    """Compare weights after a step from the same start: what little `got` began elsewhere is added.

    It is zero but where the reference was moved within rounding (see `corners`).
    """
    names = [name for name in expected.setup.plan.trainable if name in got.state]
    target = dict(expected.stepped)
    for name in names:
        if got.state[name].shape == target[name].shape:
            target[name] = target[name] + (
                got.state[name].astype(np.float64) - expected.state[name]
            )
    return differences(got.stepped, target, expected.setup.plan.trainable)


def _velocity(got: Side, expected: Side) -> list[Difference]:
    slots = [name for name in expected.stepped if name.startswith("momentum/")]
    return differences(got.stepped, expected.stepped, slots)


def _trajectory(got: Side, expected: Side) -> list[Difference]:
    return [difference("loss", got.losses, expected.losses)]


LEVELS: dict[str, Level] = {
    "names": Level("names of weights, statistics and slots, and their order", _names, exact=True),
    "shapes": Level("their shapes", _shapes, exact=True),
    "counts": Level("how many values are trained, and how many kept", _counts, exact=True),
    "logits": Level("logits in evaluation mode", _logits),
    "train_logits": Level("logits in training mode", _train_logits),
    "gradients": Level("loss and the gradient of every parameter", _gradients),
    "statistics": Level("running mean and variance after one step", _statistics),
    "update": Level("weights after one step", _update),
    "velocity": Level("velocities after one step", _velocity),
    "trajectory": Level("loss of every step of a short run", _trajectory),
}
