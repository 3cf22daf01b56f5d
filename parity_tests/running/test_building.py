"""`build` and `session`: what they hand to a backend, with a backend that only takes notes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec.errors import BackendError, RecipeError, SpecError
from resnet_spec.plan import Plan
from resnet_spec.running import building, opening

State = dict[str, Any]


class NotingSession:
    def __init__(self, plan: Plan, recipe: Any, **options: Any) -> None:
        self.plan, self.recipe, self.options = plan, recipe, options
        self.loaded: State = {}

    def load(self, state: State) -> None:
        self.loaded = state


@pytest.fixture
def _noting(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SimpleNamespace(Session=NotingSession, build=lambda plan, state: (plan, state))
    for module in (building, opening):
        monkeypatch.setattr(module, "load_backend", lambda name: backend)


@pytest.mark.usefixtures("_noting")
def test_build_hands_over_the_changed_plan_and_the_seed_s_weights() -> None:
    plan, state = building.build("resnet20_cifar", "noting", classes=7, input_size=16, seed=5)
    assert (plan.classes, plan.input.height, plan.input.width) == (7, 16, 16)
    assert {name: array.shape for name, array in state.items()} == {
        tensor.name: tensor.shape for tensor in plan.tensors
    }
    expected = resnet_spec.initial_state(plan, 5)
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
    _, other = building.build("resnet20_cifar", "noting", classes=7, input_size=16, seed=6)
    assert not np.array_equal(state["conv1.weight"], other["conv1.weight"])


@pytest.mark.usefixtures("_noting")
def test_a_session_takes_precision_from_the_recipe_unless_given() -> None:
    recipe = {"steps": 1, "batch": 1, "precision": "bfloat16"}
    made: Any = building.session(
        "resnet20_cifar", "noting", resnet_spec.Recipe.from_dict(recipe), device="cpu"
    )
    assert made.options == {"device": "cpu", "precision": "bfloat16", "compile": False}
    assert set(made.loaded) == {tensor.name for tensor in made.plan.tensors}
    given: Any = building.session("resnet20_cifar", "noting", "demo", precision="float64")
    assert given.options["precision"] == "float64"
    bare: Any = building.session("resnet20_cifar", "noting")
    assert (bare.recipe, bare.options["precision"]) == (None, "float32")


def test_wrong_names_are_errors_of_their_kind() -> None:
    with pytest.raises(SpecError, match="did you mean 'resnet50'"):
        resnet_spec.build("resnet5O", "numpy")
    with pytest.raises(SpecError, match="classes = 0: must be >= 1"):
        resnet_spec.build("resnet20_cifar", "numpy", classes=0)
    with pytest.raises(BackendError, match="did you mean 'torch'"):
        resnet_spec.build("resnet20_cifar", "troch")
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        resnet_spec.session("resnet20_cifar", "numpy", "dmeo")
