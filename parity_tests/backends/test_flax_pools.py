"""Max-pooling of the Flax backend against XLA's own, value by value and slope by slope."""

from __future__ import annotations

import importlib
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp: Any = importlib.import_module("jax.numpy")
nnx: Any = importlib.import_module("flax.nnx")
pools: Any = importlib.import_module("resnet_spec_flax.pools")
pytestmark = pytest.mark.xdist_group("flax_pools")

CASES = {
    "the stem's": (3, 2, ((1, 1), (1, 1)), (8, 8)),
    "SAME, even": (3, 2, ((0, 1), (0, 1)), (8, 8)),
    "SAME, odd": (3, 2, ((1, 1), (1, 1)), (7, 9)),
    "one row alone padded": (3, 2, ((1, 0), (0, 0)), (6, 5)),
    "side by side": (2, 2, ((0, 0), (0, 0)), (6, 4)),
    "overlapping": (3, 1, ((1, 1), (1, 1)), (5, 6)),
    "with gaps": (2, 3, ((0, 0), (0, 0)), (8, 9)),
    "larger than its map": (5, 2, ((2, 2), (2, 2)), (2, 3)),
    "a pixel": (3, 2, ((1, 1), (1, 1)), (1, 1)),
    "of many pixels": (13, 5, ((6, 6), (6, 6)), (30, 29)),
    "what is left over": (2, 2, ((0, 0), (0, 0)), (5, 7)),
}
USUAL = ("the stem's", "SAME, odd", "overlapping", "with gaps", "larger than its map")


def plain(kernel: int, stride: int, pad: Any, x: Any) -> Any:
    return nnx.max_pool(x, (kernel, kernel), (stride, stride), padding=pad)


def images(size: tuple[int, int], many_equal: bool = True) -> Any:
    """Return [3, H, W, 4] in float32; where many are equal, most windows have several maxima."""
    drawn = np.random.default_rng(0).normal(size=(3, *size, 4))
    values = np.maximum(np.round(drawn), 0.0) if many_equal else drawn
    return jnp.asarray(values.astype(np.float32))


def slopes(pool: Any) -> Any:
    """Return a function of x that gives the output, its derivative along random images, the same
    product of both by it and by a random gradient's, for both are one linear function, and that.
    """

    def found(x: Any) -> tuple[Any, Any, Any]:
        draw = np.random.default_rng(1)
        along = jnp.asarray(draw.normal(size=x.shape).astype(np.float32))
        y, moved = jax.jvp(pool, (x,), (along,))
        back = jnp.asarray(draw.normal(size=y.shape).astype(np.float32))
        (gradient,) = jax.vjp(pool, x)[1](back)
        return y, (moved, jnp.vdot(moved, back), jnp.vdot(along, gradient)), gradient

    return jax.jit(found)


@cache
def both(case: str) -> tuple[Any, Any]:
    """Return `slopes` of the backend's and of XLA's own."""
    *fixed, _ = CASES[case]
    return slopes(partial(pools.max_pool, *fixed)), slopes(partial(plain, *fixed))


@pytest.mark.parametrize("many_equal", [True, False], ids=["equal", "distinct"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in USUAL else pytest.mark.thorough) for c in CASES]
)
def test_it_is_xla_s(case: str, many_equal: bool) -> None:
    x = images(CASES[case][-1], many_equal)
    (y, (moved, *products), back), expected = (found(x) for found in both(case))
    assert np.array_equal(y, expected[0])
    assert products[0] == pytest.approx(products[1], rel=1e-5, abs=1e-5)
    if not many_equal:  # Of equal values XLA's own takes others forwards than backwards.
        assert np.array_equal(moved, expected[1][0])
    # An element that several windows chose has their gradients added, in another order.
    assert np.allclose(back, expected[2], rtol=1e-6, atol=1e-6)
    assert np.count_nonzero(back) == np.count_nonzero(expected[2])


def test_of_equal_values_the_first_is_taken() -> None:
    x = jnp.ones((1, 4, 4, 1), jnp.float32)
    pool = partial(pools.max_pool, 2, 2, ((0, 0), (0, 0)))
    found = jax.grad(lambda x: pool(x).sum())(x)[0, :, :, 0]
    assert np.array_equal(found, np.kron(np.ones((2, 2)), [[1, 0], [0, 0]]))


def test_a_value_that_is_no_number_has_the_gradient() -> None:
    x = images((4, 4), many_equal=False).at[0, 1, 1, 0].set(jnp.nan)
    pool = partial(pools.max_pool, 2, 2, ((0, 0), (0, 0)))
    found = jax.grad(lambda x: pool(x)[0, 0, 0, 0])(x)
    assert np.isnan(pool(x)[0, 0, 0, 0]) and found[0, 1, 1, 0] == 1.0
    assert np.count_nonzero(found) == 1


def test_other_kinds_of_derivative_are_there() -> None:
    *fixed, size = CASES["the stem's"]
    x = images(size, many_equal=False)
    pool, own = partial(pools.max_pool, *fixed), partial(plain, *fixed)

    def bent(pool: Any, x: Any) -> Any:
        return jnp.square(pool(x)).sum()

    twice = jax.grad(lambda x: (jax.grad(partial(bent, pool))(x) * x).sum())(x)
    expected = jax.grad(lambda x: (jax.grad(partial(bent, own))(x) * x).sum())(x)
    assert np.allclose(twice, expected, rtol=1e-5) and np.abs(expected).max() > 1.0
    each = jax.vmap(jax.grad(lambda x: bent(pool, x[None])))(x)
    assert np.allclose(each, jax.grad(partial(bent, pool))(x), rtol=1e-6)


def test_samples_of_one_replica_have_it() -> None:
    """Within `shard_map` both sides of a branch are arrays of one replica, or JAX refuses them."""
    *fixed, size = CASES["the stem's"]
    x = images(size)
    gradient = jax.grad(lambda x: jnp.square(pools.max_pool(*fixed, x)).sum())
    samples = jax.sharding.PartitionSpec("replica")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("replica",))
    run = jax.shard_map(gradient, mesh=mesh, in_specs=samples, out_specs=samples)
    assert np.array_equal(jax.jit(run)(x), jax.jit(gradient)(x))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_other_devices_have_xla_s_gradient(platform: str) -> None:
    *fixed, size = CASES["the stem's"]
    gradient = jax.jit(jax.grad(lambda x: pools.max_pool(*fixed, x).sum()))
    text = gradient.trace(images(size)).lower(lowering_platforms=(platform,)).as_text()
    assert ("select_and_scatter" in text) == (platform != "cpu")


def test_within_a_network_it_is_xla_s() -> None:
    """XLA may compute the map once for the maxima and again for what compares with them."""
    *fixed, _ = CASES["the stem's"]
    draw = np.random.default_rng(2)
    shapes = (2, 56, 56, 64), (64,), (64,)
    x, scale, bias = (jnp.asarray(draw.normal(size=s).astype(np.float32)) for s in shapes)

    def loss(pool: Any, x: Any, scale: Any, bias: Any) -> Any:
        apart = x - x.mean((0, 1, 2))
        inverse = jax.lax.rsqrt(jnp.square(apart).mean((0, 1, 2)) + 1e-5)
        return jnp.square(pool(nnx.relu(apart * (inverse * scale) + bias))).sum()

    ours, own = (
        jax.jit(jax.grad(partial(loss, partial(pool, *fixed)), (0, 1, 2)))(x, scale, bias)
        for pool in (pools.max_pool, plain)
    )
    for found, expected in zip(ours, own, strict=True):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_window_of_minus_infinity_keeps_its_gradient() -> None:
    *fixed, size = CASES["the stem's"]
    x = images(size).at[:, :3, :3].set(-jnp.inf)
    found = jax.grad(lambda x: pools.max_pool(*fixed, x)[:, 0, 0].sum())(x)
    assert np.count_nonzero(found) == found[:, 0, 0].size and (found[:, 0, 0] == 1.0).all()


def test_a_gradient_of_the_last_maximum_is_seen() -> None:
    *fixed, size = CASES["the stem's"]
    taps = pools._taps

    def backwards(*given: Any) -> Any:
        return reversed(list(taps(*given)))

    with patch.object(pools, "_taps", backwards):
        found = slopes(partial(pools.max_pool, *fixed))(images(size))
    assert not np.allclose(found[2], both("the stem's")[1](images(size))[2])
