"""Convolutions that are matrix products, computed as such where torch's own is slower.

Each is `nn.Conv2d` in all other hands: by its weights, its settings, and its name for exporters.
What is computed is a function that `torch.fx` takes for one op, for it depends on a tensor's shape
or memory format, which cannot be traced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_spec import ops

_PIXELS, _FEATURES = 1024, 64
"""Maps of no more pixels, of no fewer features before and after, gain by `PointwiseConv2d`."""

_Sliced = tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]
"""Size of the map; its rows and columns that are met, and those of the kernel that meet them."""


def product_of(op: ops.Conv) -> Callable[..., ProductConv2d] | None:
    """Return what makes the layer that computes `op` as a product, given what `nn.Conv2d` is.

    None where `nn.Conv2d` is no slower; `scripts/products.py` measures both. The pads are even.
    """
    if op.only_window:
        _, height, width = op.in_shape
        return partial(OnePixelConv2d, plane=(height, width), window=op.only_window)
    features, height, width = op.out_shape
    is_pointwise = op.kernel == (1, 1) and op.groups == 1 and not any(op.pad)
    is_small = height * width <= _PIXELS and min(features, op.in_shape[0]) >= _FEATURES
    return PointwiseConv2d if is_pointwise and is_small else None


class ProductConv2d(nn.Conv2d):
    """`nn.Conv2d`, which is itself once it is set otherwise than it was made."""

    def __init__(self, *sizes: Any, **more: Any) -> None:
        """As `nn.Conv2d`."""
        super().__init__(*sizes, **more)
        self._made = self._set_to()

    def may_be_product(self) -> bool:
        """Return whether its settings are those it was made with, and nobody traces it.

        What is traced keeps the choice that its example's shape and memory format call for.
        """
        is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage] (public)
        return self._set_to() == self._made and not is_traced

    def be_plain(self) -> None:
        """Be `nn.Conv2d` from now on: for files, whose readers know convolutions best."""
        self._made = ()

    def _set_to(self) -> tuple[Any, ...]:
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation)
        return (*sizes, self.groups, self.padding_mode)


class OnePixelConv2d(ProductConv2d):
    """`nn.Conv2d` whose output is one pixel: a product of what meets in the only window.

    torch's multiplies the padding, too (of 3x3 over 1x1, eight of nine products), and is slow at
    such gradients. For maps of other sizes it is `nn.Conv2d` itself.
    """

    def __init__(
        self, *sizes: Any, plane: tuple[int, int], window: ops.Window, **more: Any
    ) -> None:
        """As `nn.Conv2d`.

        plane: height and width of the map. window: what meets there, for the given stride, padding
            and dilation.
        """
        super().__init__(*sizes, **more)
        rows, columns = window
        pixels = _slice(rows.pixels), _slice(columns.pixels)
        self.window: _Sliced = plane, pixels, (_slice(rows.taps), _slice(columns.taps))

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        if not self.may_be_product():
            return super().forward(input)
        sizes: Any = self.stride, self.padding, self.dilation
        return in_one_window(input, self.weight, self.bias, self.window, *sizes)


class PointwiseConv2d(ProductConv2d):
    """`nn.Conv2d` of 1x1: on a CPU and in channels_last a product of pixels and kernel.

    oneDNN's convolution is slower at small maps, at the gradients most, and more so with a stride.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        if not self.may_be_product():
            return super().forward(input)
        return by_pixels(input, self.weight, self.bias, self.stride)


def _slice(of: range) -> slice:
    return slice(of.start, of.stop, of.step)


def in_one_window(
    input: Tensor, weight: Tensor, bias: Tensor | None, window: _Sliced, *sizes: Any
) -> Tensor:
    """Return the convolution; a product where the map has the size of `window`.

    sizes: stride, padding and dilation.
    """
    size, pixels, taps = window
    if input.shape[2:] != size:
        return F.conv2d(input, weight, bias, *sizes)
    if weight.is_contiguous(memory_format=torch.channels_last):
        met, kernel = _pixels(input)[:, *pixels], _pixels(weight)[:, *taps]
    else:
        met, kernel = input[:, :, *pixels], weight[:, :, *taps]
    return F.linear(met.flatten(1), kernel.flatten(1), bias)[:, :, None, None]


def by_pixels(input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any) -> Tensor:
    """Return the 1x1 convolution, a product where pixels lie one after the other on a CPU."""
    is_of_pixels = input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last)
    if not (is_of_pixels and input.device.type == "cpu"):
        return F.conv2d(input, weight, bias, stride)
    (down, across), met = stride, _pixels(input)
    if (down, across) != (1, 1):
        met = met[:, ::down, ::across]
    return F.linear(met, weight.flatten(1), bias).permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    """Return [N, C, H, W] in channels_last as [N, H, W, C], in the order of memory.

    A slice is taken of this: its gradient is in the order of what is sliced, and one in another
    order makes whatever meets it on its way back leap through memory.
    """
    return x.permute(0, 2, 3, 1)


torch.fx.wrap("in_one_window")
torch.fx.wrap("by_pixels")
