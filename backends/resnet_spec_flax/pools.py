"""Max-pooling that is quick on a CPU, where XLA's own goes from window to window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Edges = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right))"""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def max_pool(kernel: int, stride: int, pad: Edges, x: jax.Array) -> jax.Array:
    """Return the maximum over windows of [N, H, W, C], padded with minus infinity.

    As `nnx.max_pool`, to the bit, with every kind of derivative; of equal values the first one in
    a window has the gradient. On other devices than CPUs all of it is XLA's.
    """
    by_taps, by_xla = (partial(how, kernel, stride, pad) for how in (_largest, _flax_s))
    return jax.lax.platform_dependent(x, cpu=by_taps, default=by_xla)


@max_pool.defjvp
def _moved(kernel: int, stride: int, pad: Edges, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return what `max_pool` does, and how that moves with the image."""
    by_places, by_xla = (partial(how, kernel, stride, pad) for how in (_by_places, _by_xla))
    return jax.lax.platform_dependent(*primals, *tangents, cpu=by_places, default=by_xla)


def _by_xla(
    kernel: int, stride: int, pad: Edges, x: jax.Array, dx: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(partial(_flax_s, kernel, stride, pad), (x,), (dx,))


def _flax_s(kernel: int, stride: int, pad: Any, x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (kernel, kernel), (stride, stride), padding=pad)


def _largest(kernel: int, stride: int, pad: Edges, x: jax.Array) -> jax.Array:
    """Return the maximum of each window of `x`, tap by tap in one loop, and no NaN lost."""
    return reduce(_larger, (value for value, _ in _taps(kernel, stride, pad, x)))


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.where(_is_larger(second, first), second, first)


def _is_larger(second: jax.Array, first: jax.Array) -> jax.Array:
    """Return where the maximum is the second, NaN included; XLA's own maximum may lose that."""
    return (second > first) | (second != second)


def _by_places(
    kernel: int, stride: int, pad: Edges, x: jax.Array, dx: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the maximum of each window of `x`, and the value of `dx` in its place."""
    largest, places = _written(partial(_first_largest, kernel, stride, pad), x)
    count, height, width, features = x.shape
    pixels = dx.reshape(count, height * width, features)
    chosen = places.reshape(count, -1, features)
    moved = jnp.take_along_axis(pixels, chosen, axis=1, mode="promise_in_bounds")
    return largest, moved.reshape(largest.shape)


def _first_largest(
    kernel: int, stride: int, pad: Edges, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the maximum of each window, [N, H', W', C], and the number of its pixel in the map.

    Pixels of a window are compared with each other. None is compared with a maximum found
    elsewhere: XLA may compute `x` twice, with other last bits, and no pixel be equal to it.
    """
    (largest, places), *others = _taps(kernel, stride, pad, x)
    places = jnp.broadcast_to(places, largest.shape)
    for value, place in others:
        is_larger = _is_larger(value, largest)
        largest = jnp.where(is_larger, value, largest)
        places = jnp.where(is_larger, place, places)
    return largest, places


def _taps(
    kernel: int, stride: int, pad: Edges, x: jax.Array
) -> Iterator[tuple[jax.Array, np.ndarray]]:
    """Yield what each tap of the kernel meets, [N, H', W', C], and where, [H', W', 1].

    The padding is minus infinity, and has the number of the pixel beside it.
    """
    out = jax.eval_shape(partial(_flax_s, kernel, stride, pad), x).shape[1:3]
    padded = jnp.pad(x, ((0, 0), *pad, (0, 0)), constant_values=-jnp.inf)
    starts = [np.arange(length, dtype=np.int32) * stride for length in out]
    (top, _), (left, _) = pad
    _, height, width, _ = x.shape
    for row, column in product(range(kernel), repeat=2):
        rows, columns = (at + tap for at, tap in zip(starts, (row, column), strict=True))
        value = padded[:, row : rows[-1] + 1 : stride, column : columns[-1] + 1 : stride]
        rows, columns = np.clip(rows - top, 0, height - 1), np.clip(columns - left, 0, width - 1)
        yield value, (rows[:, None] * np.int32(width) + columns)[..., None]


def _written(function: Callable[[jax.Array], Any], x: jax.Array) -> Any:
    """Return `function(x)`, which XLA computes once and writes to memory.

    Otherwise every loop that reads a map may compute it anew. XLA takes barriers out before it
    makes a CPU's loops, but it keeps branches whose condition was behind one, alike as they are,
    and writes what they return. Values do not depend on it, the speed alone does.
    """
    either = jax.lax.optimization_barrier(jnp.bool_(True))
    return jax.lax.cond(either, function, function, x)
