"""Batch normalisation by the samples of all processes.

`nn.SyncBatchNorm` does the same on GPUs alone, and has no biased running variance. The passes over
the maps are torch's own kernels of evaluation mode, with the statistics of the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_spec.plan import Plan


def gathered(own: Tensor) -> Tensor:
    """Return what every process has, [processes, ...], by rank."""
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    return torch.stack(every)


Statistics = tuple[Tensor, Tensor, Tensor]
"""Mean and biased variance, [C], and how many values of each channel they are of, shape ()."""


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes, each of which has a part of it."""

    is_unbiased = True
    """Whether the running variance takes n/(n-1) of the batch's."""
    taken: Statistics | None = None
    """What the last pass in training mode normalised by."""
    given: Statistics | None = None
    """What passes in training mode take instead of the statistics of their batches."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return super().forward(input)
        mean, var, momentum = self.running_mean, self.running_var, self.momentum
        assert mean is not None and var is not None and momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            self.taken = _statistics(input) if self.given is None else self.given
            new_mean, new_var, n = self.taken
            mean.lerp_(new_mean, momentum)
            var.lerp_(new_var * (n / (n - 1)) if self.is_unbiased else new_var, momentum)
        return _Normalise.apply(input, self.weight, self.bias, self.taken, self.eps)


def _statistics(x: Tensor) -> Statistics:
    """Return the statistics of the samples of all processes, by one gather.

    Parts are put together by Chan, Golub & LeVeque (1983): no difference of large numbers. All
    processes add in the order of ranks, and so have the same bits.
    """
    c = x.shape[1]
    wide = x if x.dtype == torch.float64 else x.float()
    n = x.numel() // c
    var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
    own = torch.cat([mean, var * n, mean.new_tensor([n])])
    means, squares, counts = gathered(own).split([c, c, 1], dim=1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    var = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / total
    return mean, var, total


def globalise(network: nn.Module, plan: Plan) -> None:
    """Have the norms of `network` that are to take the statistics of all processes do so.

    The modules stay, with their names, tensors and hooks; how they run is another class.
    """
    for op in plan.batch_norms:
        if op.sync == "global":
            norm = network.get_submodule(op.name)
            is_unbiased = op.variance == "unbiased"
            norm.__class__ = GlobalBatchNorm2d
            vars(norm)["is_unbiased"] = is_unbiased


class _Normalise(torch.autograd.Function):
    """Normalise by given statistics of this and other samples; one sum over processes backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics, eps: float
    ) -> Tensor:
        mean, var, total = statistics
        y = F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, var, total)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, total = ctx.saved_tensors
        none = mean.new_empty(0)
        dx, dw, db = torch.ops.aten.native_batch_norm_backward(
            *(gradients[0], x, weight, mean, var, none, none, False, ctx.eps),
            [True, True, True],
        )
        both = torch.cat([db, dw]).to(mean.dtype)
        dist.all_reduce(both)
        by_y, by_scaled = (both / total).split(len(mean))
        # What is left of dx, w / std * (by_y + x^ by_scaled), is affine in x: a norm of its own.
        scale = weight * (var + ctx.eps).rsqrt()
        dx -= F.batch_norm(x, mean, var, scale * by_scaled, scale * by_y, False, 0.0, ctx.eps)
        return dx, dw, db, None, None
