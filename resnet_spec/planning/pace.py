"""What each step of a run goes by: its learning rate, and what it keeps of the moving average.

Both are worked out once, for all steps of a run, so that every framework takes the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import RecipeError, problem
from resnet_spec.planning.schedules import Rates, rates, ticks, total_steps
from resnet_spec.recipe import Recipe

Keeps = NDArray[np.float64]
"""For each step the fraction of the average that is kept, in 0..1: 1 leaves it as it is."""


@dataclass(frozen=True)
class Pace:
    """The numbers of all steps of a run. keeps: None where all keep `recipe.ema.decay`."""

    rates: Rates
    keeps: Keeps | None = None

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Pace:
        """Return those of a recipe's run. Raises RecipeError as `rates` and `keeps` do."""
        return cls(rates(recipe, steps_per_epoch), keeps(recipe, steps_per_epoch))

    def between(self, first: int, end: int | None = None) -> tuple[NDArray[np.float64], ...]:
        """Return what `Session.train` takes beside the batches of the steps from `first` on."""
        found = (self.rates, self.keeps)
        return tuple(array[first:end] for array in found if array is not None)


def keeps(recipe: Recipe, steps_per_epoch: int) -> Keeps | None:
    """Return what each step keeps of the average, float64 [steps]; None where that is `decay`.

    The warm-ups are those of timm's `ModelEmaV3` (use_warmup) and of TensorFlow's
    `ExponentialMovingAverage` (num_updates), `every` and `start` those of torchvision's reference
    (`--model-ema-steps`; the epochs of its warm-up). Raises RecipeError for an average that starts
    after the run.
    """
    average = recipe.ema
    if not average.varies:
        return None
    length = total_steps(recipe, steps_per_epoch)
    start = ticks(recipe.schedule, average.start, steps_per_epoch)
    if start >= length:
        rule = f"is {start} steps, and must be shorter than the run ({length} steps)"
        raise RecipeError(problem("ema.start", average.start, rule, "lower it, or train longer"))
    step = np.arange(length)
    moves = step % steps_per_epoch % average.every == 0
    since = (step - start).astype(np.float64)
    kept = np.minimum(_risen(recipe, np.maximum(since, 0.0)), average.decay)
    if start:
        kept[: start + int(np.argmax(moves[start:])) + 1] = 0.0
    return np.where(moves, kept, 1.0)


def _risen(recipe: Recipe, passed: Keeps) -> Keeps:
    """Return what the warm-up would keep, `passed` steps after the average's first."""
    number = passed + 1.0
    match recipe.ema.warmup:
        case "none":
            return np.full_like(passed, 1.0)
        case "power":
            return 1.0 - number**-recipe.ema.power
        case "count":
            return (1.0 + number) / (10.0 + number)
