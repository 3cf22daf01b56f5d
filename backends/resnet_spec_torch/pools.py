"""The pool over a whole map, whose gradient torch gives in an order of memory of its own."""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn


class GlobalPool(nn.Module):
    """The mean over height and width."""

    def __init__(self, keep_dims: bool) -> None:
        super().__init__()
        self.keep_dims = keep_dims

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C], or [N, C, 1, 1] with `keep_dims`."""
        mean = mean_of_map(x)
        return mean[:, :, None, None] if self.keep_dims else mean


def mean_of_map(x: Tensor) -> Tensor:
    """Return the mean [N, C] of [N, C, H, W], whose gradient is in the memory format of `x`.

    That of `x.mean((2, 3))` is contiguous whatever `x` is, and in channels_last the gradients it
    is added to are read in leaps: for squeeze-and-excitation in every block.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).mean((1, 2))
    return x.mean((2, 3))


torch.fx.wrap("mean_of_map")  # For one op: the memory format cannot be traced.
