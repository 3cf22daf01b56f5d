"""The data path without a model: batches of a recipe as fast as they come, beside what trains.

Of CIFAR-shaped images in memory, as many as a turn takes, so that each turn holds one epoch with
the draws for it. A batch is made as `train` makes it, by one thread in the background.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from costing.asking import RECIPE, Setting, say
from resnet_spec.bench import Case
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.results import Measured, Result, Spread
from resnet_spec.benchmarking.rounds import measure
from resnet_spec.data.batches import prefetch, train_batches
from resnet_spec.data.dataset import ArraySplit
from resnet_spec.describing.recipes import load_recipe

HEADS = ("batches", "images/s", "the fastest backend", "its images/s", "times as fast")
_EPOCH = 50
"""Steps of an epoch; a turn has as many unless it is asked for others."""


def crop_flip(case: Case) -> Callable[[int], None]:
    """Return a turn of the recipe's own batches; `bench` takes it for a contestant."""
    return _turn(case, ())


def crop_flip_mixup(case: Case) -> Callable[[int], None]:
    """Return a turn of batches that are mixed."""
    return _turn(case, ("augment.mixup=0.2",))


def crop_flip_cutmix(case: Case) -> Callable[[int], None]:
    """Return a turn of batches with boxes of others in them."""
    return _turn(case, ("augment.cutmix=1.0",))


MAKES = {
    "crop, flip": crop_flip,
    "crop, flip, mixup": crop_flip_mixup,
    "crop, flip, cutmix": crop_flip_cutmix,
}
"""Whose batches are measured, by the name of their row."""


def _turn(case: Case, changes: tuple[str, ...]) -> Callable[[int], None]:
    recipe = load_recipe(RECIPE, [f"batch={case.batch}", *changes])
    given, draws = case.plan.input, np.random.default_rng(0)
    shape = (_EPOCH * case.batch, given.height, given.width, given.channels)
    labels = draws.integers(0, case.classes, shape[0])
    split = ArraySplit(draws.integers(0, 256, shape, dtype=np.uint8), labels, given.height)
    done = 0

    def turn(steps: int) -> None:
        nonlocal done
        source = train_batches(case.plan.noises, split, recipe, done, done + steps, mean=given.mean)
        with prefetch(source, depth=2) as ready:
            count = sum(len(batch) for batch in islice(ready, steps))
        assert count == steps * case.batch, count
        done += steps

    return turn


def measured(setting: Setting) -> Result:
    """Return the result of bench: every backend's session, and every kind of batches."""
    ours = [Entry(name, name) for name in setting.backends]
    paths = [Entry(name, make=f"{__name__}:{make.__name__}") for name, make in MAKES.items()]
    return measure(setting.asked(), [*ours, *paths], tick=say, steps=setting.steps)


def rows(result: Result) -> list[tuple[str, ...]]:
    """Return a row for each kind of batches, held against the fastest session."""
    ours = [one for one in result.measured if one.entry.is_ours]
    if not ours:
        return []
    fastest = max(ours, key=lambda one: result.speed(one).median)
    made: list[tuple[str, ...]] = []
    for one in result.measured:
        if one.entry.is_ours:
            continue
        times = times_as_fast(one, fastest)
        speeds = [f"{result.speed(it).median:.0f}" for it in (one, fastest)]
        text = f"{times.median:.1f} ({times.low:.1f} to {times.high:.1f})"
        made.append((one.name, speeds[0], fastest.name, speeds[1], text))
    return made


def times_as_fast(path: Measured, session: Measured) -> Spread:
    """Return how many steps' batches are made while one step is taken, round by round."""
    return Spread.of([a / b for a, b in zip(session.turns, path.turns, strict=True)])


def plain(result: Result) -> dict[str, Any]:
    """Return plain JSON types, with every turn."""
    return result.to_dict()
