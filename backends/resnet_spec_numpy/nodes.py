"""One op by itself, on inputs that somebody else computed.

What a localiser needs: whether a node did its own work right, whatever it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array, Precision
from resnet_spec.ops import Add, Op
from resnet_spec_numpy.layers import layer_of
from resnet_spec_numpy.passes import Run
from resnet_spec_numpy.sums import Order


class NodeGradients(NamedTuple):
    """inputs: one gradient for each input; tensors: by the canonical names of the trained ones."""

    inputs: tuple[Array, ...]
    tensors: dict[str, Array]


class Node:
    """An op with its tensors.

    op: any op of a plan; an `Add` takes two inputs, the others one.
    state: the arrays of its tensors by canonical name; more do no harm.
    precision, order: of the arithmetic (see `sums`).
    training: batch statistics, and noise.
    noise: the factors of a `Dropout` or `DropPath`.
    choices: see `passes.Run`.
    """

    def __init__(
        self,
        op: Op,
        state: Mapping[str, Array],
        *,
        precision: Precision = "float64",
        order: Order = "natural",
        training: bool = False,
        noise: Mapping[str, Array] | None = None,
        choices: Mapping[str, Array] | None = None,
    ) -> None:
        self.op = op
        self._dtype = np.dtype(precision)
        self._run = Run(training, noise or {}, order=order, choices=choices or {})
        self._layer = None if isinstance(op, Add) else layer_of(op, self._dtype)
        for tensor in op.tensors:
            array = np.asarray(state[tensor.name], self._dtype)
            setattr(self._layer, tensor.name.rpartition(".")[2], array)

    def forward(self, *inputs: Array) -> Array:
        """Return the op's output, [N, C, H, W] or [N, F]."""
        cast = [x.astype(self._dtype, copy=False) for x in inputs]
        with np.errstate(all="ignore"):
            if self._layer is None:
                return cast[0] + cast[1]
            return self._layer.forward(cast[0], self._run)

    @property
    def statistics(self) -> dict[str, Array]:
        """A norm's running mean and variance after a `forward` in training, by canonical name."""
        return self._run.statistics

    def backward(self, dy: Array) -> NodeGradients:
        """Return the gradients by inputs and tensors, after a `forward` in training."""
        dy = dy.astype(self._dtype, copy=False)
        with np.errstate(all="ignore"):
            if self._layer is None:
                return NodeGradients((dy, dy), {})
            dx = self._layer.backward(dy, self._run)
        return NodeGradients((dx,), dict(self._run.gradients))
