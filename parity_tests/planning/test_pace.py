"""What each step keeps of the average, beside what the sources' own code keeps."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import RecipeError
from resnet_spec.planning.pace import Pace, keeps
from resnet_spec.recipe import Recipe

PER_EPOCH = 7


def of(epochs: int = 4, **ema: object) -> list[float]:
    found = keeps(Recipe(epochs=epochs, ema={"decay": 0.9, **ema}), PER_EPOCH)
    assert found is not None
    return found.tolist()


def test_a_plain_average_has_no_numbers_of_its_own() -> None:
    for recipe in (Recipe(epochs=1), Recipe(epochs=1, ema={"decay": 0.9})):
        pace = Pace.of(recipe, PER_EPOCH)
        assert pace.keeps is None
        (rates,) = pace.between(2, 4)
        assert rates.tolist() == pace.rates[2:4].tolist()


def test_a_run_s_numbers_are_cut_together() -> None:
    pace = Pace.of(Recipe(epochs=2, ema={"decay": 0.9, "warmup": "count"}), PER_EPOCH)
    rates, kept = pace.between(3, 5)
    assert pace.keeps is not None
    assert (rates.tolist(), kept.tolist()) == (pace.rates[3:5].tolist(), pace.keeps[3:5].tolist())
    assert len(pace.between(3)[1]) == 2 * PER_EPOCH - 3


def test_timm_s_warm_up() -> None:
    def get_decay(step: int) -> float:
        """`ModelEmaV3.get_decay` with use_warmup, told the updates that are done."""
        passed = max(0, step - 0 - 1)
        return 0.0 if passed <= 0 else max(min(1 - (1 + passed / 1.0) ** -(2 / 3), 0.9), 0.0)

    assert of(8, warmup="power") == pytest.approx([get_decay(n) for n in range(1, 57)], abs=1e-15)
    assert of(8, warmup="power")[-1] == 0.9


def test_tensorflow_s_warm_up() -> None:
    iterations = np.arange(1, 4 * PER_EPOCH + 1)
    expected = np.minimum(0.9, (1.0 + iterations) / (10.0 + iterations))
    assert of(warmup="count") == pytest.approx(expected.tolist(), abs=1e-15)


def test_torchvision_s_steps_and_its_warm_up() -> None:
    """`references/classification/train.py`: every 3rd step; copies while n_averaged is set to 0."""
    expected, averaged = list[float](), 0
    for epoch in range(4):
        for i in range(PER_EPOCH):
            if i % 3:
                expected.append(1.0)
                continue
            expected.append(0.9 if averaged else 0.0)
            averaged += 1
            if epoch < 2:
                averaged = 0
    assert of(every=3, start=2.0) == expected


def test_the_power_one_is_the_mean_of_all_steps() -> None:
    drawn = np.random.default_rng(1).normal(size=6)
    average = 100.0
    for keep, weight in zip(of(decay=1.0 - 1e-9, warmup="power", power=1.0), drawn, strict=False):
        average = keep * average + (1.0 - keep) * weight
    assert average == pytest.approx(drawn.mean())


def test_the_start_is_in_the_schedule_s_unit() -> None:
    recipe = Recipe(steps=5, ema={"decay": 0.5, "start": 2}, schedule={"unit": "steps"})
    found = keeps(recipe, PER_EPOCH)
    assert found is not None
    assert found.tolist() == [0.0, 0.0, 0.0, 0.5, 0.5]


def test_an_average_that_starts_after_the_run_is_refused() -> None:
    recipe = Recipe(epochs=2, ema={"decay": 0.9, "start": 2})
    with pytest.raises(RecipeError, match=r"ema\.start = 2.0: is 14 steps, and must be shorter"):
        keeps(recipe, PER_EPOCH)


@pytest.mark.parametrize(
    ("ema", "line"),
    [
        ({"warmup": "power"}, "ema.warmup = power: there is no average; give ema.decay, too"),
        ({"start": 3}, "ema.start = 3.0: there is no average; give ema.decay, too"),
        ({"every": 2}, "ema.every = 2: there is no average; give ema.decay, too"),
        ({"decay": 0.9, "power": 1.0}, "ema.power = 1.0: is read where ema.warmup is power"),
        ({"decay": 0.9, "every": 0}, "ema.every = 0: must be >= 1"),
    ],
)
def test_settings_without_an_effect_are_refused(ema: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError) as told:
        Recipe(epochs=1, ema=ema)
    assert line in str(told.value)


def test_averages_of_the_sources() -> None:
    average = load_recipe("torchvision-v2").ema
    assert 1.0 - average.decay == pytest.approx(2e-5 * 1024 * 32 / 600, rel=1e-9)
    assert (average.every, average.start, average.warmup) == (32, 5.0, "none")
    average = load_recipe("resnet-rs").ema
    assert (average.decay, average.warmup) == (0.9999, "count")
