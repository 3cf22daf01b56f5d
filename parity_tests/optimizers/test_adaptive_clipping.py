"""Adaptive clipping (Brock et al. 2021): the equation, and every backend's step by it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from patches import PatchedSide, rule

from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError
from resnet_spec.loader import installed_backends
from resnet_spec.optimizers import clipped
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise import search
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

BOUND = 0.02
SHAPES: dict[str, tuple[int, ...]] = {"a": (4, 3, 3, 3), "b": (4, 5), "c": (4,)}
EXACT = 1e-10
"""Of float64, relative to the largest value."""


def clip(gradient: Any, weight: Any, bound: float = 0.1, classifier: tuple[str, ...] = ()) -> Any:
    settings = Recipe(steps=1, optimizer={"clip_adaptive": bound}).optimizer
    given = {"w": np.asarray(gradient, np.float64)}
    return clipped(settings, given, {"w": np.asarray(weight, np.float64)}, classifier)["w"]


# --- The equation ---------------------------------------------------------------------------------


def test_each_output_is_a_unit() -> None:
    weight = [[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]
    gradient = [[3.0, 4.0], [0.03, 0.04], [0.6, 0.8]]
    # Norms of weights 5, 0.5, 0: bounds 0.5, 0.05, 0.1 * 0.001. Of gradients 5, 0.05, 1.
    expected = [[0.3, 0.4], [0.03, 0.04], [0.6e-4, 0.8e-4]]
    assert clip(gradient, weight) == pytest.approx(np.array(expected), rel=1e-14)


def test_a_convolution_s_units_are_its_filters_and_a_vector_is_one() -> None:
    draw = np.random.default_rng(0)
    weight, gradient = draw.normal(size=(2, 3, 4, 2, 2))
    found = clip(gradient, weight)
    for w, g, f in zip(weight, gradient, found, strict=True):
        factor = 0.1 * np.sqrt((w**2).sum()) / np.sqrt((g**2).sum())
        assert factor < 1.0
        assert f == pytest.approx(g * factor, rel=1e-14)
    found = clip([6.0, 8.0], [0.0, 5.0])
    assert found == pytest.approx(np.array([0.3, 0.4]), rel=1e-14)


def test_what_is_short_enough_and_the_classifier_keep_their_bits() -> None:
    gradient = np.array([[0.1, 0.2], [0.0, 0.0]])
    assert clip(gradient, [[3.0, 4.0], [1.0, 0.0]]).tobytes() == gradient.tobytes()
    assert clip([9.0], [1.0], classifier=("w",)).tolist() == [9.0]


def test_it_is_that_of_optax_but_for_the_classifier() -> None:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    draw = np.random.default_rng(1)
    weights, gradients = (
        {
            "a": draw.normal(size=(4, 3, 3, 3)),
            "b": draw.normal(size=(4, 5)),
            "c": draw.normal(size=4),
        }
        for _ in range(2)
    )
    settings = Recipe(steps=1, optimizer={"clip_adaptive": 0.05}).optimizer
    turned = {"a": (2, 3, 1, 0), "b": (1, 0), "c": (0,)}  # Its kernels are HWIO and [in, out].
    theirs = [{n: x.transpose(turned[n]) for n, x in it.items()} for it in (gradients, weights)]
    with jax.enable_x64(True):
        found, _ = optax.adaptive_grad_clip(0.05).update(theirs[0], optax.EmptyState(), theirs[1])
    for name, ours in clipped(settings, gradients, weights).items():
        assert np.abs(ours - gradients[name]).max() > 0.0
        np.testing.assert_allclose(ours.transpose(turned[name]), found[name], rtol=1e-12)


def test_a_backend_that_gives_no_weights_is_told() -> None:
    settings = Recipe(steps=1, optimizer={"clip_adaptive": 0.1}).optimizer
    with pytest.raises(BackendError, match=r"clip_adaptive = 0.1: this backend clips without"):
        clipped(settings, {"w": np.ones(2)})


# --- In every backend -----------------------------------------------------------------------------


@cache
def setup() -> Setup:
    spec = Spec(
        name="tiny",
        classes=3,
        block="basic",
        stem={"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        stages=[{"width": 4, "blocks": 1}],
    )
    settings = {"weight_decay": 0.02, "decay_norms": False, "clip_adaptive": BOUND}
    recipe = make_recipe(3, 4, rate=0.03, optimizer=settings, accumulate=2)
    return make_setup(lower(spec, 8), recipe)


@cache
def floors() -> Floors:
    return Floors(reference_of(setup()), "float32")


@cache
def side(backend: str, precision: Any = "float32") -> Side:
    return Side(backend, setup(), precision)


def test_the_setup_has_units_that_are_clipped_and_units_that_are_not() -> None:
    given, plan = setup(), setup().plan
    gradients = {n: g.astype(np.float64) for n, g in side("numpy").gradients[1].items()}
    found = clipped(given.recipe.optimizer, gradients, given.state, plan.classifier)
    assert plan.classifier == ("fc.weight", "fc.bias")
    changed = {n for n, g in found.items() if not np.array_equal(g, gradients[n])}
    assert changed and not changed & set(plan.classifier)
    bound = clipped(given.recipe.optimizer, gradients, given.state)
    assert not np.array_equal(bound["fc.weight"], gradients["fc.weight"])


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.xdist_group("adaptive_clipping")
def test_a_run_is_that_of_the_equation(backend: str) -> None:
    for level in ("update", "trajectory"):
        row = judge(level, side(backend), floors())
        assert not row.is_wrong, (level, row.worst)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=() if name == "torch" else pytest.mark.thorough)
        for name in installed_backends()
        if name in ("torch", "flax")
    ],
)
@pytest.mark.xdist_group("adaptive_clipping")
def test_in_float64_it_is_so_to_the_last_digits(backend: str) -> None:
    found, expected = (side(name, "float64").run[1] for name in (backend, "numpy"))
    for name, array in expected.items():
        error = np.abs(found[name] - array).max() / (np.abs(array).max() or 1.0)
        assert error <= EXACT, name


@pytest.mark.parametrize(
    ("clips", "detail"),
    [
        ("none", "the gradient is not clipped"),
        ("each", "each tensor is clipped as a whole, and the classifier too"),
    ],
)
def test_a_fault_is_seen_and_named(clips: Any, detail: str) -> None:
    faulty = PatchedSide("numpy", setup(), rule(clips=clips))
    assert judge("update", faulty, floors()).verdict == "different"
    finding = search("update", faulty, floors())
    assert finding is not None
    assert (finding.cause, finding.detail) == ("clipping", f"clipping: {detail} (step 1)")


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_a_step_that_overflows_in_float16_moves_nothing() -> None:
    given = setup()
    session = Side("torch", given, "float16").session
    session.load(given.state)
    session.train(iter(given.batches[:1]), given.rates[:1])
    before = session.state()
    session.load({**before, "loss_scale/scale": np.array(2.0**60, np.float32)})
    session.train(iter(given.batches[1:2]), given.rates[1:2])
    after = session.state()
    assert after["loss_scale/scale"] == 2.0**59
    assert [n for n in given.plan.trainable if after[n].tobytes() != before[n].tobytes()] == []
