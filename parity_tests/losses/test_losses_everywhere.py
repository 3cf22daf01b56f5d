"""Every loss in every backend: its equation, in runs with all that can meet there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES
from exact_runs import EXACT, changed_by_going_on, far, in_float64

from resnet_spec.errors import BackendError, RecipeError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.losses import Kind
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.running.opening import check_trains

CASE = CASES["plain"]
FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
STEPS = 3
KINDS = ("cross_entropy", "binary_cross_entropy")
RECIPES: dict[str, dict[str, Any]] = {
    "mixup": {"augment": {"mixup": 0.8}},
    "weighted_cutmix": {
        "augment": {"cutmix": 1.0},
        "loss": {"class_weights": [0.5 + 0.25 * i for i in range(CASE.plan.classes)]},
    },
    "binary": {
        "augment": {"mixup": 0.8, "cutmix": 1.0},
        "loss": {"kind": "binary_cross_entropy", "threshold": 0.2},
        "label_smoothing": 0.0,
        "accumulate": 2,
        "ema": {"decay": 0.9},
    },
    "distilled": {
        "augment": {"mixup": 0.8},
        "loss": {"teacher": "nobody", "teacher_weight": 0.7, "temperature": 4.0},
        "accumulate": 2,
    },
}

pytestmark = pytest.mark.xdist_group("losses_everywhere")

PAIRS = [
    pytest.param(
        backend, name, marks=() if backend == "torch" or name == "binary" else pytest.mark.thorough
    )
    for backend in FRAMEWORKS
    for name in RECIPES
]


@cache
def setup(name: str) -> Setup:
    return make_setup(CASE.plan, make_recipe(STEPS, **RECIPES[name]))


@cache
def side(backend: str, name: str, precision: Any = "float32") -> Side:
    return Side(backend, setup(name), precision)


@pytest.mark.parametrize("name", RECIPES)
def test_the_batches_are_mixed(name: str) -> None:
    assert all(batch.mix is not None for batch in setup(name).batches)


@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_it_agrees_at_every_level(backend: str, name: str) -> None:
    expected = Floors(reference_of(setup(name)), "float32")
    got = side(backend, name)
    for level in ("gradients", "statistics", "update", "trajectory"):
        row = judge(level, got, expected)
        assert not row.is_wrong, (level, row.worst)


@pytest.mark.parametrize(("backend", "name"), in_float64(PAIRS))
def test_in_float64_it_is_so_to_the_last_digits(backend: str, name: str) -> None:
    found, expected = (side(one, name, "float64").run for one in (backend, "numpy"))
    assert np.abs(found[0] - expected[0]).max() <= EXACT
    assert far(found[1], expected[1]) == {}


@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_a_run_goes_on_from_its_state_to_the_bit(backend: str, name: str) -> None:
    assert changed_by_going_on(side(backend, name).session, setup(name)) == []


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.thorough if name == "mindspore" else ())
        for name in FRAMEWORKS
    ],
)
def test_images_that_are_not_mixed_are_compared_with_targets_too(backend: str) -> None:
    """Cross-entropy by targets of one class each is that of labels."""
    plain = make_setup(CASE.plan, make_recipe(1))
    mixing = make_recipe(1, augment={"mixup": 0.8})
    found = Side(backend, replace(plain, recipe=mixing)).gradients
    expected = Side(backend, plain).gradients
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    for name, gradient in expected[1].items():
        assert np.abs(found[1][name] - gradient).max() <= 1e-5 * np.abs(gradient).max()


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_predictions_need_no_targets(backend: str) -> None:
    (logits,) = side(backend, "binary").session.predict([setup("binary").batches[0]])
    assert logits.shape == (setup("binary").recipe.batch, CASE.plan.classes)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_a_loss_of_other_classes_is_refused(backend: str) -> None:
    recipe = make_recipe(1, loss={"class_weights": [1.0, 2.0]})
    with pytest.raises(BackendError, match=r"loss\.class_weights = 2 numbers: must be 5"):
        load_backend(backend).Session(CASE.plan, recipe)
    with pytest.raises(RecipeError, match=r"loss\.class_weights = 2 numbers: must be 5"):
        check_trains(backend, recipe, CASE.plan.classes)


def test_every_backend_has_every_loss() -> None:
    assert FRAMEWORKS
    assert set(KINDS) == set(Kind.__args__)
    for name in (*FRAMEWORKS, "numpy"):
        assert set(module_of(name, "losses").LOSSES) == set(KINDS)
