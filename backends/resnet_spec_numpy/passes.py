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
from resnet_spec.plan import tensors_of


@dataclass
class Run:
    """One pass through a network: what the modules are told, and what they leave behind.

    training: batch statistics instead of running ones, and noise; needed for a backward pass.
    noise: factors by the name of a `Dropout` [N, C] or `DropPath` [N]; drawn anew where missing.
    outputs: every node's output by name, when a dict is given.
    statistics: the running means and variances after a training pass; the modules keep the old.
    gradients: filled by the backward pass.
    """

    training: bool = False
    noise: Mapping[str, Array] = field(default_factory=dict[str, Array])
    outputs: State | None = None
    statistics: State = field(default_factory=dict[str, Array])
    gradients: State = field(default_factory=dict[str, Array])
    saved: dict[str, Any] = field(default_factory=dict[str, Any])
    """What a node's backward pass needs of its forward pass, by name; empty in the end."""

    def save(self, name: str, value: Any) -> None:
        """Keep `value` for the backward pass of the node `name`, where there will be one."""
        if self.training:
            self.saved[name] = value

    def record(self, name: str, output: Array) -> Array:
        """Return `output`, noted as that of the node `name` where outputs are asked for."""
        if self.outputs is not None:
            self.outputs[name] = output
        return output


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
        for tensor in tensors_of(op):
            setattr(self, tensor.name.rpartition(".")[2], np.zeros(tensor.shape, dtype))
