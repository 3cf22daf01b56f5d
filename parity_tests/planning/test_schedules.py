"""The learning rate of each step against hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resnet_spec.errors import RecipeError
from resnet_spec.planning.schedules import rates, total_steps
from resnet_spec.recipe import Recipe


def recipe(**schedule: object) -> Recipe:
    return Recipe(epochs=4, schedule=schedule)


def test_epochs_and_steps_give_the_length() -> None:
    assert total_steps(recipe(), 25) == 100
    assert total_steps(Recipe(steps=7), 25) == 7
    assert rates(recipe(), 25).shape == (100,)


def test_rates_are_float64() -> None:
    assert rates(recipe(kind="cosine"), 5).dtype == np.float64


def test_constant() -> None:
    assert rates(recipe(rate=0.3), 2).tolist() == [0.3] * 8


def test_cosine_starts_at_the_rate_is_half_way_in_the_middle_and_never_passes_the_floor() -> None:
    values = rates(recipe(kind="cosine", rate=1.0, floor=0.2), 10)
    assert values[0] == 1.0
    assert values[20] == pytest.approx(0.6, abs=1e-15)
    assert values[30] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(0.75 * math.pi)), abs=1e-15)
    assert 0.2 < values[-1] < 0.21


def test_linear() -> None:
    values = rates(recipe(kind="linear", rate=1.0), 1)
    assert values.tolist() == [1.0, 0.75, 0.5, 0.25]


def test_step_and_multi_step_fall_at_their_first_step() -> None:
    values = rates(recipe(kind="step", rate=1.0, period=2, gamma=0.5), 3)
    assert values.tolist() == [1.0] * 6 + [0.5] * 6
    values = rates(recipe(kind="multi_step", rate=1.0, milestones=[1, 3], gamma=0.5), 3)
    assert values.tolist() == [1.0] * 3 + [0.5] * 6 + [0.25] * 3


def test_milestones_in_steps() -> None:
    schedule = {"kind": "multi_step", "rate": 0.1, "unit": "steps", "milestones": [2, 4]}
    values = rates(Recipe(steps=6, schedule=schedule), 1000)
    assert values == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-15)


def test_warmup_rises_to_the_rate_and_milestones_still_count_from_the_start() -> None:
    schedule = {"kind": "multi_step", "rate": 1.0, "warmup": 1, "milestones": [2], "gamma": 0.5}
    assert rates(recipe(**schedule), 4).tolist() == ([0.25, 0.5, 0.75, 1.0] + [1.0] * 4 + [0.5] * 8)


def test_one_cycle_peaks_where_it_should_and_is_symmetric_about_its_legs() -> None:
    values = rates(recipe(kind="one_cycle", rate=1.0, floor=0.0, peak=0.25), 4)
    assert values[:4] == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert values[4:] == pytest.approx(1 - (np.arange(12) + 0.5) / 12)


def test_warmup_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"schedule.warmup = 4.0: must be shorter than the run"):
        rates(recipe(warmup=4.0), 10)
