"""Convolutions whose output is one pixel, as the matrix products that they are.

MindSpore's convolution multiplies the padding, too (of 3x3 over 1x1, eight of nine products), and
is slow at such gradients.
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from resnet_spec.ops import Window

_SET = ("conv2d", "kernel_size", "stride", "pad_mode", "padding", "dilation", "group")


class OnePixelConv2d(nn.Conv2d):
    """`nn.Conv2d` whose output is one pixel: a product of what meets in the only window.

    It is `nn.Conv2d` itself for maps of another size and for other types, and once it is set
    otherwise than made. Of very few images it may be slower, for all kernels are picked from.
    """

    is_as_made = False
    bias: Any
    bias_add: Any

    def __init__(self, *sizes: Any, plane: tuple[int, int], window: Window, **more: Any) -> None:
        """As `nn.Conv2d`.

        plane: height and width of the map. window: what meets there, for the given stride, padding
            and dilation.
        """
        super().__init__(*sizes, **more)
        rows, columns = window
        self.plane = plane
        self.pixels, self.taps = (
            # A slice would be copied value by value, and its gradient, too.
            None if matrix is None else Tensor(matrix)
            for matrix in (
                picker(plane, rows.pixels, columns.pixels),
                picker(self.kernel_size, rows.taps, columns.taps),
            )
        )
        self.met = self.in_channels * len(rows.taps) * len(columns.taps)
        self.pick, self.multiply = ops.MatMul(), ops.MatMul(transpose_b=True)
        self.is_as_made = True

    def be_plain(self) -> None:
        """Be `nn.Conv2d` from now on: for files, whose readers know convolutions best."""
        self.is_as_made = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _SET:
            self.is_as_made = False

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        is_meant = x.shape[2:] == self.plane and self.is_as_made
        # A CPU has no products of float16 and bfloat16.
        if not is_meant or x.dtype != ms.float32:
            return super().construct(x)  # pyright: ignore[reportReturnType] (it is declared so)
        pixels, weight = x, self.weight
        if self.pixels is not None:
            pixels = self.pick(x.reshape(-1, self.pixels.shape[0]), self.pixels)
        if self.taps is not None:
            weight = self.pick(weight.reshape(-1, self.taps.shape[0]), self.taps)
        # Of all sizes but the first, which a graph may not know.
        y = self.multiply(pixels.reshape(-1, self.met), weight.reshape(-1, self.met))
        y = y.reshape(-1, self.out_channels, 1, 1)
        return self.bias_add(y, self.bias) if self.has_bias else y


def picker(size: tuple[int, int], rows: range, columns: range) -> NDArray[np.float32] | None:
    """Return the matrix [size, picked] by which [M, size] is multiplied to pick from a plane.

    None where all is picked, in order.
    """
    count = size[0] * size[1]
    found = [row * size[1] + column for row in rows for column in columns]
    if found == list(range(count)):
        return None
    matrix = np.zeros((count, len(found)), np.float32)
    matrix[found, range(len(found))] = 1.0
    return matrix
