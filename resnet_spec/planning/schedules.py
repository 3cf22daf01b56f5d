"""The learning rate of every step, as one float64 array computed once.

No framework's scheduler is used, so all of them step at the same rates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import RecipeError, problem
from resnet_spec.recipe import Recipe, Schedule

Rates = NDArray[np.float64]


def total_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the optimiser steps of the whole run."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * steps_per_epoch


def rates(recipe: Recipe, steps_per_epoch: int) -> Rates:
    """Return the learning rate of each step of the run, float64 [steps].

    Milestones and periods count from the start of the run, warm-up included. Raises RecipeError
    when the warm-up is not shorter than the run.
    """
    schedule = recipe.schedule
    steps = total_steps(recipe, steps_per_epoch)
    warmup = _in_steps(schedule, schedule.warmup, steps_per_epoch)
    if warmup >= steps:
        rule = f"must be shorter than the run ({steps} steps)"
        raise RecipeError(problem("schedule.warmup", schedule.warmup, rule))
    rising = schedule.rate * np.arange(1, warmup + 1) / max(warmup, 1)
    after = np.arange(warmup, steps, dtype=np.float64)
    return np.concatenate([rising, _main(schedule, after, warmup, steps, steps_per_epoch)])


def _main(schedule: Schedule, step: Rates, start: int, end: int, steps_per_epoch: int) -> Rates:
    """Return the rates after the warm-up, for the absolute numbers `step` in [start, end)."""
    rate, floor = schedule.rate, schedule.floor
    done = (step - start) / (end - start)
    match schedule.kind:
        case "constant":
            return np.full_like(step, rate)
        case "cosine":  # Loshchilov & Hutter 2017, equation 5, without restarts.
            return floor + (rate - floor) * 0.5 * (1.0 + np.cos(np.pi * done))
        case "linear":
            return rate + (floor - rate) * done
        case "step":
            period = max(_in_steps(schedule, schedule.period, steps_per_epoch), 1)
            return rate * schedule.gamma ** (step // period)
        case "multi_step":
            places = [_in_steps(schedule, m, steps_per_epoch) for m in schedule.milestones]
            passed = np.searchsorted(places, step, side="right").astype(np.float64)
            return rate * schedule.gamma**passed
        case "one_cycle":
            # Taken at the middle of each step, so that neither end wastes a step at the floor.
            middle = (step + 0.5 - start) / (end - start)
            places = [0.0, schedule.peak, 1.0]
            return np.interp(middle, places, [floor, rate, floor]).astype(np.float64)


def _in_steps(schedule: Schedule, duration: float, steps_per_epoch: int) -> int:
    return round(duration * (steps_per_epoch if schedule.unit == "epochs" else 1))
