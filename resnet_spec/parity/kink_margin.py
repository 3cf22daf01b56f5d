"""How close a batch comes to a ReLU's corner or a max-pool's tie, where gradients jump.

One pre-activation within rounding of zero that falls on the other side changes whole gradients by
up to 1e-2 while nothing is wrong. Gradients in float32 are therefore compared on batches whose
margin is well above rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.ops import Gate, MaxPool
from resnet_spec.plan import Plan
from resnet_spec.planning.dataflow import steps
from resnet_spec.planning.op_rows import row_of

SAFE = 1e-5
"""Ten times the error of a float32 pre-activation, measured relative to its node's root mean
square (1e-6 at worst over the cases)."""

SAFE_RUN = 3e-6
"""For every step of a run: three times that error. A flip on the way moves the losses by up to
3e-4, which no wider tolerance should hide."""


class Margin(NamedTuple):
    """The smallest distance from a jump, over the root mean square of the node's input."""

    value: float
    node: str


def margin(plan: Plan, outputs: Mapping[str, Array]) -> Margin:
    """Return the margin of `outputs`, the training-mode output of every observed node."""
    return min(_margins(plan, outputs), default=Margin(np.inf, ""))


def _margins(plan: Plan, outputs: Mapping[str, Array]) -> Iterator[Margin]:
    for step in steps(plan):
        node, x = step.node, outputs.get(step.inputs[0].name)
        if x is None or isinstance(node, Gate):
            continue
        match row_of(node).kink(node):
            case "relu":
                yield _over(_smallest(np.abs(x)), x, node.name)
            case "max":
                assert isinstance(node, MaxPool)
                yield _over(_closest(node, x), x, node.name)
            case None:
                pass


def _over(distance: float, x: Array, node: str) -> Margin:
    """Return the margin; none where a value is not finite, which is near every corner."""
    return Margin(distance / _size(x) if np.isfinite(x).all() else 0.0, node)


def _size(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def _smallest(x: Array) -> float:
    """Return the least of `x` that is not exactly zero: such a zero is structural, in all."""
    return float(np.min(x, initial=np.inf, where=x > 0))


def _closest(pool: MaxPool, x: Array) -> float:
    """Return the least gap between the two largest values of a window; ties of zeros are none."""
    ordered = np.sort(pool_windows(pool, x), axis=2)
    largest, second = ordered[:, :, -1], ordered[:, :, -2]
    return float(np.min(largest - second, initial=np.inf, where=largest != 0))


def pool_windows(pool: MaxPool, x: Array) -> Array:
    """Return what each output pixel of `pool` sees, [N, C, kernel * kernel, H', W'], row by row."""
    top, bottom, left, right = pool.pad
    edges = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x, edges, constant_values=-np.inf)
    size = (pool.kernel, pool.kernel)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))
    windows = windows[:, :, :: pool.stride, :: pool.stride].transpose(0, 1, 4, 5, 2, 3)
    return windows.reshape(*x.shape[:2], -1, *windows.shape[4:])
