"""What every module has, and what a pass through a network carries along.

Modules hold weights only; what a pass computes on the way is kept in its `Run`, and no pass changes
an array in place. `dy` is the gradient of the loss with respect to a module's output, `dx` that
with respect to its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from resnet_spec import ops
from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan, walk
from resnet_spec_numpy.sums import Order, mean, product, total


@dataclass
class Run:
    """One pass through a network: what the modules are told, and what they leave behind.

    training: batch statistics instead of running ones, and noise; needed for a backward pass.
    noise: factors by the name of a `Dropout` [N, C] or `DropPath` [N]; drawn anew where missing.
    outputs: every node's output by name, when a dict is given.
    statistics: the running means and variances after a training pass; the modules keep the old.
    gradients: filled by the backward pass.
    order: in which sums are taken (see `sums`).
    choices: by the name of a ReLU, the elements [N, C, ...] that it lets through (bool); by that of
        a max-pool, the place [N, C, H', W'] in its window, row by row, that it takes. Where there
        is none, the values decide. For comparisons with a network that differs by rounding and may
        decide otherwise, where two values are equal but for rounding.
    output_gradients: the gradient by every node's output, when a dict is given.
    reached: the nodes that a backward pass comes back to (see `reached_of`); None for all.
    """

    training: bool = False
    noise: Mapping[str, Array] = field(default_factory=dict[str, Array])
    outputs: State | None = None
    statistics: State = field(default_factory=dict[str, Array])
    gradients: State = field(default_factory=dict[str, Array])
    order: Order = "natural"
    choices: Mapping[str, Array] = field(default_factory=dict[str, Array])
    output_gradients: State | None = None
    reached: frozenset[str] | None = None
    saved: dict[str, Any] = field(default_factory=dict[str, Any])
    """What a node's backward pass needs of its forward pass, by name; empty in the end."""

    def save(self, name: str, value: Any) -> None:
        """Keep `value` for the backward pass of the node `name`, where there will be one."""
        if self.training and self.reaches(name):
            self.saved[name] = value

    def reaches(self, name: str) -> bool:
        """Return whether the backward pass comes back to the node `name`."""
        return self.reached is None or name in self.reached

    def record(self, name: str, output: Array) -> Array:
        """Return `output`, noted as that of the node `name` where outputs are asked for."""
        if self.outputs is not None:
            self.outputs[name] = output
        return output

    def record_gradient(self, name: str, dy: Array) -> None:
        """Note the gradient by the output of the node `name` where those are asked for."""
        if self.output_gradients is not None:
            self.output_gradients[name] = dy

    def product(self, a: Array, b: Array) -> Array:
        """Return the matrix product, summed in the pass's order."""
        return product(a, b, self.order)

    def total(self, x: Array, axes: tuple[int, ...], keep: bool = False) -> Array:
        """Return the sum over `axes`, taken in the pass's order."""
        return total(x, axes, self.order, keep)

    def mean(self, x: Array, axes: tuple[int, ...], keep: bool = False) -> Array:
        """Return the mean over `axes`, taken in the pass's order."""
        return mean(x, axes, self.order, keep)


def reached_of(plan: Plan) -> frozenset[str]:
    """Return the names of all nodes from the first one with something to train on.

    No gradient is needed of what comes before. A residual or a gate counts as a whole.
    """
    first = next(op for op in plan.ops if any(tensor.trainable for tensor in op.tensors))
    nodes = list(walk(plan.root))  # Children before their container, in order of execution.
    wholes = [node for node in nodes if isinstance(node, ops.Gate | ops.Residual)]
    around = [node for node in wholes if first.name in (part.name for part in walk(node))]
    start = next(walk(around[-1])) if around else first
    names = [node.name for node in nodes]
    return frozenset(names[names.index(start.name) :])


class Module(ABC):
    """A node with one input and one output."""

    @abstractmethod
    def forward(self, x: Array, run: Run) -> Array:
        """Return the output for the input `x`."""

    @abstractmethod
    def backward(self, dy: Array, run: Run) -> Array:
        """Return dx, and put the gradients of the node's tensors into `run`."""


class Leaf(Module):
    """An op, with the arrays of its tensors (zeros at first) as attributes."""

    op: Any

    def __init__(self, op: ops.Op, dtype: DTypeLike) -> None:
        self.op = op
        for tensor in op.tensors:
            setattr(self, tensor.name.rpartition(".")[2], np.zeros(tensor.shape, dtype))
