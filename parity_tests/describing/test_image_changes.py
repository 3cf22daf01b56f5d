"""What a recipe says of policies, jitter and erasing: defaults by policy, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resnet_spec.data.augmenting.policies import chosen
from resnet_spec.describing.image_changes import HIGHEST, OWN, POLICIES
from resnet_spec.describing.json_schema import described_schema
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import RecipeError
from resnet_spec.recipe import Recipe


def refusal(**augment: object) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe(epochs=1, augment=augment)
    return str(caught.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_has_its_own_settings_with_defaults_and_no_others(policy: str) -> None:
    recipe = Recipe(epochs=1, augment={"policy": policy})
    written = recipe.to_dict()["augment"]
    assert {name: written[name] for name in OWN if name in written} == POLICIES[policy]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert len(chosen(recipe.augment, [0.0] * 80, 32)) <= 2


def test_recipes_from_before_there_were_policies_are_read_and_change_nothing() -> None:
    old = {"pad": 4, "flip": True, "random_resized_crop": False}
    recipe = Recipe(epochs=1, augment=old)
    assert recipe.augment.policy == "none" and not recipe.augment.jitters
    assert not recipe.augment.needs_colours and recipe.augment.erase == 0.0
    assert recipe.augment.repeats == 1
    assert {name: recipe.to_dict()["augment"][name] for name in old} == old


@pytest.mark.parametrize(
    ("augment", "line"),
    [
        (
            {"policy": "trivail"},
            "augment.policy = trivail: is not a known policy; did you mean 'trivial'?",
        ),
        (
            {"policy": "trivial", "policy_ops": 2},
            "augment.policy_ops = 2: the policy trivial has no policy_ops; remove it",
        ),
        (
            {"policy_noise": 0.5},
            "augment.policy_noise = 0.5: the policy none has no policy_noise; remove it",
        ),
        (
            {"policy": "randaugment", "policy_probability": 0.5},
            "augment.policy_probability = 0.5: the policy randaugment has no policy_probability; "
            "remove it; it has policy_ops, policy_magnitude",
        ),
        (
            {"policy": "randaugment", "policy_magnitude": 31},
            "augment.policy_magnitude = 31: must be <= 30",
        ),
        (
            {"policy": "randaugment_increasing", "policy_magnitude": 11},
            "augment.policy_magnitude = 11: must be <= 10 in randaugment_increasing",
        ),
        ({"policy": "randaugment", "policy_ops": 0}, "augment.policy_ops = 0: must be >= 1"),
        ({"policy": "randaugment", "policy_ops": 17}, "augment.policy_ops = 17: must be <= 16"),
        ({"brightness": -0.1}, "augment.brightness = -0.1: must be >= 0.0"),
        ({"hue": 0.6}, "augment.hue = 0.6: must be <= 0.5"),
        ({"erase": 1.5}, "augment.erase = 1.5: must be <= 1.0"),
        ({"repeats": 0}, "augment.repeats = 0: must be >= 1"),
        ({"repeats": 3}, "augment.repeats = 3: must divide batch = 128"),
        ({"polcy": "none"}, "augment.polcy = \"none\": unknown key; did you mean 'policy'?"),
    ],
)
def test_refusals(augment: dict[str, Any], line: str) -> None:
    assert refusal(**augment) == line


def test_the_greatest_magnitude_itself_is_taken() -> None:
    for policy, most in HIGHEST.items():
        recipe = Recipe(epochs=1, augment={"policy": policy, "policy_magnitude": most})
        assert recipe.augment.policy_magnitude == most


def test_another_policy_drops_what_the_base_sets_of_its_own() -> None:
    base = Recipe(epochs=1, augment={"policy": "randaugment_increasing", "policy_magnitude": 7})
    assert load_recipe(base, ["augment.policy=trivial"]).augment.policy_magnitude is None
    other = load_recipe(base, ["augment.policy=randaugment", "augment.policy_ops=3"]).augment
    assert (other.policy_ops, other.policy_magnitude, other.policy_noise) == (3, 9, None)
    kept = load_recipe(base, ["augment.policy=randaugment_increasing"]).augment
    assert kept.policy_magnitude == 7
    assert load_recipe(base, ["augment.erase=0.25"]).augment.policy_magnitude == 7


def test_the_schema_says_the_policies_and_the_defaults_of_each() -> None:
    fields = described_schema(Recipe)["$defs"]["Augment"]["properties"]
    assert fields["policy"]["enum"] == list(POLICIES)
    assert fields["policy_ops"]["defaults"] == {"randaugment": 2, "randaugment_increasing": 2}
    assert "default" not in fields["policy_noise"]
