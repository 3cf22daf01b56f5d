"""Convolutions as matrix products, where XLA's own are slow on a CPU: `nnx.Conv` is given them.

Each is called as `jax.lax.conv_general_dilated` is by `nnx.Conv`, NHWC and HWIO, and computes the
same; what a layer may be set to afterwards, and is not written for here, XLA's own computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from resnet_spec import ops

_PIXELS, _FEATURES = 256, 64
"""Maps that are no smaller and have no fewer features gain by `convolution`; see there."""


def convolution_of(op: ops.Conv) -> Callable[..., jax.Array]:
    """Return the function that computes `op` fastest; measured in training on x86-64 CPUs.

    1x1 convolutions as products: ResNet-50 at 224 pixels 1.4 times as fast as with XLA's
    convolution. Kernels larger than their map (the last stage at 64 pixels and below): XLA swaps
    image and kernel, and 3x3 over 2x2x512 takes 190 ms instead of 4; ResNet-50 at 64 pixels
    then becomes 2.9 times as fast. On accelerators a 1x1 convolution is the same product.
    """
    features, height, width = op.out_shape
    if op.groups != 1:
        return jax.lax.conv_general_dilated
    if op.kernel == (1, 1) or op.kernel[0] > height or op.kernel[1] > width:
        return product
    if op.stride == 1 and height * width >= _PIXELS and features >= _FEATURES:
        return convolution
    return jax.lax.conv_general_dilated


def product(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """A convolution as one matrix product.

    x: [N, H, W, I]; kernel: [KH, KW, I, O]. The patches take KH * KW times the memory of x; taps
    that meet nothing but padding are left out.
    """
    if not _is_covered(padding, options):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    sizes = x.shape[1:3], kernel.shape[:2], strides, options["rhs_dilation"], padding
    rows, columns = (_met(*side) for side in zip(*sizes, strict=True))
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    patches = [x[:, row, column] for row in rows.values() for column in columns.values()]
    matrix = kernel[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1]
    beside, matrix = jnp.concatenate(patches, -1), matrix.reshape(-1, kernel.shape[-1])
    precision, spread = options.get("precision"), options.get("out_sharding")
    if spread is not None:
        given = {"precision": precision, "out_sharding": spread}
        return jnp.einsum("nhwk,ko->nhwo", beside, matrix, **given)
    # Images and pixels are one dimension: XLA lays a gradient out anew for a product of more.
    pixels = beside.reshape(-1, len(matrix))
    return jnp.dot(pixels, matrix, precision=precision).reshape(*beside.shape[:-1], matrix.shape[1])


def _met(
    size: int, taps: int, stride: int, dilation: int, pad: tuple[int, int]
) -> dict[int, slice]:
    """Return which pixels of a padded side each tap meets, of those that meet more than padding.

    They are neighbours: all, but where a kernel is larger than its map.
    """
    before, padded = pad[0], size + sum(pad)
    ranges = {
        tap: range(tap * dilation, padded - (taps - 1 - tap) * dilation, stride)
        for tap in range(taps)
    }
    met = [tap for tap, at in ranges.items() if any(0 <= i - before < size for i in at)]
    kept = range(met[0], met[-1] + 1) if met else range(taps)
    return {tap: slice(ranges[tap].start, ranges[tap].stop, stride) for tap in kept}


def convolution(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """XLA's convolution, whose gradient by the kernel is one matrix product on a CPU.

    XLA makes that gradient a convolution by a kernel as large as the map, which is slow for large
    maps of many features, and no slower than this for others.

    x: [N, H, W, I]; kernel: [KH, KW, I, O]. The products' operands take KH and KW times the memory
    of x and of the output. JAX is told of what the derivative is the sum, so that every kind of
    derivative is there, and forms the transpose itself.
    """
    plain = partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    is_spread = options.get("out_sharding") is not None
    if tuple(strides) != (1, 1) or is_spread or not _is_covered(padding, options):
        return plain(x, kernel)
    # Without `checkpoint` the forward pass would make the products' operand, and keep it.
    by_shifts = jax.checkpoint(partial(_by_shifts, padding, options))

    @jax.custom_jvp
    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return plain(x, kernel)

    def moved(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        (x, kernel), (dx, dkernel) = primals, tangents
        parts: list[jax.Array] = []
        if not isinstance(dx, SymbolicZero):
            parts.append(convolved(dx, kernel))
        if not isinstance(dkernel, SymbolicZero):
            parts.append(jax.lax.platform_dependent(x, dkernel, cpu=by_shifts, default=plain))
        return convolved(x, kernel), sum(parts[1:], start=parts[0])

    convolved.defjvp(moved, symbolic_zeros=True)
    return convolved(x, kernel)


def _is_covered(padding: Any, options: Mapping[str, Any]) -> bool:
    """Return whether the pads are numbers, and images neither dilated nor in groups."""
    is_dilated = any(factor != 1 for factor in options.get("lhs_dilation") or ())
    groups = options.get("feature_group_count", 1) * options.get("batch_group_count", 1)
    return not (isinstance(padding, str) or is_dilated or groups != 1)


def _by_shifts(
    padding: Sequence[tuple[int, int]],
    options: Mapping[str, Any],
    x: jax.Array,
    kernel: jax.Array,
) -> jax.Array:
    """Return the convolution of stride 1 as one product of all rows and columns of the kernel.

    Each image is read as a line, row after row, along which a tap is a shift: those of columns are
    laid beside one another before the product, and those of rows are added up after it. What
    reaches over the end of a row is cut off.
    """
    (rows, columns, _, features), (down, across) = kernel.shape, options["rhs_dilation"]
    (top, bottom), sides = padding
    x = jnp.pad(x, ((0, 0), (top, bottom + 1), sides, (0, 0)))  # A row more, to shift into.
    count, height, width, channels = x.shape
    out_height, out_width = height - 1 - (rows - 1) * down, width - (columns - 1) * across
    line, length = x.reshape(count, height * width, channels), (height - 1) * width
    beside = jnp.concatenate([line[:, i * across :][:, :length] for i in range(columns)], 2)
    # Images and pixels are one dimension: XLA's product of more copies its operands.
    flat = beside.reshape(count * length, columns * channels)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(columns * channels, rows * features)
    products = jnp.dot(flat, matrix, precision=options.get("precision"))
    parts = jax.lax.split(products.reshape(count, length, -1), (features,) * rows, 2)
    ends = [part[:, i * down * width :][:, : out_height * width] for i, part in enumerate(parts)]
    total = sum(ends[1:], start=ends[0])
    return total.reshape(count, out_height, width, features)[:, :, :out_width]
