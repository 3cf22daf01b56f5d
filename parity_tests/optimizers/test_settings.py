"""Which settings an optimiser takes: its own, with its own defaults; others are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases import CASES

from resnet_spec.describing.recipes import RECIPES, load_recipe
from resnet_spec.errors import RecipeError
from resnet_spec.optimizers import OPTIMIZERS, OWN, row_of
from resnet_spec.parity.setup import worn_state
from resnet_spec.recipe import Recipe
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

COMMON = {"weight_decay": 1e-4, "decay_norms": True, "decay_biases": True}


def refusal(**optimizer: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        Recipe(steps=1, optimizer=optimizer)
    return caught.value.problems


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_kind_has_its_own_settings_and_no_others(kind: str, tmp_path: Path) -> None:
    recipe = Recipe(steps=1, optimizer={"kind": kind})
    assert set(row_of(recipe.optimizer).settings) <= set(OWN)
    written = recipe.to_dict()["optimizer"]
    assert written == {"kind": kind, **row_of(recipe.optimizer).settings, **COMMON}
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert load_recipe(recipe) == recipe
    plan = CASES["plain"].plan
    save_checkpoint(
        tmp_path / "a.safetensors", Checkpoint(CASES["plain"].spec, worn_state(plan, 0), recipe)
    )
    assert load_checkpoint(tmp_path / "a.safetensors").recipe == recipe


def test_patterns_are_written_and_read() -> None:
    recipe = Recipe(steps=1, optimizer={"kind": "lamb", "no_decay": ["fc.*"]})
    assert recipe.to_dict()["optimizer"]["no_decay"] == ["fc.*"]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert load_recipe(recipe, "optimizer.kind=adamw").optimizer.no_decay == ("fc.*",)


def test_what_is_written_of_sgd_is_what_was() -> None:
    text = json.dumps(Recipe(steps=1).to_dict()["optimizer"])
    assert text == (
        '{"kind": "sgd", "momentum": 0.9, "nesterov": false, "weight_decay": 0.0001, '
        '"decay_norms": true, "decay_biases": true}'
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"kind": "adamw", "momentum": 0.5},
            "optimizer.momentum = 0.5: adamw has no momentum; "
            "remove it; it has beta1, beta2, epsilon",
        ),
        (
            {"kind": "lion", "nesterov": False},
            "optimizer.nesterov = false: lion has no nesterov; remove it; it has beta1, beta2",
        ),
        (
            {"beta1": 0.5},
            "optimizer.beta1 = 0.5: sgd has no beta1; remove it; it has momentum, nesterov",
        ),
        ({"kind": "adam", "beta2": 1.0}, "optimizer.beta2 = 1.0: must be < 1.0"),
        ({"kind": "adam", "epsilon": 0.0}, "optimizer.epsilon = 0.0: must be > 0.0"),
        ({"momentum": None}, "optimizer.momentum = null: must be a number"),
        ({"clip_norm": 0.0}, "optimizer.clip_norm = 0.0: must be > 0.0"),
        (
            {"clip_norm": 1.0, "clip_value": 0.5},
            "optimizer.clip_value = 0.5: goes not together with optimizer.clip_norm; "
            "leave one of them out",
        ),
        ({"clip_adaptive": 0.0}, "optimizer.clip_adaptive = 0.0: must be > 0.0"),
        (
            {"clip_adaptive": 0.01, "clip_norm": 0.5},
            "optimizer.clip_adaptive = 0.01: goes not together with optimizer.clip_norm; "
            "leave one of them out",
        ),
        (
            {"kind": "lamb", "weight_decay": 0.0},
            "optimizer.weight_decay = 0.0: lamb adapts only the tensors that have weight decay; "
            "set a small one, as 1e-6",
        ),
        (
            {"kind": "lars", "momentum": 0.0, "nesterov": True},
            "optimizer.nesterov = true: needs optimizer.momentum > 0",
        ),
    ],
)
def test_another_kinds_setting_is_refused(given: dict[str, Any], line: str) -> None:
    assert refusal(**given) == (line,)


def test_clipping_is_written_where_it_is_set() -> None:
    recipe = Recipe(steps=1, optimizer={"clip_norm": 1.0})
    assert recipe.to_dict()["optimizer"]["clip_norm"] == 1.0
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe != Recipe(steps=1)


def test_another_kind_leaves_the_settings_of_the_base_behind() -> None:
    assert RECIPES["demo"]["optimizer"]["nesterov"] is True
    found = load_recipe("demo", ["optimizer.kind=rmsprop", "optimizer.beta2=0.95"]).optimizer
    assert (found.kind, found.momentum, found.beta2, found.nesterov) == ("rmsprop", 0.9, 0.95, None)
    assert found.weight_decay == 5e-4
    # Also a setting that both have, which is usual in one of them alone.
    adam = load_recipe({"base": "demo", "optimizer": {"kind": "adam"}})
    assert (adam.optimizer.beta2, adam.optimizer.weight_decay) == (0.999, 5e-4)
    assert load_recipe(adam, ["optimizer.kind=lion"]).optimizer.beta2 == 0.99
    assert load_recipe(adam, ["optimizer.kind=adam", "seed=1"]).optimizer == adam.optimizer
    assert load_recipe("demo", ["optimizer.kind=sgd"]) == load_recipe("demo")


def test_what_is_given_with_another_kind_is_still_refused() -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.momentum = 0\.3: adamw has no momentum"):
        load_recipe("demo", ["optimizer.momentum=0.3", "optimizer.kind=adamw"])
