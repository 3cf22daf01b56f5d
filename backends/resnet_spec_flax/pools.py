"""Max-pooling whose gradient is quick on a CPU: XLA's own goes from window to window there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Edges = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right))"""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def max_pool(kernel: int, stride: int, pad: Edges, x: jax.Array) -> jax.Array:
    """Return the maximum over windows of [N, H, W, C], padded with minus infinity.

    As `nnx.max_pool`, to the bit, with every kind of derivative; of equal values the first one in
    a window is taken. On other devices than CPUs the derivative is XLA's, too.
    """
    return _flax_s(kernel, stride, pad, x)


@max_pool.defjvp
def _moved(kernel: int, stride: int, pad: Edges, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return what `max_pool` does, and how that moves with the image."""
    (x,), (dx,) = primals, tangents
    y = max_pool(kernel, stride, pad, x)
    by_taps = partial(_picked, kernel, stride, pad)
    by_xla = partial(_by_xla, kernel, stride, pad)
    return y, jax.lax.platform_dependent(x, y, dx, cpu=by_taps, default=by_xla)


def _by_xla(
    kernel: int, stride: int, pad: Edges, x: jax.Array, y: jax.Array, dx: jax.Array
) -> jax.Array:
    return jax.jvp(partial(_flax_s, kernel, stride, pad), (x,), (dx,))[1]


def _flax_s(kernel: int, stride: int, pad: Any, x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (kernel, kernel), (stride, stride), padding=pad)


def _picked(
    kernel: int, stride: int, pad: Edges, x: jax.Array, y: jax.Array, dx: jax.Array
) -> jax.Array:
    """Return of each window that value of `dx` whose place is the first maximum's, tap by tap.

    XLA makes one loop over the map of all taps, backwards, too.
    """
    sizes = kernel, stride, pad, (y.shape[1], y.shape[2])
    is_free, moved = jnp.ones(y.shape, bool), jnp.zeros_like(y)
    for value, slope in zip(_taps(x, -jnp.inf, *sizes), _taps(dx, 0.0, *sizes), strict=True):
        is_first = is_free & ((value == y) | (value != value))  # The second is for NaN.
        moved += jnp.where(is_first, slope, 0.0)
        is_free &= ~is_first
    return moved


def _taps(
    x: jax.Array, beyond: float, kernel: int, stride: int, pad: Edges, out: tuple[int, int]
) -> Iterator[jax.Array]:
    """Yield what each tap of the kernel meets, row by row: [N, H', W', C].

    beyond: what the padding is. Rows and columns are first told apart by what is left of them after
    division by the stride: a tap is then a stretch of pixels side by side, and so it is backwards.
    """
    count, *size, features = x.shape
    lines = [(kernel - 1) // stride + length for length in out]
    lines = [max(n, -(-(s + sum(p)) // stride)) for n, s, p in zip(lines, size, pad, strict=True)]
    ends = [(p[0], n * stride - s - p[0]) for n, s, p in zip(lines, size, pad, strict=True)]
    rows, columns = lines
    padded = jnp.pad(x, ((0, 0), *ends, (0, 0)), constant_values=beyond)
    apart = padded.reshape(count, rows, stride, columns, stride, features)
    ones, shape = (1,) * stride, (count, rows, columns, features)
    phases = [
        [phase.reshape(shape) for phase in jax.lax.split(row, ones, 4)]
        for row in jax.lax.split(apart, ones, 2)
    ]
    for row, column in product(range(kernel), repeat=2):
        top, left = row // stride, column // stride
        phase = phases[row % stride][column % stride]
        yield phase[:, top : top + out[0], left : left + out[1]]
