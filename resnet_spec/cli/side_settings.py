"""`--set` of `parity` and `bisect`: what of it changes the spec, and what the recipe."""

from __future__ import annotations

import argparse

from resnet_spec.errors import RecipeError

_OPTIONS = {"steps": "--steps", "batch": "--batch", "precision": "--precision"}
"""What says it of a comparison."""
_MIXING = ("augment.mixup", "augment.cutmix", "augment.switch_probability")
"""What of a recipe's `augment` comparisons keep (see `parity.setup.shortened`)."""
_NOT_COMPARED = (
    *("epochs", "schedule", "seed", "evaluation", "early_stopping"),
    *("evaluate_every", "checkpoint_every", "augment"),
)
_OF_THE_LOSS = ("loss", "label_smoothing", "augment")
"""What of a recipe `--against` looks at: what is left of `augment` mixes images."""


def with_settings_sorted(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the spec's `settings`, and the recipe's in `recipe_settings`.

    Raises RecipeError for a recipe's without --recipe, for one that a comparison does not look at,
    and for a key that neither has.
    """
    from resnet_spec.describing.spec import Spec
    from resnet_spec.describing.split_settings import sorted_settings

    given = list(args.settings)
    if args.recipe is None:  # `name` is a spec's, too.
        given = [f"spec.{it}" if _key(it) in Spec.model_fields else it for it in given]
    for_recipe, for_spec = sorted_settings(given)
    for setting in for_recipe:
        _check_compared(setting)
        if args.recipe is None:
            rule = "is of a recipe, and comparisons have their own"
            raise RecipeError(f"--set {setting}: {rule}; give --recipe, too")
        if args.against is not None and _key(setting) not in _OF_THE_LOSS:
            rule = "a network of your own is compared by the loss of a recipe alone"
            raise RecipeError(f"--set {setting}: {rule}; leave it out with --against")
    changed = {"settings": for_spec, "recipe_settings": for_recipe}
    return argparse.Namespace(**{**vars(args), **changed})


def _check_compared(setting: str) -> None:
    key = _key(setting)
    if key in _OPTIONS:
        rule = f"comparisons have their own {key}; use {_OPTIONS[key]}"
        raise RecipeError(f"--set {setting}: {rule}")
    is_mixing = setting.partition("=")[0].strip() in _MIXING
    if key in _NOT_COMPARED and not is_mixing:
        raise RecipeError(f"--set {setting}: is not compared; leave it out")


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip().split(".")[0].split("[")[0]
