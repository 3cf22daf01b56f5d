"""The cells that bring gradients and statistics of several processes together."""

# MindSpore's cells are untyped: `construct` takes anything and what a cell returns is not known.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)


def _cut(flat: Tensor, start: int, like: Tensor) -> Any:
    return ops.slice(flat, (start,), (like.size,)).reshape(like.shape)


class Mean(nn.Cell):
    """The means of tensors over the processes, in one message of a fixed layout."""

    def __init__(self, shapes: Sequence[Sequence[int]], size: int) -> None:
        super().__init__()
        self.starts = tuple(accumulate(map(prod, shapes), initial=0))[:-1]
        self.size = float(size)
        self.total: Any = ops.AllReduce()
        # ops.split checks lengths in a loop, whose turns nest: 160 tensors are too many for it.
        self.map = ops.HyperMap()

    def construct(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Float32 tensors of `shapes` to as many of the same shapes."""
        mean = self.total(ops.concat(self.map(_flat, tensors))) / self.size
        return self.map(ops.partial(_cut, mean), self.starts, tensors)


class UpdateByMeans(nn.Cell):
    """An `Update` by the mean gradients of the processes.

    statistics: those that each process has of its own samples, and that become the means.
    """

    def __init__(
        self,
        update: nn.Cell,
        weights: Sequence[Parameter],
        statistics: Sequence[Parameter],
        size: int,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.update: Any = update
        self.count = len(weights)
        self.has_statistics = len(statistics) > 0
        # A map wants something in the place of statistics where there are none.
        self.statistics = ParameterTuple(statistics or weights)
        self.mean: Any = Mean([tensor.shape for tensor in (*weights, *statistics)], size)
        self.map = ops.HyperMap()

    def construct(self, rate: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Apply the gradients (sums over the parts) at `rate`, shape (); return what was moved."""
        if not self.has_statistics:
            return self.update(rate, *self.mean(*gradients))
        means = self.mean(*gradients, *self.statistics)
        done = self.update(rate, *means[: self.count])
        return done + self.map(ops.assign, self.statistics, means[self.count :])
