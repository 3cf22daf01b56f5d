"""What policies, jitter and erasing choose: magnitudes by hand, frequencies, and pinned draws."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from resnet_spec.data.augmenting import choices_of
from resnet_spec.data.augmenting.applying import box_of
from resnet_spec.data.augmenting.choices import Choice
from resnet_spec.data.augmenting.erasing import erased_box
from resnet_spec.data.augmenting.operations import OPERATIONS
from resnet_spec.data.augmenting.policies import chosen
from resnet_spec.data.augmenting.searched import CIFAR10, IMAGENET
from resnet_spec.describing.image_changes import POLICIES
from resnet_spec.recipe import Augment

FOURTEEN = [
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
]
FIFTEEN = [
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "colour",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
]
PLAIN = ("identity", "auto_contrast", "equalize", "invert")
UP, DOWN = 0.75, 0.25


def make(**settings: Any) -> Augment:
    return Augment(**settings)


def place(names: list[str], name: str) -> float:
    """Return the number that picks `name` of equally likely ones."""
    return (names.index(name) + 0.5) / len(names)


def sample_of(augment: Augment, count: int, size: int = 32) -> list[tuple[Choice, ...]]:
    return [choices_of(augment, 5, 0, sample, size) for sample in range(count)]


@pytest.mark.parametrize(
    ("operation", "half", "full"),
    [
        ("shear_x", 0.495, 0.99),
        ("shear_y", 0.495, 0.99),
        ("translate_x", 16, 32),
        ("translate_y", 16, 32),
        ("rotate", 67.5, 135),
        ("posterize", 5, 2),
        ("solarize", 127.5, 0),
        ("brightness", 1.495, 1.99),
        ("colour", 1.495, 1.99),
        ("contrast", 1.495, 1.99),
        ("sharpness", 1.495, 1.99),
        *((name, 0, 0) for name in PLAIN[:3]),
    ],
)
def test_trivial_augment_is_wide(operation: str, half: float, full: float) -> None:
    """31 strengths; half of those with a direction go the other way."""
    changes, which = make(policy="trivial"), place(FOURTEEN, operation)
    for drawn, expected in ((0.5, half), (31 / 31 - 1e-9, full)):
        assert chosen(changes, (which, drawn, UP), 224) == (Choice(operation, expected),)
        ((found, magnitude, _),) = chosen(changes, (which, drawn, DOWN), 224)
        other = {"posterize": expected, "solarize": expected}.get(
            found, 2 - expected if expected > 1 and found in FOURTEEN[6:10] else -expected
        )
        assert magnitude == pytest.approx(other)
    weakest = chosen(changes, (which, 0.0, UP), 224)[0].magnitude
    assert weakest == {"posterize": 8, "solarize": 255}.get(
        operation, 1 if operation in FOURTEEN[6:10] else 0
    )


def test_a_right_angle_and_whole_thresholds_are_just_that() -> None:
    changes = make(policy="trivial")
    assert chosen(changes, (place(FOURTEEN, "rotate"), 20.5 / 31, UP), 32)[0].magnitude == 90.0
    for k in range(31):
        drawn = (place(FOURTEEN, "solarize"), (k + 0.5) / 31, UP)
        assert chosen(changes, drawn, 32)[0].magnitude == 255 - 8.5 * k


RANDAUGMENT_9 = {
    "shear_x": 0.09,
    "shear_y": 0.09,
    "translate_x": 30,  # 150 / 331 of 224 pixels, times 0.3: 30.45.
    "translate_y": 30,
    "rotate": 9,
    "brightness": 1.27,
    "colour": 1.27,
    "contrast": 1.27,
    "sharpness": 1.27,
    "posterize": 7,
    "solarize": 178.5,
}


def test_randaugment_has_one_strength() -> None:
    changes = make(policy="randaugment")
    for first, second in product(FOURTEEN, ("rotate", "brightness")):
        drawn = (place(FOURTEEN, first), UP, place(FOURTEEN, second), DOWN)
        found = chosen(changes, drawn, 224)
        assert found[0] == Choice(first, RANDAUGMENT_9.get(first, 0))
        assert found[1] == Choice(second, -9 if second == "rotate" else 0.73)
    one = make(policy="randaugment", policy_ops=1, policy_magnitude=30)
    assert chosen(one, (place(FOURTEEN, "posterize"), UP), 32) == (Choice("posterize", 4),)
    assert chosen(one, (place(FOURTEEN, "translate_x"), UP), 32) == (Choice("translate_x", 14),)


@pytest.mark.parametrize(
    ("operation", "at_7", "at_10"),
    [
        ("rotate", 21, 30),
        ("shear_x", 0.21, 0.3),
        ("shear_y", 0.21, 0.3),
        ("translate_x", 31.5, 45),
        ("translate_y", 31.5, 45),
        ("colour", 1.63, 1.9),
        ("contrast", 1.63, 1.9),
        ("brightness", 1.63, 1.9),
        ("sharpness", 1.63, 1.9),
        ("posterize", 2, 0),
        ("solarize", 77, 0),
        ("solarize_add", 77, 110),
        *((name, 0, 0) for name in PLAIN[1:]),
    ],
)
def test_increasing_randaugment(operation: str, at_7: float, at_10: float) -> None:
    """Images of 100 pixels; the noise is off."""
    which = place(FIFTEEN, operation)
    for level, expected in ((7, at_7), (10, at_10)):
        changes = make(
            policy="randaugment_increasing", policy_magnitude=level, policy_noise=0.0, policy_ops=1
        )
        ((found, magnitude, filter),) = chosen(changes, (which, 0.2, 0.9, UP, DOWN), 100)
        assert (found, filter) == (operation, "bilinear")
        assert magnitude == pytest.approx(expected, rel=1e-12)
        ((_, other, filter),) = chosen(changes, (which, 0.2, 0.9, DOWN, UP), 100)
        assert filter == "bicubic"
        if operation in FIFTEEN[7:11]:
            assert other == pytest.approx(2 - expected)
        elif operation in ("rotate", *FIFTEEN[11:]):
            assert other == -magnitude
        else:
            assert other == magnitude
        assert chosen(changes, (which, 0.5, 0.9, UP, UP), 100) == ()


def test_the_noise_of_a_magnitude_is_normal_and_ends_at_0_and_10() -> None:
    def rotations(magnitude: int, noise: float) -> np.ndarray[Any, Any]:
        changes = make(
            policy="randaugment_increasing",
            policy_ops=1,
            policy_magnitude=magnitude,
            policy_noise=noise,
            policy_probability=1.0,
        )
        which = place(FIFTEEN, "rotate")
        drawn = [(which, 0.0, (i + 0.5) / 2000, UP, UP) for i in range(2000)]
        return np.array([chosen(changes, row, 32)[0].magnitude / 3 for row in drawn])

    levels = rotations(7, 0.5)
    assert levels.mean() == pytest.approx(7, abs=1e-3)
    assert levels.std() == pytest.approx(0.5, rel=5e-3)
    assert np.all(np.diff(levels) >= 0)
    assert abs(levels * 4096 - np.rint(levels * 4096)).max() < 1e-9
    wide = rotations(9, 5.0)
    assert (wide.min(), wide.max()) == (0.0, 10.0)
    assert set(rotations(3, 0.0)) == {3.0}


def test_a_noise_of_0_in_its_draw_is_far_below_and_no_fault() -> None:
    changes = make(policy="randaugment_increasing", policy_ops=1, policy_noise=0.5)
    drawn = (place(FIFTEEN, "rotate"), 0.0, 0.0, UP, UP)
    assert 0 < chosen(changes, drawn, 32)[0].magnitude < 3 * (9 - 4)


def test_searched_pairs() -> None:
    """The first are invert 0.1, contrast 0.2 at 6; posterize 0.4 at 8, rotate 0.6 at 9 of 9."""
    cifar, imagenet = make(policy="autoaugment_cifar10"), make(policy="autoaugment_imagenet")
    both = (Choice("invert"), Choice("contrast", 1.6))
    assert chosen(cifar, (0.0, 0.05, UP, 0.1, UP), 32) == both
    assert chosen(cifar, (0.0, 0.1, UP, 0.1, DOWN), 32) == (Choice("contrast", 0.4),)
    assert chosen(cifar, (0.0, 0.1, UP, 0.2, UP), 32) == ()
    assert chosen(imagenet, (0.0, 0.3, UP, 0.5, DOWN), 32) == (
        Choice("posterize", 4),
        Choice("rotate", -30),
    )
    # The last pair of CIFAR-10: translate_y 0.7 at 9: 150 / 331 of 32 pixels are 14.5.
    assert chosen(cifar, (0.999, 0.0, DOWN, 0.0, UP), 32) == (
        Choice("translate_y", -14),
        Choice("auto_contrast"),
    )


@pytest.mark.parametrize("pairs", [CIFAR10, IMAGENET])
def test_tables_of_pairs_are_whole(pairs: Any) -> None:
    assert len(pairs) == 25
    for operation, probability, level in (step for pair in pairs for step in pair):
        assert operation in OPERATIONS
        assert 0 <= probability <= 1 and 0 <= level <= 9


@pytest.mark.parametrize(
    ("settings", "names", "each"),
    [
        ({"policy": "trivial"}, FOURTEEN, 1),
        ({"policy": "randaugment", "policy_ops": 3}, FOURTEEN, 3),
        ({"policy": "randaugment_increasing", "policy_ops": 4}, FIFTEEN, 2),
    ],
)
def test_operations_are_equally_frequent(
    settings: dict[str, Any], names: list[str], each: float
) -> None:
    """each: how many an image has on average."""
    found = Counter(it.operation for choices in sample_of(make(**settings), 3000) for it in choices)
    assert set(found) == set(names)
    mean = 3000 * each / len(names)
    assert all(abs(count - mean) < 5 * np.sqrt(mean) for count in found.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_magnitudes_stay_in_their_ranges(policy: str) -> None:
    limits = {
        "rotate": (-135, 135),
        "posterize": (0, 8),
        "solarize": (0, 256),
        "solarize_add": (0, 110),
        "shear_x": (-0.99, 0.99),
        "translate_x": (-32, 32),
        **dict.fromkeys(FOURTEEN[6:10], (0.01, 1.99)),
    }
    for choices in sample_of(make(policy=policy), 500):
        for operation, magnitude, _ in choices:
            low, high = limits.get(operation.replace("_y", "_x"), (0, 0))
            assert low <= magnitude <= high, operation


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_draws_are_by_seed_epoch_and_sample(policy: str) -> None:
    augment = make(policy=policy, brightness=0.4)
    base = [choices_of(augment, 1, 2, sample, 32) for sample in range(40)]
    assert base == [choices_of(augment, 1, 2, sample, 32) for sample in range(40)]
    assert base != [choices_of(augment, 2, 2, sample, 32) for sample in range(40)]
    assert base != [choices_of(augment, 1, 3, sample, 32) for sample in range(40)]
    assert len(set(base)) == 40


PINNED = {
    "trivial": "rotate 54 | shear_y 0.198 | shear_y 0.495",
    "randaugment": "rotate -9, solarize 178.5 | "
    "shear_y -0.09, contrast 1.27 | "
    "shear_y -0.09, sharpness 0.73",
    "randaugment_increasing": "solarize_add 104 | invert, colour 1.806 | invert, posterize 1",
    "autoaugment_cifar10": "colour 1.7, translate_x 12 | shear_y 0.2667 | auto_contrast, equalize",
    "autoaugment_imagenet": "rotate 26.67, colour 1 | posterize 5 | solarize 141.7",
}


@pytest.mark.parametrize("policy", PINNED)
def test_the_choices_are_pinned(policy: str) -> None:
    """A change here changes what every recorded seed means."""
    found = [choices_of(make(policy=policy), 1, 2, sample, 32) for sample in (3, 7, 49_998)]
    assert " | ".join(", ".join(map(str, choices)) for choices in found) == PINNED[policy]


def test_a_choice_says_its_magnitude_where_it_has_one() -> None:
    weakest = chosen(make(policy="trivial"), (place(FOURTEEN, "rotate"), 0.0, DOWN), 32)[0]
    assert str(weakest) == "rotate 0"
    assert str(Choice("solarize", 0.0)) == "solarize 0"
    assert str(Choice("shear_x", -0.0330001)) == "shear_x -0.033"
    assert [str(Choice(name)) for name in PLAIN] == list(PLAIN)


def test_jitter_is_pinned() -> None:
    found = choices_of(make(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1), 1, 2, 7, 32)
    assert ", ".join(map(str, found)) == (
        "contrast 0.722, brightness 1.185, hue 0.03775, colour 1.191"
    )


def test_jitter_has_its_ranges_and_every_order() -> None:
    augment = make(brightness=0.4, contrast=2.0, saturation=0.2, hue=0.1)
    found = sample_of(augment, 1500)
    ranges = {
        "brightness": (0.6, 1.4),
        "contrast": (0, 3),
        "colour": (0.8, 1.2),
        "hue": (-0.1, 0.1),
    }
    for name, (low, high) in ranges.items():
        values = [it.magnitude for choices in found for it in choices if it.operation == name]
        assert len(values) == 1500 and min(values) >= low and max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
        assert np.ptp(values) > 0.98 * (high - low)
    orders = Counter(tuple(it.operation for it in choices) for choices in found)
    assert len(orders) == 24 and max(orders.values()) < 2 * 1500 / 24
    assert [it.operation for it in choices_of(make(hue=0.5), 0, 0, 0, 32)] == ["hue"]


def test_policy_and_jitter_do_not_depend_on_each_other() -> None:
    policy, jitter = choices_of(make(policy="trivial"), 0, 0, 3, 32), {"brightness": 0.4}
    both = choices_of(make(policy="trivial", **jitter), 0, 0, 3, 32)
    assert both == policy + choices_of(make(**jitter), 0, 0, 3, 32)


def test_erased_boxes_lie_in_the_image_and_have_their_areas() -> None:
    boxes = [box_of(make(erase=0.25), 3, 1, sample, 40) for sample in range(4000)]
    found = [box for box in boxes if box is not None]
    assert len(found) == pytest.approx(1000, abs=5 * np.sqrt(750))
    for top, left, height, width in found:
        assert 0 <= top <= 40 - height and 0 <= left <= 40 - width
        assert 0 < height < 40 and 0 < width < 40
    areas = np.array([box.height * box.width / 1600 for box in found])
    assert areas.min() > 0.015 and 0.3 < areas.max() < 0.35
    assert areas.mean() == pytest.approx(0.17, abs=0.02)
    ratios = np.array([box.height / box.width for box in found if box.height * box.width > 200])
    assert ratios.min() > 0.25 and ratios.max() < 4.0
    assert ratios.min() < 0.4 and ratios.max() > 2.5
    assert all(box_of(make(erase=1.0), 3, 1, sample, 40) for sample in range(100))
    assert box_of(make(), 3, 1, 0, 40) is None
    assert box_of(make(erase=1.0), 3, 1, 0, 1) is None  # It would be smaller than a pixel.


def test_erased_boxes_are_pinned() -> None:
    found = [box_of(make(erase=1.0), 1, 2, sample, 32) for sample in (3, 7, 49_998)]
    assert found == [(14, 9, 17, 11), (15, 5, 11, 24), (2, 5, 8, 18)]


def test_the_first_box_that_fits_counts_and_none_where_all_ten_fail() -> None:
    """The largest and tallest is 1.04 times as high as the image."""
    none = [0.0] + [0.9999, 0.9999] * 10 + [0.5, 0.999]
    assert erased_box(60, 60, 0.1, none) is None
    last = [0.0] + [0.9999, 0.9999] * 9 + [0.5, 0.5] + [0.5, 0.999]
    # Aspect 0.995: round(sqrt(0.175 x 3600 x 0.995)) = round(sqrt(0.175 x 3600 / 0.995)) = 25.
    assert erased_box(60, 60, 0.1, last) == (18, 35, 25, 25)
    assert erased_box(60, 60, 0.1, [0.1, *last[1:]]) is None
