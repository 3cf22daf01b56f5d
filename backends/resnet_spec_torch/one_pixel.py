"""Convolutions over maps of one pixel, as the matrix products that they are there.

torch's convolution multiplies the padding, too: of 3x3 over 1x1, eight of nine products.
"""

from __future__ import annotations

from typing import Any

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn


class OnePixelConv2d(nn.Conv2d):
    """`nn.Conv2d`, which computes maps of one pixel by the only tap of its kernels that meets it.

    It is `nn.Conv2d` itself for other maps, and once it is set otherwise than it was made.
    """

    def __init__(self, *sizes: Any, tap: tuple[int, int], **more: Any) -> None:
        """As `nn.Conv2d`. tap: row and column in the kernel, for the given stride and padding."""
        super().__init__(*sizes, **more)
        self.tap = tap
        self._made = self._set_to()

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        if self._set_to() != self._made:
            return super().forward(input)
        sizes: Any = self.stride, self.padding, self.dilation
        return convolved(input, self.weight, self.bias, self.tap, *sizes)

    def _set_to(self) -> tuple[Any, ...]:
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation)
        return (*sizes, self.groups, self.padding_mode)


def convolved(
    input: Tensor, weight: Tensor, bias: Tensor | None, tap: tuple[int, int], *sizes: Any
) -> Tensor:
    """Return the convolution, by one `tap` where the maps are of one pixel.

    sizes: stride, padding and dilation. It is a function for `torch.fx`, which cannot trace what
    depends on a shape, and takes this for an op.
    """
    if input.shape[2:] != (1, 1):
        return F.conv2d(input, weight, bias, *sizes)
    row, column = tap
    return F.linear(input.flatten(1), weight[:, :, row, column], bias)[:, :, None, None]


torch.fx.wrap("convolved")
