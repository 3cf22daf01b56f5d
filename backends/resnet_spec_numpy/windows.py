"""Sliding windows over images, and convolution as one matrix product over them.

Pure functions of arrays; nothing here knows of modules. Images are [N, C, H, W]. Results of a
convolution lie in memory as C, N, H, W: a 1x1 convolution of them then needs no copy at all, and
statistics per channel run over contiguous memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from resnet_spec.contract import Array
from resnet_spec.ops import Pad
from resnet_spec_numpy.sums import Order, product


@dataclass(frozen=True, slots=True)
class Window:
    """The pixels that each output pixel sees: (kh, kw) of them, `dilation` pixels apart."""

    kernel: tuple[int, int]
    stride: int
    pad: Pad
    dilation: int = 1

    def view(self, images: Array, fill: float = 0.0) -> Array:
        """Return [N, C, kh, kw, H', W']: what each output pixel sees, `fill` in the padding.

        A view where there is no padding; not to be written to.
        """
        top, bottom, left, right = self.pad
        if any(self.pad):
            edges = ((0, 0), (0, 0), (top, bottom), (left, right))
            images = np.pad(images, edges, constant_values=fill)
        reach = tuple(self.dilation * (k - 1) + 1 for k in self.kernel)
        every, apart = slice(None, None, self.stride), slice(None, None, self.dilation)
        windows = sliding_window_view(images, reach, axis=(2, 3))
        return windows[:, :, every, every, apart, apart].transpose(0, 1, 4, 5, 2, 3)

    def scatter(self, parts: Array, size: tuple[int, int]) -> Array:
        """Return [N, C, H, W] with size (H, W): the sum of `parts` where `view` read them.

        parts: [N, C, kh, kw, H', W']. The transpose of `view`, thus its backward pass.
        """
        n, c, rows, columns, out_height, out_width = parts.shape
        if (rows, columns, self.stride, *self.pad) == (1, 1, 1, 0, 0, 0, 0):
            return parts[:, :, 0, 0]
        (height, width), (top, bottom, left, right) = size, self.pad
        padded = (top + height + bottom, left + width + right)
        total = np.zeros((c, n, *padded), parts.dtype).swapaxes(0, 1)
        for i, j in np.ndindex(rows, columns):
            y, x = i * self.dilation, j * self.dilation
            down = slice(y, y + self.stride * out_height, self.stride)
            along = slice(x, x + self.stride * out_width, self.stride)
            total[:, :, down, along] += parts[:, :, i, j]
        return total[:, :, top : top + height, left : left + width]


def convolve(
    images: Array, weight: Array, window: Window, groups: int, order: Order = "natural"
) -> Array:
    """Return the cross-correlation [N, O, H', W'] of `images` with `weight` [O, C/groups, kh, kw].

    For every group: [O/groups, C/groups kh kw] times [C/groups kh kw, N H' W'].
    """
    windows = window.view(images)
    n, out_size = len(images), windows.shape[4:]
    rows = product(_rows(weight, groups), _columns(windows, groups), order)
    return rows.reshape(len(weight), n, *out_size).swapaxes(0, 1)


def convolve_backward(
    dy: Array,
    images: Array,
    weight: Array,
    window: Window,
    groups: int,
    order: Order = "natural",
) -> tuple[Array, Array]:
    """Return the gradients of `images` and `weight` from `dy`, that of the output of `convolve`."""
    windows = window.view(images)
    out_channels = dy.swapaxes(0, 1).reshape(groups, len(weight) // groups, -1)
    dweight = product(out_channels, _columns(windows, groups).swapaxes(1, 2), order)
    dcolumns = product(_rows(weight, groups).swapaxes(1, 2), out_channels, order)
    n, c, rows, columns, out_height, out_width = windows.shape
    parts = dcolumns.reshape(c, rows, columns, n, out_height, out_width)
    dimages = window.scatter(parts.transpose(3, 0, 1, 2, 4, 5), images.shape[2:])
    return dimages, dweight.reshape(weight.shape)


def _rows(weight: Array, groups: int) -> Array:
    return weight.reshape(groups, len(weight) // groups, -1)


def _columns(windows: Array, groups: int) -> Array:
    """Return [groups, C/groups kh kw, N H' W']; a view for a 1x1 window of stride 1."""
    n, c, rows, columns, out_height, out_width = windows.shape
    shape = (groups, c // groups * rows * columns, n * out_height * out_width)
    return windows.transpose(1, 2, 3, 0, 4, 5).reshape(shape)
