"""The learning rate of every step, as one float64 array computed once.

No framework's scheduler is used, so all of them step at the same rates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet_spec.describing.schedule import Schedule
from resnet_spec.errors import RecipeError, problem
from resnet_spec.recipe import Recipe

Rates = NDArray[np.float64]
MOST_STEPS = 50_000_000
"""Of a run: at 20 ms a step it takes eleven days, and its rates 400 MB."""
_ENDLESS = 2.0**62
"""Ticks, more than any run has; arrays count in int64."""


def total_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the optimiser steps of the whole run."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * steps_per_epoch


def _check_length(recipe: Recipe, steps: int, per_epoch: int) -> None:
    """Raise RecipeError for more steps than there are numbers kept for, one for each."""
    if steps > MOST_STEPS:
        name = "steps" if recipe.steps is not None else "epochs"
        most = MOST_STEPS // (1 if recipe.steps is not None else per_epoch)
        rule = f"makes {steps:,} steps, and a run has at most {MOST_STEPS:,}"
        raise RecipeError(problem(name, getattr(recipe, name), rule, f"give at most {most}"))


def rates(recipe: Recipe, steps_per_epoch: int) -> Rates:
    """Return the learning rate of each step of the run, float64 [steps].

    Milestones and the periods of `step` count from the start of the run, warm-up included, and the
    other kinds from the end of the warm-up, unless `schedule.counts_from` says otherwise. Where
    `schedule.every` is epoch, a run's last epoch counts whole though it may be cut short. Raises
    RecipeError when warm-up and cool-down are not shorter than the run, or when a peak falls below
    the floor.
    """
    schedule = recipe.schedule
    steps = total_steps(recipe, steps_per_epoch)
    _check_length(recipe, steps, steps_per_epoch)
    if schedule.every == "step":
        return _rates(schedule, steps, steps_per_epoch)
    epochs = -(-steps // steps_per_epoch)
    return np.repeat(_rates(schedule, epochs, 1), steps_per_epoch)[:steps]


def _rates(schedule: Schedule, length: int, per_epoch: int) -> Rates:
    """Return the rates of `length` ticks, of which an epoch has `per_epoch`: steps, or epochs."""
    warmup = ticks(schedule, schedule.warmup, per_epoch)
    cooldown = ticks(schedule, schedule.cooldown, per_epoch)
    _check_fits(schedule, warmup, cooldown, length)
    end = length - cooldown
    first = 0 if schedule.counts_from_start else warmup
    after = np.arange(warmup, end, dtype=np.float64)
    parts = [_rising(schedule, warmup), _main(schedule, after, first, end, per_epoch)]
    return np.concatenate([*parts, np.full(cooldown, schedule.floor)])


def _check_fits(schedule: Schedule, warmup: int, cooldown: int, length: int) -> None:
    """Raise RecipeError where nothing is left between the ends of a schedule."""
    unit = "steps" if schedule.every == "step" else "epochs"
    run, remedy = f"the run ({length} {unit})", "shorten it, or train longer"
    if warmup >= length:
        rule = f"is {warmup} {unit}, and must be shorter than {run}"
        raise RecipeError(problem("schedule.warmup", schedule.warmup, rule, remedy))
    if warmup + cooldown >= length:
        rule = f"is {cooldown} {unit}, and must be shorter than {run} without its warm-up"
        raise RecipeError(problem("schedule.cooldown", schedule.cooldown, rule, remedy))


def _rising(schedule: Schedule, warmup: int) -> Rates:
    """Return the rates of the warm-up, one for each of its ticks."""
    if schedule.warmup_start is None:
        return schedule.rate * np.arange(1, warmup + 1) / max(warmup, 1)
    start = schedule.warmup_start
    return start + (schedule.rate - start) * np.arange(warmup) / max(warmup, 1)


def _main(schedule: Schedule, step: Rates, start: int, end: int, steps_per_epoch: int) -> Rates:
    """Return the rates between warm-up and cool-down, for the absolute numbers `step`.

    start, end: where the kind's own time begins and ends.
    """
    rate, floor = schedule.rate, schedule.floor
    done = (step - start) / (end - start)
    match schedule.kind:
        case "constant":
            return np.full_like(step, rate)
        case "cosine":  # Loshchilov & Hutter 2017, equation 5, without restarts.
            return floor + (rate - floor) * 0.5 * (1.0 + np.cos(np.pi * done))
        case "cosine_restarts":
            return _with_restarts(schedule, step - start, _period(schedule, steps_per_epoch))
        case "linear":
            return rate + (floor - rate) * done
        case "polynomial":
            return floor + (rate - floor) * (1.0 - done) ** schedule.power
        case "step":
            return rate * schedule.gamma ** ((step - start) // _period(schedule, steps_per_epoch))
        case "multi_step":
            places = [ticks(schedule, m, steps_per_epoch) for m in schedule.milestones]
            passed = np.searchsorted(places, step - start, side="right").astype(np.float64)
            return rate * schedule.gamma**passed
        case "one_cycle":
            # Taken at the middle of each step, so that neither end wastes a step at the floor.
            middle = (step + 0.5 - start) / (end - start)
            places = [0.0, schedule.peak, 1.0]
            return np.interp(middle, places, [floor, rate, floor]).astype(np.float64)


def _period(schedule: Schedule, per_epoch: int) -> int:
    """Return `schedule.period` in ticks. Raises RecipeError for one that rounds to none."""
    found = ticks(schedule, schedule.period, per_epoch)
    if found < 1:
        rule = "is less than a step"
        raise RecipeError(problem("schedule.period", schedule.period, rule, "raise it"))
    return found


def _with_restarts(schedule: Schedule, passed: Rates, period: int) -> Rates:
    """Return the cosines that begin again (Loshchilov & Hutter 2017, equation 5).

    passed: ticks since the first one began.
    """
    starts, lengths = [0.0], [float(period)]
    while (following := starts[-1] + lengths[-1]) <= passed[-1]:
        starts.append(following)
        lengths.append(lengths[-1] * schedule.period_factor)
    cycle = np.searchsorted(starts, passed, side="right") - 1
    peak = schedule.rate * schedule.restart_factor ** cycle.astype(np.float64)
    _check_peak(schedule, float(peak[-1]), int(cycle[-1]))
    done = (passed - np.asarray(starts)[cycle]) / np.asarray(lengths)[cycle]
    return schedule.floor + (peak - schedule.floor) * 0.5 * (1.0 + np.cos(np.pi * done))


def _check_peak(schedule: Schedule, peak: float, restarts: int) -> None:
    if peak < schedule.floor:
        factor = schedule.restart_factor
        rule = f"after {restarts} restarts the peak is {peak:.3g}, below schedule.floor"
        remedy = "set a larger factor, a longer period or a lower floor"
        raise RecipeError(problem("schedule.restart_factor", factor, rule, remedy))


def ticks(schedule: Schedule, duration: float, per_epoch: int) -> int:
    """Return a duration in ticks; of what is longer than any run, `_ENDLESS`."""
    found = duration * (per_epoch if schedule.unit == "epochs" else 1)
    return round(min(found, _ENDLESS))
