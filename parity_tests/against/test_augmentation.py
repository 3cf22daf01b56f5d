"""Operations, ranges and tables of augmentation against torchvision's and timm's own.

Both work on Pillow's images here, too, so every pixel is compared for equality.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_packages import package

from resnet_spec.data.augmenting.choices import Choice
from resnet_spec.data.augmenting.operations import applied
from resnet_spec.data.augmenting.policies import chosen
from resnet_spec.data.augmenting.searched import CIFAR10, IMAGENET
from resnet_spec.recipe import Augment

SIZE = 41
THEIRS = {
    "Identity": "identity",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "colour",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "SolarizeAdd": "solarize_add",
    "AutoContrast": "auto_contrast",
    "Equalize": "equalize",
    "Invert": "invert",
}
FILL = {"L": (7,), "RGB": (7, 90, 200)}


def image_of(mode: str) -> Image.Image:
    """Return a smooth picture with noise, so that resampling and smoothing have something to do."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    planes = [120 + 100 * np.sin(5 * x + i) * np.cos(3 * y) for i in range(3)]
    pixels = np.stack(planes, axis=-1) + rng.integers(-30, 31, (SIZE, SIZE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def same(mine: Image.Image, theirs: Image.Image) -> bool:
    return mine.mode == theirs.mode and np.array_equal(np.asarray(mine), np.asarray(theirs))


def searched_strengths(space: dict[str, Any]) -> Iterator[tuple[str, float, bool]]:
    """Yield (operation, magnitude, whether it has a sign) for all of torchvision's strengths."""
    for name, (magnitudes, has_sign) in space.items():
        for magnitude in magnitudes.reshape(-1).tolist():
            yield name, magnitude, has_sign


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_torchvision_s_operations_on_every_strength(mode: str) -> None:
    module, image = package("torchvision.transforms.autoaugment"), image_of(mode)
    nearest = module.InterpolationMode.NEAREST
    spaces = [
        module.TrivialAugmentWide()._augmentation_space(31),
        module.AutoAugment()._augmentation_space(10, (SIZE, SIZE)),
    ]
    compared = 0
    for name, magnitude, has_sign in (it for space in spaces for it in searched_strengths(space)):
        for value in (magnitude, -magnitude) if has_sign else (magnitude,):
            theirs = module._apply_op(image, name, value, nearest, None)
            mine = applied(image, [_as_mine(name, value)], (0,) * len(mode))
            assert same(mine, theirs), (name, value)
            compared += 1
    assert compared > 600


def _as_mine(name: str, value: float) -> Choice:
    operation = THEIRS[name]
    if operation in ("brightness", "colour", "contrast", "sharpness"):
        return Choice(operation, 1.0 + value)
    return Choice(operation, float(int(value)) if "translate" in operation else value)


@pytest.mark.parametrize("policy", ["trivial", "randaugment"])
def test_torchvision_s_operations_come_in_the_same_strengths(policy: str) -> None:
    module = package("torchvision.transforms.autoaugment")
    if policy == "trivial":
        space = module.TrivialAugmentWide()._augmentation_space(31)
    else:
        space = module.RandAugment()._augmentation_space(31, (224, 224))
    compared = 0
    for place, (name, (magnitudes, _)) in enumerate(space.items()):
        which = (place + 0.5) / len(space)
        for k, magnitude in enumerate(magnitudes.reshape(-1).tolist()):
            mine = _strength(policy, which, k)
            theirs = _as_mine(name, magnitude + 1e-5 if "Translate" in name else magnitude)
            assert mine.operation == theirs.operation
            assert mine.magnitude == pytest.approx(theirs.magnitude, abs=2e-5), (name, k)
            compared += 1
    assert compared == 11 * 31 + 3


def _strength(policy: str, which: float, k: int) -> Choice:
    if policy == "trivial":
        return chosen(Augment(policy=policy), (which, (k + 0.5) / 31, 0.9), 224)[0]
    one = Augment(policy=policy, policy_ops=1, policy_magnitude=k)
    return chosen(one, (which, 0.9), 224)[0]


def test_torchvision_s_searched_pairs_are_the_same() -> None:
    module = package("torchvision.transforms.autoaugment")
    for pairs, policy in ((CIFAR10, "CIFAR10"), (IMAGENET, "IMAGENET")):
        theirs = module.AutoAugment(getattr(module.AutoAugmentPolicy, policy)).policies
        assert [[tuple(step) for step in pair] for pair in pairs] == [
            [(THEIRS[name], chance, level or 0) for name, chance, level in pair] for pair in theirs
        ]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_torchvision_s_jitter(mode: str) -> None:
    module, image = package("torchvision.transforms.functional"), image_of(mode)
    theirs = {
        "brightness": module.adjust_brightness,
        "contrast": module.adjust_contrast,
        "colour": module.adjust_saturation,
        "hue": module.adjust_hue,
    }
    for operation, adjust in theirs.items():
        values = np.linspace(-0.5, 0.5, 41) if operation == "hue" else np.linspace(0, 3, 31)
        for value in values.tolist():
            mine = applied(image, [Choice(operation, value)], (0,) * len(mode))
            assert same(mine, adjust(image, value)), (operation, value)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_timm_s_operations_of_increasing_severity(
    mode: str, filter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm's own draws are made to be its higher half, in which it turns signs round."""
    module, image = package("timm.data.auto_augment"), image_of(mode)
    monkeypatch.setattr(random, "random", lambda: 0.75)
    fill = FILL[mode]
    names = module._RAND_INCREASING_TRANSFORMS
    assert len(names) == 15
    theirs_too = {
        "fillcolor": fill if mode == "RGB" else fill[0],
        "resample": Image.Resampling[filter.upper()],
    }
    for place, name in enumerate(names):
        for level in range(11):
            if level == 10 and name == "PosterizeIncreasing":
                continue  # No bit is kept: Pillow 13 refuses what it took for black before.
            op = module.LEVEL_TO_ARG[name]
            arguments = () if op is None else op(level, {})
            theirs = module.NAME_TO_OP[name](image, *arguments, **theirs_too)
            mine = applied(image, _increasing(place, level, name, filter), fill)
            assert same(mine, theirs), (name, level)


def _increasing(place: int, level: int, name: str, filter: str) -> tuple[Choice, ...]:
    augment = Augment(
        policy="randaugment_increasing", policy_ops=1, policy_magnitude=level, policy_noise=0.0
    )
    # timm's translations go left where they are positive, and up.
    sign = 0.75 if name.startswith("Translate") else 0.25
    which, smooth = (place + 0.5) / 15, {"bilinear": 0.25, "bicubic": 0.75}[filter]
    return chosen(augment, (which, 0.0, 0.5, sign, smooth), SIZE)
