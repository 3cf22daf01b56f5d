"""Faults in optimisers, planted in one side: each is found, and named for what it is."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from patches import PatchedSide, rule

from resnet_spec.contract import Array
from resnet_spec.describing.spec import Spec
from resnet_spec.loader import installed_backends
from resnet_spec.optimizers import OPTIMIZERS, Equation, equations, row_of, slots_of
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise import mistakes, search, update
from resnet_spec.parity.localise.rules import Move, Rule
from resnet_spec.parity.localise.trust import TRUST
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.planning.lowering import lower

BACKEND = "torch" if "torch" in installed_backends() else "numpy"


@cache
def setup(kind: str, **more: Any) -> Setup:
    spec = Spec(
        name="tiny",
        classes=3,
        block="basic",
        stem={"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        stages=[{"width": 4, "blocks": 1}],
    )
    settings = {"kind": kind, "weight_decay": 0.02, "decay_norms": False, **more}
    return make_setup(lower(spec, 8), make_recipe(3, 4, optimizer=settings))


@cache
def floors(kind: str, **more: Any) -> Floors:
    return Floors(reference_of(setup(kind, **more)), "float32")


def named(kind: str, own: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Return the cause and the detail that are named of a side that follows another rule."""
    got = PatchedSide(BACKEND, setup(kind, **own), rule(**fields))
    finding = search("update", got, floors(kind, **own))
    assert finding is not None
    return finding.cause, finding.detail


ADAM = {"epsilon": 1e-3}
CHANGED: list[tuple[str, dict[str, Any], Any, str]] = [
    ("adam", {}, mistakes.uncorrected, "bias correction left out"),
    ("adamw", {}, mistakes.uncorrected, "bias correction left out"),
    ("lamb", {}, mistakes.uncorrected, "bias correction left out"),
    ("adamw", {}, mistakes.coupled, "coupled against decoupled decay"),
    ("adam", {}, mistakes.decoupled, "coupled against decoupled decay"),
    ("rmsprop", {}, mistakes.decoupled, "coupled against decoupled decay"),
    ("lion", {}, mistakes.coupled, "coupled against decoupled decay"),
    ("rmsprop", {}, mistakes.rate_inside, "learning rate inside the velocity"),
    ("lars", {}, mistakes.rate_inside, "learning rate inside the velocity"),
    ("rmsprop", {}, mistakes.dampened, "dampening"),
]


@pytest.mark.parametrize(("kind", "own", "change", "cause"), CHANGED)
def test_a_part_that_is_otherwise_is_named(
    kind: str, own: dict[str, Any], change: Any, cause: str
) -> None:
    equation = mistakes.bound(change, OPTIMIZERS[kind].equation)
    assert named(kind, own, equation=equation)[0] == cause


@pytest.mark.parametrize("kind", mistakes.EPSILON_ELSEWHERE)
def test_the_place_of_epsilon_is_named(kind: str) -> None:
    ((detail, equation),) = mistakes.EPSILON_ELSEWHERE[kind]
    found = named(kind, ADAM, equation=equation)
    assert found == ("place of epsilon", f"place of epsilon: {detail} (step 1)")


RATIOS = [(kind, *row) for kind, rows in TRUST.items() for row in rows]


@pytest.mark.parametrize(("kind", "detail", "equation"), RATIOS)
def test_a_trust_ratio_over_other_norms_is_named(
    kind: str, detail: str, equation: Equation
) -> None:
    # With the trust of LARS its steps are too short to be seen.
    own = {"trust": 1.0} if kind == "lars" else {}
    assert named(kind, own, equation=equation) == ("trust ratio", f"trust ratio: {detail} (step 1)")


@pytest.mark.parametrize(
    ("kind", "other", "cause"),
    [
        ("adamw", {"beta1": 0.8}, "beta1"),
        ("adamw", {"beta2": 0.99}, "beta2"),
        ("adamw", {"epsilon": 1e-5}, "epsilon"),
        ("adamw", {"beta1": 0.999, "beta2": 0.9}, "betas exchanged"),
        ("lion", {"beta2": 0.95}, "beta2"),
        ("rmsprop", {"beta2": 0.99}, "beta2"),
        ("rmsprop", {"momentum": 0.8}, "momentum"),
        ("lars", {"momentum": 0.8}, "momentum"),
        ("lars", {"nesterov": True}, "Nesterov form"),
        ("adamw", {"weight_decay": 0.05}, "weight decay"),
        ("lion", {"weight_decay": 0.05}, "weight decay"),
        ("lamb", {"decay_norms": True}, "decayed tensors"),
    ],
)
def test_another_setting_is_named(kind: str, other: dict[str, Any], cause: str) -> None:
    own = {"trust": 1.0} if kind == "lars" else {}
    got = Side(BACKEND, setup(kind, **{**own, **other}))
    finding = search("update", got, floors(kind, **own))
    assert finding is not None
    assert finding.cause == cause


@pytest.mark.parametrize(("clips", "detail"), [("none", "the gradient is not clipped")])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_gradient_that_is_not_clipped_is_named(kind: str, clips: str, detail: str) -> None:
    found = named(kind, {"clip_norm": 0.2}, clips=clips)
    assert found == ("clipping", f"clipping: {detail} (step 1)")


def test_each_tensor_clipped_by_itself_is_named() -> None:
    found = named("sgd", {"clip_norm": 0.2}, clips="each")
    assert found[1] == "clipping: each tensor's gradient is clipped by itself (step 1)"


@pytest.mark.parametrize("level", ["update", "trajectory"])
def test_a_mean_that_is_otherwise_is_seen(level: str) -> None:
    equation = mistakes.bound(mistakes.uncorrected, OPTIMIZERS["adamw"].equation)
    got = PatchedSide(BACKEND, setup("adamw"), rule(equation=equation))
    row = judge(level, got, floors("adamw"))
    assert row.is_wrong
    other = Side(BACKEND, setup("adamw", beta2=0.99))
    slots = {
        item.name
        for item in judge(level, other, floors("adamw")).items
        if item.verdict == "different"
    }
    assert "square" in {name.partition("/")[0] for name in slots}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_nothing_is_found_in_what_is_right(kind: str) -> None:
    assert search("update", Side(BACKEND, setup(kind)), floors(kind)) is None


@pytest.mark.parametrize("kind", ["lion", "adam", "sgd"])
def test_a_sign_that_rounding_decides_is_no_finding(kind: str) -> None:
    tensor = next(tensor for tensor in setup(kind).plan.tensors if tensor.name == "fc.bias")
    weight, gradient = np.array([0.5, 0.5, 0.5]), np.array([1.0, 1e-9, -1e-3])
    recipe, rates = setup(kind, weight_decay=0.0).recipe, np.array([0.003])
    slots = {
        slot.family: np.full(slot.shape_for(weight.shape), slot.first)
        for slot in slots_of(recipe.optimizer)
    }
    right, fixed = Rule.of(recipe), (recipe, rates, Side(BACKEND, setup(kind)))
    move = Move(tensor, weight, slots, gradient, weight, {}, 0)
    # The side itself had another sign where the gradient is nearly 0, or where it is not.
    for at, is_wrong in ((1, False), (2, True)):
        other = gradient.copy()
        other[at] *= -1.0
        moved = right.step(move._replace(gradient=other), recipe, rates)[0]
        found = update._errors(move._replace(new_weight=moved), right, *fixed)  # pyright: ignore[reportPrivateUsage]
        assert (found["the weight"] > 16.0) == is_wrong, at
    assert row_of(recipe.optimizer).jumps == (kind != "sgd")


def test_a_mistake_is_one() -> None:
    """No alternative of the catalogue is the right equation, where it could show."""
    draw = np.random.default_rng(0)
    w, g = (draw.standard_normal((3, 4)) for _ in range(2))
    slots: dict[str, Array] = {"mean": 0.1 * g, "square": 0.3 * g * g, "steps": np.array(2.0)}
    settings = setup("lamb").recipe.optimizer
    right, _ = equations.lamb(settings, 0.1, 0.02, w, g, slots)
    others = [equation(settings, 0.1, 0.02, w, g, slots)[0] for _, equation in TRUST["lamb"][:4]]
    assert all(np.abs(other - right).max() > 1e-4 for other in others)
