"""Tell a ReLU that flips within rounding from a bug.

Where float32 puts a pre-activation of +1e-8 at -1e-8, a whole gradient changes by up to 1e-2, and
rightly so: it is the gradient of a network that differs by rounding. Such a network is built here:
the reference's float64 weights with a few norm shifts moved by less than rounding, so that every
ReLU is on the side where the backend's is. With it the gradients must agree as closely as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, State
from resnet_spec.dataflow import Step, steps
from resnet_spec.ops import Activation, Add, DropPath, Norm
from resnet_spec.parity.margin import SAFE
from resnet_spec.parity.settle import reference_of
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan

_ROUNDS = 30


def flips(got: Side, expected: Side) -> int:
    """Count the elements of ReLU outputs that are zero on one side only."""
    return sum(int(mask.sum()) for _, mask in _flipped(got, expected))


def same_side(got: Side, expected: Side) -> Side | None:
    """Return the reference within rounding of `expected` whose ReLUs are all on `got`'s side.

    None when no such network is found.
    """
    nudged: State = {k: v.astype(np.float64) for k, v in expected.setup.state.items()}
    shadow = expected
    for _ in range(_ROUNDS):
        found = list(_flipped(got, shadow))
        if not found:
            return shadow
        moves = [_nudge(shadow, step, mask) for step, mask in found]
        for move in moves:
            if move is None:
                return None
            name, amount = move
            nudged[name] = nudged[name] + amount
        shadow = reference_of(replace(expected.setup, state=dict(nudged)))
    return None


def is_far(got: Side, expected: Side) -> bool:
    """Whether a flipped pre-activation is too far from zero for rounding to have done it."""
    for step, mask in _flipped(got, expected):
        x = expected.activations[step.inputs[0].name]
        if np.max(np.abs(x[mask])) > SAFE * _size(x):
            return True
    return False


def _size(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def _flipped(got: Side, expected: Side) -> Iterator[tuple[Step, NDArray[np.bool_]]]:
    """Yield every ReLU with flipped elements, and a mask of them."""
    for step in steps(expected.setup.plan):
        if isinstance(step.node, Activation) and step.node.kind == "relu":
            a, b = got.activations.get(step.node.name), expected.activations[step.node.name]
            if a is not None and a.shape == b.shape and np.any((a > 0) != (b > 0)):
                yield step, (a > 0) != (b > 0)


def _nudge(side: Side, step: Step, mask: NDArray[np.bool_]) -> tuple[str, Array] | None:
    """Return the norm shift to move, and by how much per channel, to put `mask` across zero."""
    x = side.activations[step.inputs[0].name]
    norm = _norm_before(side.setup.plan, step.inputs[0].name)
    if norm is None:
        return None
    amount = np.zeros(x.shape[1])
    for channel in np.flatnonzero(mask.any(axis=(0, 2, 3))):
        across = -x[:, channel][mask[:, channel]]
        if across.min() < 0 < across.max():
            return None  # Both ways in one channel: no shift does it.
        furthest = across[np.argmax(np.abs(across))]
        amount[channel] = 1.01 * furthest if furthest else np.spacing(_size(x))
    return norm.shift.name, amount


def _norm_before(plan: Plan, name: str) -> Norm | None:
    """Return the norm whose shift moves the value `name` one to one: through sums only."""
    makers = {step.output.name: step for step in steps(plan)}
    waiting = [name]
    while waiting:
        step = makers.get(waiting.pop(0))
        match step.node if step else None:
            case Norm() as norm:
                return norm
            case Add() | DropPath():
                assert step is not None
                waiting += [value.name for value in step.inputs]
            case _:
                pass
    return None
