"""The learning rate of each step against hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resnet_spec.describing.recipes import load_recipe
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
    rule = r"schedule.warmup = 4.0: is 40 steps, and must be shorter than the run \(40 steps\)"
    with pytest.raises(RecipeError, match=rule):
        rates(recipe(warmup=4.0), 10)


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_a_duration_without_end_is_longer_than_the_run(unit: str) -> None:
    with pytest.raises(
        RecipeError, match=r"warmup = 1e\+308: is 4611686018427387904 steps, and must"
    ):
        rates(recipe(warmup=1e308, unit=unit), 10)
    for endless in (
        {"kind": "step", "period": 1e308},
        {"kind": "multi_step", "milestones": [1e308]},
        {"kind": "cosine_restarts", "period": 1e308},
    ):
        assert rates(recipe(**endless, unit=unit, rate=0.5), 10).tolist() == [0.5] * 40


def test_a_warm_up_that_starts_somewhere_has_that_rate_first_and_the_rate_after_it() -> None:
    schedule = {"rate": 1.0, "warmup": 4, "unit": "steps", "warmup_start": 0.2}
    values = rates(Recipe(steps=6, schedule=schedule), 10)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rel=1e-15)
    schedule["warmup_start"] = 0.0
    values = rates(Recipe(steps=6, schedule=schedule), 10)
    assert values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(("power", "at"), [(1.0, 0.75), (2.0, 0.5625), (0.5, 0.75**0.5)])
def test_polynomial_is_that_of_keras(power: float, at: float) -> None:
    """tf.keras' PolynomialDecay: (rate - end) (1 - step / steps)^power + end."""
    values = rates(recipe(kind="polynomial", rate=1.0, floor=0.2, power=power), 2)
    assert values[0] == 1.0
    assert values[2] == pytest.approx(0.2 + 0.8 * at, rel=1e-15)
    assert values[-1] == pytest.approx(0.2 + 0.8 * 0.125**power, rel=1e-15)


def test_polynomial_of_the_first_power_is_linear() -> None:
    linear = rates(recipe(kind="linear", rate=1.0, floor=0.2), 5)
    assert rates(recipe(kind="polynomial", rate=1.0, floor=0.2), 5) == pytest.approx(linear)


def test_restarts_double_their_length_and_halve_their_peak() -> None:
    schedule = {"kind": "cosine_restarts", "rate": 1.0, "unit": "steps", "period": 2}
    more = {"period_factor": 2, "restart_factor": 0.5, "floor": 0.1}
    values = rates(Recipe(steps=16, schedule={**schedule, **more}), 10)
    assert values[[0, 2, 6, 14]].tolist() == [1.0, 0.5, 0.25, 0.125]
    assert values[1] == pytest.approx(0.55)  # The middle of a cosine is the mean of its ends.
    assert values[4] == pytest.approx(0.3)
    assert values[10] == pytest.approx(0.175)
    quarter = 0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi / 4))
    assert values[3] == pytest.approx(quarter, rel=1e-15)


def test_restarts_count_from_the_end_of_the_warm_up_or_from_the_start() -> None:
    schedule = {"kind": "cosine_restarts", "rate": 1.0, "unit": "steps", "period": 4, "warmup": 2}
    values = rates(Recipe(steps=8, schedule=schedule), 10)
    assert values[[1, 2, 6]].tolist() == [1.0, 1.0, 1.0]
    values = rates(Recipe(steps=8, schedule={**schedule, "counts_from": "start"}), 10)
    assert values[[1, 4]].tolist() == [1.0, 1.0]
    assert values[[2, 6]] == pytest.approx([0.5, 0.5])


def test_a_peak_below_the_floor_is_refused() -> None:
    schedule = {"kind": "cosine_restarts", "rate": 1.0, "floor": 0.3, "restart_factor": 0.5}
    assert rates(recipe(**schedule, period=2), 5).min() > 0.3
    rule = r"schedule.restart_factor = 0.5: after 3 restarts the peak is 0.125, below"
    with pytest.raises(RecipeError, match=rule):
        rates(recipe(**schedule, period=1), 5)


def test_timm_s_default_counts_from_the_start_and_cools_down() -> None:
    """timm 1.0: --sched cosine --epochs 8 --warmup-epochs 2 --cooldown-epochs 2, min_lr 0.1.

    Epoch e has warmup_lr + e (lr - warmup_lr) / 2 below 2, then min_lr + (lr - min_lr) / 2
    (1 + cos(pi e / 8)), and min_lr from 8 on.
    """
    schedule = {"kind": "cosine", "rate": 0.5, "floor": 0.1, "warmup": 2, "warmup_start": 0.01}
    more = {"counts_from": "start", "cooldown": 2, "every": "epoch"}
    values = rates(Recipe(epochs=10, schedule={**schedule, **more}), 3)
    cosines = [0.1 + 0.2 * (1 + math.cos(math.pi * epoch / 8)) for epoch in range(2, 8)]
    expected = [0.01, 0.255, *cosines, 0.1, 0.1]
    assert values == pytest.approx(np.repeat(expected, 3), rel=1e-14)


def test_torchvision_s_recipes() -> None:
    """references/classification: V1 StepLR(30, 0.1); V2 LinearLR(0.01, 5), then CosineAnnealingLR.

    V2, 600 epochs of rate 0.5: epoch e has 0.5 (0.01 + 0.99 e / 5) below 5, then 0.25 (1 + cos(pi
    (e - 5) / 595)).
    """
    schedule = {"kind": "step", "rate": 0.1, "period": 30, "every": "epoch"}
    values = rates(Recipe(epochs=90, schedule=schedule), 2)
    assert values == pytest.approx(np.repeat([0.1, 0.01, 0.001], 60), rel=1e-14)
    schedule = {"kind": "cosine", "rate": 0.5, "warmup": 5, "warmup_start": 0.005, "every": "epoch"}
    values = rates(Recipe(epochs=600, schedule=schedule), 2)
    rising = [0.5 * (0.01 + 0.99 * epoch / 5) for epoch in range(5)]
    falling = [0.25 * (1 + math.cos(math.pi * (epoch - 5) / 595)) for epoch in range(5, 600)]
    assert values == pytest.approx(np.repeat([*rising, *falling], 2), rel=1e-12)


def test_a_run_in_steps_may_end_within_an_epoch_of_one_rate() -> None:
    schedule = {"kind": "linear", "rate": 1.0, "every": "epoch"}
    assert rates(Recipe(steps=5, schedule=schedule), 3).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_rates_that_change_with_each_epoch_are_those_of_epochs_of_one_step() -> None:
    schedule = {"kind": "one_cycle", "rate": 1.0, "floor": 0.1, "warmup": 1, "cooldown": 1}
    by_epoch = rates(recipe(**schedule, every="epoch"), 4)
    assert by_epoch.tolist() == np.repeat(rates(recipe(**schedule), 1), 4).tolist()


def test_the_kinds_that_were_there_first_keep_their_numbers() -> None:
    """To the last bit, with all that they do not read at its default."""
    step, warmup = np.arange(6.0, 28.0), 0.37 * np.arange(1, 7) / 6
    done = (step - 6) / 22
    falling = {
        "cosine": 0.01 + (0.37 - 0.01) * 0.5 * (1.0 + np.cos(np.pi * done)),
        "linear": 0.37 + (0.01 - 0.37) * done,
        "step": 0.37 * 0.3 ** (step // 14),
    }
    for kind, values in falling.items():
        schedule = {"kind": kind, "rate": 0.37, "floor": 0.01, "gamma": 0.3}
        found = rates(recipe(**schedule, warmup=0.9, period=2), 7)
        assert found.tolist() == [*warmup, *values], kind


def test_no_time_between_warm_up_and_cool_down_is_refused() -> None:
    schedule = {"kind": "cosine", "warmup": 2.0, "cooldown": 2.0}
    rule = r"schedule.cooldown = 2.0: is 20 steps, and must be shorter than the run \(40 steps\)"
    with pytest.raises(RecipeError, match=rule):
        rates(recipe(**schedule), 10)
    with pytest.raises(RecipeError, match=r"the run \(4 epochs\) without"):
        rates(recipe(**schedule, every="epoch"), 10)


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        (
            {"kind": "cosine", "power": 2.0},
            "schedule.power = 2.0: cosine has no power; "
            "remove it, or take a kind that has it: polynomial",
        ),
        ({"kind": "step", "period_factor": 2.0}, "step has no period_factor"),
        ({"kind": "cosine", "restart_factor": 0.5}, "cosine has no restart_factor"),
        ({"kind": "step", "cooldown": 1.0}, "step has no cooldown"),
        ({"kind": "one_cycle", "counts_from": "start"}, "one_cycle has no counts_from"),
        ({"warmup_start": 0.01}, "schedule.warmup_start = 0.01: there is no warm-up to start"),
        (
            {"warmup_start": 0.2, "warmup": 1},
            "schedule.warmup_start = 0.2: must be <= schedule.rate = 0.1",
        ),
        (
            {"every": "epoch", "unit": "steps"},
            "schedule.every = epoch: goes only with schedule.unit = epochs",
        ),
        (
            {"every": "epoch", "warmup": 1.5},
            "schedule.warmup = 1.5: must be whole epochs where schedule.every is epoch",
        ),
        (
            {"every": "epoch", "kind": "multi_step", "milestones": [1, 2.5]},
            "schedule.milestones = 2.5: must be whole epochs",
        ),
        ({"kind": "cosine_restarts", "period_factor": 0.5}, "period_factor = 0.5: must be >= 1"),
    ],
)
def test_what_is_refused(schedule: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**schedule)
    assert line in str(caught.value)
    assert len(caught.value.problems) == 1


def test_settings_that_were_there_before_may_lie_unread() -> None:
    kept = recipe(kind="cosine", milestones=[1, 2], period=2.5, gamma=0.5, every="epoch")
    assert len(rates(kept, 5)) == 20


@pytest.mark.parametrize("kind", ["step", "cosine_restarts"])
def test_a_period_that_rounds_to_no_step_is_refused(kind: str) -> None:
    recipe = Recipe(epochs=2, schedule={"kind": kind, "period": 0.04})
    with pytest.raises(RecipeError, match=r"schedule\.period = 0\.04: is less than a step"):
        rates(recipe, 10)


def test_a_run_of_more_steps_than_there_can_be_numbers_for_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"steps = 1000000000: makes 1,000,000,000 steps, and a"):
        rates(Recipe(steps=1_000_000_000), 10)
    with pytest.raises(RecipeError, match=r"epochs = 1000000: makes 1,000,000,000 steps"):
        rates(Recipe(epochs=1_000_000), 1000)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("steps=50000001", "steps = 50000001: makes 50,000,001 steps"),
        ("epochs=2272728", "epochs = 2272728: makes 50,000,016 steps"),
    ],
)
def test_a_run_that_is_too_long_is_told_how_long_one_may_be(setting: str, line: str) -> None:
    """In its own unit; what is told is then taken."""
    with pytest.raises(RecipeError) as caught:
        rates(load_recipe("demo", setting), 22)
    said, _, most = str(caught.value).partition("; give at most ")
    assert said == f"{line}, and a run has at most 50,000,000"
    name, value = setting.split("=")
    assert int(most) == int(value) - 1
    assert total_steps(load_recipe("demo", f"{name}={most}"), 22) <= 50_000_000
