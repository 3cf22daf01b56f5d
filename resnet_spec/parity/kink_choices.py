"""Tell a choice that falls the other way within rounding from a bug.

Where float32 puts a pre-activation of +1e-8 at -1e-8, a whole gradient changes by up to 1e-2, and
rightly so: it is the gradient of a network that differs by rounding. Wherever the two differ in a
choice that rounding can decide (a ReLU's side, the pixel that a max-pool takes), the reference is
therefore computed once more, in float64, with the choices of the side it is compared with: with
them the gradients must agree as closely as ever. A choice that rounding cannot decide is left
alone, and the difference it makes is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Gate, MaxPool
from resnet_spec.parity.kink_margin import pool_windows
from resnet_spec.parity.setup import Setup
from resnet_spec.plan import Plan
from resnet_spec.planning.dataflow import Step, steps
from resnet_spec.planning.op_rows import row_of

Reach = Callable[[str], float]
"""Name of a node -> the absolute error in its output that rounding can make."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Which ReLUs and max-pool pixels `got` takes, for `Session.sharing` of the reference.

    count: how many differ from the reference's own; far: how many of them rounding cannot explain.
    """

    made: Mapping[str, Array]
    count: int
    far: int


def choices_of(plan: Plan, got: State, expected: State, reach: Reach, images: Array) -> Choices:
    """Compare the choices in two sets of training-mode outputs, by the name of the node.

    images: the normalised ones [N, C, H, W]. Nodes that `got` does not have choose as the
        reference.
    """
    made: dict[str, Array] = {}
    count = far = 0
    for step in steps(plan):
        source = step.inputs[0].name
        x = images if source == "input" else expected.get(source)
        y = got.get(step.node.name)
        if x is None or y is None or y.shape[0] != x.shape[0]:
            continue
        found = _of_step(step, x, y, got.get(source), 0.0 if source == "input" else reach(source))
        if found is not None:
            made[step.node.name] = found.made
            count += found.count
            far += found.far
    return Choices(made, count, far)


@dataclass(frozen=True, slots=True)
class _Found:
    made: Array
    count: int
    far: int


def _of_step(step: Step, x: Array, y: Array, own: Array | None, reach: float) -> _Found | None:
    node = step.node
    if isinstance(node, Gate):
        return None
    match row_of(node).kink(node):
        case "relu":
            return _of_relu(x, y, reach) if x.shape == y.shape else None
        case "max":
            assert isinstance(node, MaxPool)
            return None if own is None or own.shape != x.shape else _of_pool(node, x, own, reach)
        case None:
            return None


def _of_relu(x: Array, y: Array, reach: float) -> _Found:
    passes: Array = x > 0
    flipped = passes != (y > 0)
    near = np.abs(x) <= reach
    return _Found(np.where(near, y > 0, passes), int(flipped.sum()), int((flipped & ~near).sum()))


def _of_pool(pool: MaxPool, x: Array, own: Array, reach: float) -> _Found:
    windows, own_windows = pool_windows(pool, x), pool_windows(pool, own)
    first: Array = windows.argmax(2)
    chosen: Array = own_windows.argmax(2)
    flipped = first != chosen
    value = np.take_along_axis(windows, chosen[:, :, None], 2)[:, :, 0]
    near: Array = windows.max(2) - value <= 2.0 * reach  # Both are off by up to `reach`.
    # Between equal values (zeros, mostly) there is nothing to choose; the first one is taken.
    count: Array = flipped & (windows.max(2) != value)
    return _Found(np.where(near, chosen, first), int(count.sum()), int((count & ~near).sum()))


def normalised(setup: Setup) -> Array:
    """Return the first batch's images as they enter the network: float64 [N, C, H, W]."""
    size, images = setup.plan.input, setup.batches[0].images
    x = images.astype(np.float64)
    if images.dtype == np.uint8:
        x = x * np.array(size.scale) + np.array(size.shift)
    return x.transpose(0, 3, 1, 2)
