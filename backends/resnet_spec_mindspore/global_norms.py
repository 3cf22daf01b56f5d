"""Batch normalisation by the samples of all processes.

`nn.SyncBatchNorm` runs on Ascend alone, and has no biased running variance. The gradient of a sum
over the processes is such a sum again, which MindSpore derives by itself.
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from mindspore import Tensor, nn, ops

from resnet_spec.plan import Plan


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes, each of which has a part of it."""

    decay: float
    is_unbiased: bool
    size: int
    total: Any

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return super().construct(x)
        shape = (1, x.shape[1], 1, 1)
        n = x.shape[0] * x.shape[2] * x.shape[3] * self.size
        mean = self.total(x.sum((0, 2, 3))) / n
        centred = x - mean.reshape(shape)
        var = self.total(ops.square(centred).sum((0, 2, 3))) / n
        kept = var * (n / (n - 1)) if self.is_unbiased else var
        self.keep(self.moving_mean, mean)
        self.keep(self.moving_variance, kept)
        factor = ops.rsqrt(var + self.eps) * self.gamma
        return centred * factor.reshape(shape) + self.beta.reshape(shape)

    def keep(self, moving: Any, new: Tensor) -> None:
        """Move a running statistic towards that of the batch."""
        fresh: Any = ops.stop_gradient(new)
        ops.assign(moving, self.decay * moving + (1.0 - self.decay) * fresh)


def globalise(network: nn.Cell, plan: Plan, size: int) -> None:
    """Have the norms of `network` with `sync` of "global" take the statistics of all processes.

    The cells stay, with their names, parameters and hooks; how they run is another class.
    """
    cells: dict[str, Any] = dict(network.cells_and_names())
    for op in plan.batch_norms:
        if op.sync == "global":
            norm = cells[op.name]
            norm.__class__ = GlobalBatchNorm2d
            norm.decay = op.decay
            norm.is_unbiased = op.variance == "unbiased"
            norm.size = size
            norm.total = ops.AllReduce()
