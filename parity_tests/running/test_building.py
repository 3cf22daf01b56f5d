"""`build` and `session`: what they hand to a backend, with a backend that only takes notes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec.errors import BackendError, RecipeError, ResnetSpecError, SpecError
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


def wrong_kinds() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield options of `session` of kinds that a type checker would refuse, and what is said."""
    for value in (3, None, ["numpy"]):
        yield {"backend": value}, f"backend = {value}: must be a backend's name"
    for value in (3, None, ["resnet50"]):
        rule = "must be a preset's name, a file, a table or a Spec"
        yield {"source": value}, f"spec = {value}: {rule}"
    for name in ("classes", "input_size", "seed"):
        for value in ("8", 8.5, True):
            yield {name: value}, f"{name} = {value!r}: must be a whole number"
    yield {"seed": -1}, "seed = -1: must be >= 0"
    yield {"seed": None}, "seed = None: must be a whole number"
    yield {"recipe": 3}, "recipe = 3: must be a recipe's name, a file, a table or a Recipe"
    yield {"device": None}, "device = None: must be a device's name, or auto"
    yield {"precision": 16}, "precision = 16: must be a precision's name"
    yield {"compile": "no"}, "compile = 'no': must be True or False"


@pytest.mark.parametrize(("options", "line"), list(wrong_kinds()))
def test_a_value_of_another_kind_is_told_in_one_line(options: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {"source": "resnet20_cifar", "backend": "numpy", **options}
    with pytest.raises(ResnetSpecError) as caught:
        resnet_spec.session(**given)
    assert caught.value.problems == (line,)


def test_numpy_s_whole_numbers_are_whole_numbers() -> None:
    given: dict[str, Any] = {"classes": np.int64(3), "input_size": np.int32(8), "seed": np.int8(1)}
    made = resnet_spec.session("resnet20_cifar", "numpy", **given)
    plain = resnet_spec.session("resnet20_cifar", "numpy", classes=3, input_size=8, seed=1)
    state = plain.state()
    assert all(np.array_equal(array, state[name]) for name, array in made.state().items())
