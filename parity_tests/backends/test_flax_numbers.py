"""The Flax backend against the float64 reference."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flax_networks import (
    CASES,
    RATES,
    RECIPE,
    assert_close,
    assert_states_close,
    batch_of,
    batches_of,
    check_passes,
    plan_of,
    reference_of,
    reference_run,
    session_of,
)

from resnet_spec.loader import load_backend
from resnet_spec.ops import Node
from resnet_spec.plan import walk
from resnet_spec.recipe import Recipe

jax = pytest.importorskip("jax")
jnp = jax.numpy
nnx = pytest.importorskip("flax.nnx")

pytestmark = pytest.mark.xdist_group("flax_networks")
backend: Any = load_backend("flax")
layers: Any = importlib.import_module(f"{backend.__name__}.layers")
convolutions: Any = importlib.import_module(f"{backend.__name__}.convolutions")


# Relative errors of one pass, of 20 losses, and of the state after them. Measured at most, over
# these cases: 2e-15, 7e-16, 1e-14 in float64 and 1e-6, 2e-7, 8e-6 in float32; gradients, which
# are granted ten times the first: 1e-14 and 9e-6.
TOLERANCES = {"float64": (1e-13, 1e-13, 1e-12), "float32": (1e-5, 1e-6, 5e-5)}


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        ("zero_pad", "float64"),
        ("pre_activation", "float64"),
        ("bottleneck", "float32"),
        pytest.param("zero_pad", "float32", marks=pytest.mark.thorough),
    ],
)
def test_agrees_with_the_reference(case: str, precision: str) -> None:
    tolerance, loss_tolerance, state_tolerance = TOLERANCES[precision]
    session = session_of(case, precision)
    check_passes(session, case, tolerance)
    expected_log, expected = reference_run(case)
    log = session.train(iter(batches_of(plan_of(case))), RATES)
    assert_close(log.loss, expected_log.loss, loss_tolerance, "losses")
    assert np.array_equal(log.correct, expected_log.correct) and expected_log.correct.sum() > 0
    assert log.count.tolist() == [RECIPE.batch] * 20
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)
    assert_states_close(session.state(), expected, state_tolerance)


def test_the_cases_cover_every_op_and_both_convolutions() -> None:
    nodes: list[Node] = [node for case in CASES for node in walk(plan_of(case).root)]
    kinds = {type(node).__name__ for node in nodes}
    assert {"AvgPool", "MaxPool", "PadChannels", "Gate", "Dropout", "DropPath", "Flatten"} <= kinds
    functions = set()
    for case in CASES:
        network = nnx.eval_shape(partial(backend.build, plan_of(case)))
        modules = [module for _, module in nnx.iter_modules(network)]
        functions |= {m.conv_general_dilated for m in modules if isinstance(m, nnx.Conv)}
    assert functions == {convolutions.product, jax.lax.conv_general_dilated}


def _perturb_weight(native: Any) -> None:
    native.layer1[0].conv1.kernel[...] = native.layer1[0].conv1.kernel[...].at[0, 0, 0, 0].add(1e-6)


def _transpose_weight(native: Any) -> None:
    native.layer1[0].conv1.kernel[...] = native.layer1[0].conv1.kernel[...].swapaxes(0, 1)


def _raise_eps(native: Any) -> None:
    native.bn1.epsilon = 1.001e-5


def _shift_pad(native: Any) -> None:
    native.conv1.padding = ((0, 2), (1, 1))


def _shorten_decay(native: Any) -> None:
    native.layer1[1].bn2.momentum = 0.91


def _swap_variance(native: Any) -> None:
    native.bn1.unbiased = False


@pytest.mark.parametrize(
    "plant",
    [_perturb_weight, _transpose_weight, _raise_eps, _shift_pad, _shorten_decay, _swap_variance],
)
def test_planted_faults_are_found(plant: Callable[[Any], None]) -> None:
    batch = batch_of(plan_of("tiny"), count=RECIPE.batch)
    session, exact = session_of("tiny", "float64"), reference_of("tiny")
    graphdef, state = nnx.split(session.native)
    with jax.enable_x64(True):
        plant(session.native)
    try:
        for one in (session, exact):
            one.train([batch], RATES[:1])
        got, expected = session.state(), exact.state()
        with pytest.raises(AssertionError, match=" > 1e-12"):
            assert_states_close(got, expected, 1e-12)
    finally:
        session.native = nnx.merge(graphdef, state)


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 1},
        {"label_smoothing": 0.11},
        {"ema": {"decay": 0.71}},
        {"optimizer": {"nesterov": False}},
        {"optimizer": {"momentum": 0.81}},
        {"optimizer": {"weight_decay": 0.011}},
        {"optimizer": {"decay_norms": True}},
        {"optimizer": {"decay_biases": True}},
    ],
    ids=str,
)
def test_another_recipe_is_told_apart(change: dict[str, Any]) -> None:
    fields = RECIPE.to_dict()
    optimizer = fields["optimizer"] | change.get("optimizer", {})
    other = Recipe.from_dict(fields | change | {"optimizer": optimizer})
    session, exact = session_of(precision="float64"), reference_of("zero_pad", other)
    batches = batches_of(plan_of())[:2]
    for one in (session, exact):
        one.train(batches, RATES[:2])
    with pytest.raises(AssertionError, match=" > 1e-12"):
        assert_states_close(session.state(), exact.state(), 1e-12)


def test_statistics_in_float32_are_within_rounding_where_the_mean_is_large() -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((64, 16, 16, 3)) + 100.0).astype(np.float32)

    def error_of(norm: Any, dtype: Any = jnp.float32) -> float:
        rounded = jnp.asarray(x, dtype)
        norm(rounded)
        expected = np.asarray(rounded, np.float64).var((0, 1, 2))
        return float(np.abs(np.asarray(norm.var[...]) / expected - 1).max())

    more = {"momentum": 0.0, "rngs": nnx.Rngs(0)}
    ours = partial(layers.BatchNorm, 3, unbiased=False, param_dtype=jnp.float32, **more)
    assert error_of(ours()) < 1e-6
    assert error_of(ours(dtype=jnp.bfloat16), jnp.bfloat16) < 1e-6
    assert error_of(nnx.BatchNorm(3, **more)) > 1e-5
