"""Settings, `key=value` texts, of which some are for the recipe and some for the spec."""

from __future__ import annotations

from resnet_spec.describing.spec import Spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import RecipeError, did_you_mean
from resnet_spec.recipe import Recipe


def sorted_settings(settings: Texts) -> tuple[list[str], list[str]]:
    """Part settings into the recipe's and the spec's, by the table that knows their first key.

    `recipe.` and `spec.` before a key force it. Raises RecipeError for a key that neither knows.
    """
    for_recipe: list[str] = []
    for_spec: list[str] = []
    for setting in listed(settings, "settings", RecipeError):
        owner, _, rest = setting.partition(".")
        key = setting.partition("=")[0].split(".")[0].split("[")[0].strip()
        if owner in ("recipe", "spec"):
            (for_recipe if owner == "recipe" else for_spec).append(rest)
        elif key in Recipe.model_fields:
            for_recipe.append(setting)
        elif key in Spec.model_fields:
            for_spec.append(setting)
        else:
            known = [*Recipe.model_fields, *Spec.model_fields]
            hint = did_you_mean(key, known) or "see: resnet-spec schema"
            raise RecipeError(f"--set {setting}: unknown key '{key}'; {hint}")
    return for_recipe, for_spec
