"""Sums and products in three orders, all of them legitimate: they differ by rounding only.

What a float32 network computes depends on the order in which its sums are taken, and no order is
the right one. How far one network lands from float64 in several orders says how large rounding is
at each of its nodes; what a framework does must be of that size (Higham 2002, sections 4.2, 4.3).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from resnet_spec.contract import Array

Order = Literal["natural", "reversed", "sequential"]
"""As NumPy and its BLAS take them (pairwise, in blocks); from the end; one term after another."""

ORDERS: tuple[Order, ...] = ("natural", "reversed", "sequential")

_PARTS = 32
"""Products one after another: a term each would take as many passes over the result."""


def product(a: Array, b: Array, order: Order = "natural") -> Array:
    """Return the matrix product [..., M, N] of `a` [..., M, K] and `b` [..., K, N]."""
    if order == "natural":
        return a @ b
    if order == "reversed":
        return np.ascontiguousarray(a[..., ::-1]) @ np.ascontiguousarray(b[..., ::-1, :])
    length = a.shape[-1]
    size = max(1, -(-length // _PARTS))
    out = a[..., :size] @ b[..., :size, :]
    for start in range(size, length, size):
        part = slice(start, start + size)
        out += a[..., part] @ b[..., part, :]
    return out


def total(x: Array, axes: tuple[int, ...], order: Order = "natural", keep: bool = False) -> Array:
    """Return the sum of `x` over `axes`, which stay with length one where `keep`."""
    if order == "natural":
        return x.sum(axes, keepdims=keep)
    if order == "reversed":
        return np.ascontiguousarray(np.flip(x, axes)).sum(axes, keepdims=keep)
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    shape = tuple(x.shape[axis] for axis in kept)
    # Along the first axis of contiguous memory NumPy adds one row after another.
    rows = np.ascontiguousarray(x.transpose(*axes, *kept)).reshape(-1, *shape)
    summed = np.add.reduce(rows, axis=0)
    return np.expand_dims(summed, axes) if keep else summed


def mean(x: Array, axes: tuple[int, ...], order: Order = "natural", keep: bool = False) -> Array:
    """Return the mean of `x` over `axes`."""
    if order == "natural":
        return x.mean(axes, keepdims=keep)
    count = int(np.prod([x.shape[axis] for axis in axes]))
    return total(x, axes, order, keep) / x.dtype.type(count)
