"""Which images a run chooses its best epoch by: held out, the dataset's own part, or the test's."""

from __future__ import annotations

from typing import NamedTuple

from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import OPTION, HeldOut, hold_out
from resnet_spec.data.splits import TEST
from resnet_spec.errors import DataError, RecipeError, problem
from resnet_spec.recipe import Recipe
from resnet_spec.running.runs import Run


class Validated(NamedTuple):
    """Data with the images to choose by in `data.validation`.

    read: its identity as it was read; None: it is that of `data`. held_out: which images they are;
    None: there are none.
    """

    data: Dataset
    read: Fingerprint | None = None
    held_out: HeldOut | None = None


def validated(
    data: Dataset, fraction: float | None, recipe: Recipe, place: str | None
) -> Validated:
    """Return `data` with `fraction` of its training images held out, or with its own part.

    place: where it was read, as a person wrote it; None: it was made in Python. Raises DataError
    where both are there, or as `hold_out` does, and RecipeError for a run that would end early and
    has neither.
    """
    if data.validation is None:
        _check_stopping(recipe, fraction)
        if fraction is None:
            return Validated(data)
        parted, held_out = hold_out(data, fraction, recipe.batch)
        return Validated(parted, Fingerprint.of(data), held_out)
    if fraction is not None:
        name = data.name if place is None else place
        rule = f"{name} has a validation part of its own ({len(data.validation)} images)"
        other = "make it without that" if place is None else f"write {place}@{TEST}"
        remedy = f"leave it out, or {other} to hold out others"
        raise DataError(problem(OPTION, fraction, rule, remedy))
    return Validated(data, held_out=HeldOut.own(Fingerprint.of(data, ("validation",))))


def own_part_note(run: Run) -> str | None:
    """Return a line on what the run looks at where its validation images are the data's own."""
    held = run.held_out
    if held is None or held.fraction is not None:
        return None
    own = f"the validation part of {run.data.name} ({held.count} images)"
    return f"each epoch is evaluated on {own}; the test images are looked at once, at the end"


def _check_stopping(recipe: Recipe, fraction: float | None) -> None:
    patience = recipe.early_stopping.patience
    if patience and fraction is None:
        rule = "needs validation images: by the test images the end would be chosen, too"
        remedy = f"add {OPTION} F, as 0.1"
        raise RecipeError(problem("early_stopping.patience", patience, rule, remedy))
