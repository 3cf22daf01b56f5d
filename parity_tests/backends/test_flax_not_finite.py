"""What is not a number within a network of Flax is none in what comes out of it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import worn_state
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

jax = pytest.importorskip("jax")
jnp: Any = importlib.import_module("jax.numpy")
nnx: Any = importlib.import_module("flax.nnx")
layers: Any = importlib.import_module("resnet_spec_flax.layers")
pools: Any = importlib.import_module("resnet_spec_flax.pools")
pytestmark = pytest.mark.xdist_group("flax_networks")

NETWORKS = ("imagenet_stem", "bottleneck", "same_padding", "one_pixel", "pre_activation_bottleneck")


def session_of(plan: Plan) -> Any:
    session = load_backend("flax").Session(plan, Recipe(steps=1, batch=4), device="cpu")
    session.load(worn_state(plan, 0))
    return session


def batch_of(plan: Plan, n: int, value: float) -> Batch:
    """Return images of which the last has a pixel of `value`."""
    shape = (n, plan.input.height, plan.input.width, plan.input.channels)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    images[-1, shape[1] // 2, shape[2] // 2, 0] = value
    return Batch(images, np.zeros(n, np.int64), np.arange(n))


def is_nan(logits: Array) -> list[bool]:
    return [bool(np.isnan(row).all()) for row in logits]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_with_nan_has_no_logits(name: str, n: int) -> None:
    plan = CASES[name].plan
    (logits,) = session_of(plan).predict([batch_of(plan, n, np.nan)])
    assert is_nan(logits) == [*[False] * (n - 1), True]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_overflow_in_the_last_block_is_not_hidden(name: str) -> None:
    """NaN in the statistics of its norm, from which its ReLU would make 0."""
    plan = CASES[name].plan
    session = session_of(plan)
    state = session.state()
    means = [n for n in state if n.endswith("running_mean") and not n.startswith("average")]
    state[means[-1]] = np.full_like(state[means[-1]], np.nan)
    session.load(state)
    (logits,) = session.predict([batch_of(plan, 2, 0.5)])
    assert is_nan(logits) == [True, True]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_from_nan_has_a_loss_of_nan(name: str) -> None:
    plan = CASES[name].plan
    log = session_of(plan).train([batch_of(plan, 4, np.nan)], np.array([0.1]))
    assert np.isnan(log.loss).all()


def test_a_relu_before_a_mean_keeps_nan() -> None:
    """Flax's own does not with JAX 0.10, on a CPU with AVX-512."""
    x = jnp.full((2, 7, 7, 64), jnp.nan)
    assert jnp.isnan(jax.jit(lambda x: layers.relu(x).mean((1, 2)))(x)).all()


def test_a_pool_before_a_sum_keeps_nan() -> None:
    x = jnp.zeros((2, 8, 8, 64)).at[1, 3, 3, 5].set(jnp.nan)

    @jax.jit
    def total(x: Any) -> Any:
        return pools.max_pool(3, 2, ((1, 1), (1, 1)), x).sum((1, 2))

    assert np.argwhere(np.isnan(total(x))).tolist() == [[1, 5]]


def test_the_relu_is_flax_s_in_values_and_slopes() -> None:
    x = jnp.asarray([-jnp.inf, -2.0, -1e-40, -0.0, 0.0, 1e-40, 3.0, jnp.inf, jnp.nan])

    def found(relu: Any) -> list[Any]:
        slope = jax.vmap(jax.grad(relu))
        moved = jax.jvp(relu, (x,), (x + 1,))[1]
        return [relu(x), slope(x), moved, jax.vmap(jax.grad(jax.grad(relu)))(x)]

    for one, other in zip(found(layers.relu), found(nnx.relu), strict=True):
        assert np.array_equal(one, other, equal_nan=True)
