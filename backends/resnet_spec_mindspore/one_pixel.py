"""Convolutions over maps of one pixel, as the matrix products that they are there.

MindSpore's convolution multiplies the padding, too: of 3x3 over 1x1, eight of nine products.
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

_SET = ("conv2d", "kernel_size", "stride", "pad_mode", "padding", "dilation", "group")


class OnePixelConv2d(nn.Conv2d):
    """`nn.Conv2d`, which computes maps of one pixel by the only tap of its kernels that meets it.

    It is `nn.Conv2d` itself for other maps and types, and once it is set otherwise than made.
    """

    is_as_made = False
    bias: Any

    def __init__(self, *sizes: Any, tap: tuple[int, int], **more: Any) -> None:
        """As `nn.Conv2d`. tap: row and column in the kernel, for the given stride and padding."""
        super().__init__(*sizes, **more)
        rows, columns = self.kernel_size
        self.taps = rows * columns
        picked = np.zeros((self.taps, 1), np.float32)
        picked[tap[0] * columns + tap[1]] = 1.0
        # A slice of the kernels would be copied value by value, and its gradient, too.
        self.picked = Tensor(picked)
        self.pick, self.multiply = ops.MatMul(), ops.MatMul(transpose_b=True)
        self.is_as_made = True

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _SET:
            self.is_as_made = False

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        # A CPU has no products of float16 and bfloat16.
        if x.shape[2:] != (1, 1) or x.dtype != ms.float32 or not self.is_as_made:
            return super().construct(x)  # pyright: ignore[reportReturnType] (it is declared so)
        count, features = x.shape[0], self.out_channels
        weight = self.pick(self.weight.reshape(-1, self.taps), self.picked).reshape(features, -1)
        y = self.multiply(x.reshape(count, -1), weight).reshape(count, features, 1, 1)
        return y + self.bias.reshape(1, -1, 1, 1) if self.has_bias else y
