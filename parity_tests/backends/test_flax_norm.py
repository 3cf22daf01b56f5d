"""Normalisation by a batch's own statistics is the formula's, in every kind of derivative."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flax_networks import assert_close, backend

jax = pytest.importorskip("jax")
jnp = jax.numpy
nnx = pytest.importorskip("flax.nnx")

pytestmark = pytest.mark.xdist_group("flax_networks")
layers: Any = importlib.import_module(f"{backend.__name__}.layers")
Function = Callable[..., Any]

EPSILON = 1e-3
EXACT = 1e-12
"""Of float64; measured: 4e-14, of second derivatives."""


def formula(epsilon: float, x: Any, scale: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Return what Ioffe & Szegedy's algorithm 1 does, for JAX to differentiate."""
    mean = jnp.mean(x, (0, 1, 2))
    var = jnp.mean((x - mean) ** 2, (0, 1, 2))
    return scale * (x - mean) / jnp.sqrt(var + epsilon) + bias, mean, var


def given() -> tuple[Any, ...]:
    """Return images whose features are far from zero and differ in spread, scale and bias."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 6)) * np.geomspace(0.1, 10, 6) + np.linspace(-20, 20, 6)
    return tuple(map(jnp.asarray, (x, rng.uniform(0.5, 2, 6), rng.standard_normal(6))))


def loss_of(normalised: Function) -> Function:
    """Return a function of images, scale and bias in which all three outputs enter, bent."""

    def loss(*given: Any) -> Any:
        return sum(jnp.sin(output).sum() * (i + 1) for i, output in enumerate(normalised(*given)))

    return loss


def derivatives_of(function: Function) -> dict[str, Any]:
    """Return the outputs, and derivatives of each kind by images, scale and bias."""

    def normalised(*given: Any) -> Any:
        return function(EPSILON, *given)

    loss, every = loss_of(normalised), (0, 1, 2)
    along = tuple(map(jnp.cos, given()))

    def squares(*given: Any) -> Any:
        return sum(jnp.square(slope).sum() for slope in jax.grad(loss, every)(*given))

    @jax.jit
    def found(*given: Any) -> dict[str, Any]:
        x, scale, bias = given
        return {
            "outputs": normalised(*given),
            "backwards": jax.grad(loss, every)(*given),
            "by images alone": jax.grad(loss)(*given),
            "by scale alone": jax.grad(loss, 1)(*given),
            "forwards": jax.jvp(loss, given, along)[1],
            "forwards over backwards": jax.jvp(jax.grad(loss, every), given, along)[1],
            "twice backwards": jax.grad(squares, every)(*given),
            "each image": jax.vmap(jax.grad(loss), (0, None, None))(x[:, None], scale, bias),
        }

    return found(*given())


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    for kind, found in expected.items():
        for one, other in zip(jax.tree.leaves(got[kind]), jax.tree.leaves(found), strict=True):
            assert_close(one, other, EXACT, kind)


def test_it_has_every_derivative_of_the_formula() -> None:
    with jax.enable_x64(True):
        assert_same(derivatives_of(layers._normalised), derivatives_of(formula))


@pytest.mark.parametrize("of", ["mean", "var"])
def test_a_derivative_that_forgets_a_statistic_is_found(of: str) -> None:
    def forgetful(epsilon: float, x: Any, scale: Any, bias: Any) -> tuple[Any, Any, Any]:
        _, *moments = formula(epsilon, x, scale, bias)
        still: dict[str, Any] = dict(zip(("mean", "var"), moments, strict=True))
        still[of] = jax.lax.stop_gradient(still[of])
        y = scale * (x - still["mean"]) / jnp.sqrt(still["var"] + epsilon) + bias
        return y, *moments

    with jax.enable_x64(True):
        got, expected = derivatives_of(forgetful), derivatives_of(formula)
        assert_close(got["outputs"][0], expected["outputs"][0], EXACT, "the value is the same")
        with pytest.raises(AssertionError, match="backwards"):
            assert_same(got, expected)


def sums_in(function: Function) -> int:
    """Return how many sums over the map a forward and backward pass have."""

    def loss(*given: Any) -> Any:
        return jnp.sin(function(EPSILON, *given)[0]).sum()

    with jax.enable_x64(True):
        text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*given()).as_text()
    return len(re.findall(r"stablehlo\.reduce\(.*\(tensor<3x4x5x6xf64>", text))


def test_backwards_it_has_two_sums_over_the_map() -> None:
    """And two forwards, of mean and variance; the formula's derivative has more."""
    assert (sums_in(layers._normalised), sums_in(formula) > 4) == (4, True)


@pytest.mark.parametrize("unbiased", [False, True])
def test_running_statistics_take_part_of_the_batches(unbiased: bool) -> None:
    with jax.enable_x64(True):
        x, scale, bias = given()
        norm = layers.BatchNorm(
            6,
            unbiased=unbiased,
            param_dtype=jnp.float64,
            momentum=0.9,
            epsilon=EPSILON,
            use_running_average=False,
            rngs=nnx.Rngs(0),
        )
        norm.scale.set_value(scale)
        norm.bias.set_value(bias)
        y = norm(x)
    images, scale, bias = map(np.asarray, (x, scale, bias))
    mean, var = images.mean((0, 1, 2)), images.var((0, 1, 2))
    assert_close(y, (images - mean) / np.sqrt(var + EPSILON) * scale + bias, EXACT, "output")
    kept = var * 60 / 59 if unbiased else var
    assert_close(norm.mean[...], 0.1 * mean, EXACT, "running mean")
    assert_close(norm.var[...], 0.9 + 0.1 * kept, EXACT, "running variance")


@pytest.mark.parametrize("mode", ["frozen", "evaluation"])
def test_with_running_statistics_nothing_of_the_batch_enters(mode: str) -> None:
    made = {"unbiased": True, "frozen": mode == "frozen", "param_dtype": jnp.float32}
    norm = layers.BatchNorm(6, use_running_average=mode == "evaluation", rngs=nnx.Rngs(0), **made)
    x = given()[0].astype(jnp.float32)
    one, both = norm(x[:1]), norm(x)
    assert np.array_equal(one, both[:1])
    assert not norm.mean[...].any() and (norm.var[...] == 1).all()
