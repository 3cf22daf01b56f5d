"""Recipes: rules, files, bases, overrides, and what they say of weight decay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spec.describing.recipes import list_recipes, load_recipe
from resnet_spec.errors import RecipeError
from resnet_spec.ops import Init, Role, Tensor
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe


def refusal(**data: object) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe(**data)
    return str(caught.value)


@pytest.mark.parametrize("name", list_recipes())
def test_every_named_recipe_is_valid_and_round_trips(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_papers_recipe() -> None:
    recipe = load_recipe("cifar-paper")
    assert (recipe.steps, recipe.batch, recipe.schedule.rate) == (64_000, 128, 0.1)
    assert recipe.schedule.milestones == (32_000, 48_000)


@pytest.mark.parametrize(
    ("name", "steps", "batch", "decay", "most", "last"),
    [
        ("cifar-paper", 64_000, 128, 1e-4, 0.1, 1e-3),
        ("cifar-fast", 10_000, 128, 5e-4, 0.2, 0.0),
        ("imagenet-90", 90_000, 256, 1e-4, 0.1, 1e-3),
        ("fine-tune", 5_000, 256, 0.0, 1e-3, 1e-5),
    ],
)
def test_recipes_have_the_numbers_of_their_sources(
    name: str, steps: int, batch: int, decay: float, most: float, last: float
) -> None:
    recipe = load_recipe(name)
    assert (recipe.batch, recipe.optimizer.weight_decay) == (batch, decay)
    assert recipe.optimizer.momentum == 0.9
    found = rates(recipe, 1000)
    assert (len(found), found.max()) == (steps, pytest.approx(most, rel=1e-3))
    assert found[-1] == pytest.approx(last, rel=1e-3, abs=1e-4 if last == 0.0 else 0.0)


def test_all_problems_are_listed_at_once() -> None:
    text = refusal(epochs=0, batch=10, optimizer={"momentum": 1.5, "nestrov": True})
    assert "epochs = 0: must be >= 1" in text
    assert "optimizer.momentum = 1.5: must be < 1" in text
    assert "optimizer.nestrov = true: unknown key; did you mean 'nesterov'?" in text


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "epochs, steps: exactly one must be given, and neither is"),
        ({"epochs": 1, "steps": 1}, "epochs, steps: exactly one must be given, and both are"),
        ({"epochs": 1, "batch": 10, "accumulate": 3}, "accumulate = 3: must divide batch = 10"),
        (
            {"epochs": 1, "schedule": {"rate": 0.1, "floor": 0.2}},
            "schedule.floor = 0.2: must be <= schedule.rate = 0.1",
        ),
        (
            {"epochs": 1, "schedule": {"kind": "multi_step"}},
            "schedule.milestones = []: must be given when schedule.kind is multi_step",
        ),
        (
            {"epochs": 1, "schedule": {"kind": "multi_step", "milestones": [3, 2]}},
            "schedule.milestones = [3.0, 2.0]: must rise",
        ),
        (
            {"epochs": 1, "optimizer": {"momentum": 0.0, "nesterov": True}},
            "optimizer.nesterov = true: needs optimizer.momentum > 0",
        ),
        ({"epochs": True}, "epochs = true: must be an integer"),
        (
            {"epochs": 1, "schedule": {"rate": float("nan")}},
            "schedule.rate = NaN: must be a finite",
        ),
    ],
)
def test_rules(data: dict[str, object], line: str) -> None:
    assert line in refusal(**data)


def test_a_file_may_build_on_a_named_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "cifar-fast"\nsteps = 50\n[schedule]\nrate = 0.3\n')
    recipe = load_recipe(file)
    assert (recipe.steps, recipe.epochs) == (50, None)
    assert (recipe.schedule.kind, recipe.schedule.rate) == ("one_cycle", 0.3)


def test_settings_override_and_steps_replace_epochs() -> None:
    recipe = load_recipe("demo", ["steps=5", "optimizer.momentum=0.5", "augment.flip=true"])
    assert (recipe.steps, recipe.epochs) == (5, None)
    assert recipe.optimizer.momentum == 0.5
    assert recipe.augment.flip


def test_settings_that_go_with_others_leave_with_them(tmp_path: Path) -> None:
    settings = ["loss.kind=cross_entropy", "optimizer.clip_value=0.1", "schedule.warmup=0"]
    changed = load_recipe("timm-a3", settings)
    assert changed.loss.threshold is None
    assert changed.schedule.warmup_start is None
    assert not changed.optimizer.has("clip_norm")
    assert changed.optimizer.clip_value == 0.1
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "timm-a3"\nloss.kind = "cross_entropy"\noptimizer.clip_value = 0.1\n'
        "schedule.warmup = 0\n"
    )
    assert load_recipe(path) == changed
    kept = load_recipe("timm-a3", ["loss.kind=binary_cross_entropy", "schedule.warmup=2"])
    assert (kept.loss.threshold, kept.schedule.warmup_start) == (0.2, 1e-4)


@pytest.mark.parametrize(
    ("source", "settings", "line"),
    [
        ("cifar-fsat", [], "did you mean 'cifar-fast'?"),
        ("missing.toml", [], "missing.toml: cannot be read: No such file"),
        ("demo", ["schedule.rat=1"], "schedule.rat = 1: unknown key; did you mean 'rate'?"),
        ("demo", ["epochs"], "--set epochs: must be of the form key=value"),
        ("demo", ["epochs.x=1"], "--set epochs.x=1: epochs is not a table of keys"),
    ],
)
def test_bad_sources_give_one_line(source: str, settings: list[str], line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, settings)
    assert line in str(caught.value)
    assert len(caught.value.problems) == 1


def test_broken_toml_names_the_file_and_the_place(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("epochs = = 3\n")
    with pytest.raises(RecipeError, match=r"bad.toml: is not valid TOML: .*line 1"):
        load_recipe(file)


@pytest.mark.parametrize(
    ("role", "always", "norms", "biases"),
    [
        ("conv_weight", True, True, True),
        ("linear_weight", True, True, True),
        ("norm_scale", False, True, False),
        ("norm_shift", False, True, False),
        ("bias", False, False, True),
        ("running_mean", False, False, False),
        ("running_var", False, False, False),
    ],
)
def test_which_tensors_decay(role: Role, always: bool, norms: bool, biases: bool) -> None:
    tensor = Tensor("x", (1,), "C", role, Init("constant", 0.0))

    def decays(decay_norms: bool, decay_biases: bool) -> bool:
        optimizer = {"decay_norms": decay_norms, "decay_biases": decay_biases}
        return Recipe(epochs=1, optimizer=optimizer).decays(tensor)

    assert decays(False, False) == always
    assert decays(True, False) == norms
    assert decays(False, True) == biases


@pytest.mark.parametrize("field", ["head_rate", "optimizer.weight_decay"])
def test_factors_that_no_training_survives_are_named(field: str) -> None:
    with pytest.raises(RecipeError, match=rf"{field} = 1e\+308: must be <= 1000000"):
        load_recipe("demo", [f"{field}=1e308"])
