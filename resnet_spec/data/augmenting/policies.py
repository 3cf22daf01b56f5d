"""What a policy does to an image, from numbers in [0, 1): a few operations with their magnitudes.

The operations, scales and roundings are those of torchvision's `TrivialAugmentWide`, `RandAugment`
and `AutoAugment` for images of Pillow (nearest pixels, black outside), and of timm's RandAugment of
increasing severity (bilinear or bicubic, drawn; the mean colour outside). Their draws are not:
those come from the core. Magnitudes are rounded to six decimals, where torchvision's are float32.

Müller & Hutter 2021, "TrivialAugment"; Cubuk et al. 2019, "AutoAugment"; Cubuk et al. 2020,
"RandAugment".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

from resnet_spec.data.augmenting.choices import Choice, Filter, one_of, signed
from resnet_spec.data.augmenting.searched import CIFAR10, IMAGENET, Pair
from resnet_spec.describing.image_changes import ImageChanges

MOST_DRAWS = 80
"""Numbers that a policy takes at most: five for each of 16 operations."""

_ENHANCED = ("brightness", "colour", "contrast", "sharpness")
_FOURTEEN = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    *_ENHANCED,
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)
"""The operations of TrivialAugment and torchvision's RandAugment."""
_FIFTEEN = (
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
)
"""The operations of timm's RandAugment."""
_BINS = 31
_SMOOTH: tuple[Filter, ...] = ("bilinear", "bicubic")
_LEVELS = 4096
"""A drawn level is rounded to 1 / 4096, so that the last bit of a logarithm does not matter."""


class Scale(NamedTuple):
    """How strong the operations are at the full strength of 1.

    lost_bits: how many of 8 bits posterize drops.
    """

    shear: float
    translate: float
    rotate: float
    enhance: float
    lost_bits: int

    def choice(self, operation: str, strength: float, sign: float) -> Choice:
        """Return an operation at a strength in 0..1; sign, in [0, 1), picks its direction."""
        # Decimals, so that whole thresholds and right angles are just that.
        return Choice(operation, round(self._magnitude(operation, strength, sign), 6))

    def _magnitude(self, operation: str, strength: float, sign: float) -> float:
        match operation:
            case "shear_x" | "shear_y":
                return signed(self.shear * strength, sign)
            case "translate_x" | "translate_y":
                return signed(float(int(self.translate * strength)), sign)
            case "rotate":
                return signed(self.rotate * strength, sign)
            case "brightness" | "colour" | "contrast" | "sharpness":
                return 1.0 + signed(self.enhance * strength, sign)
            case "posterize":
                return 8.0 - round(self.lost_bits * strength)
            case "solarize":
                return 255.0 * (1.0 - strength)
            case _:
                return 0.0


def _searched_scale(size: int) -> Scale:
    """Return the scale of AutoAugment and torchvision's RandAugment, for images of `size`."""
    return Scale(shear=0.3, translate=150.0 / 331.0 * size, rotate=30.0, enhance=0.9, lost_bits=4)


_WIDE = Scale(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, lost_bits=6)
"""Of TrivialAugment Wide: 32 pixels whatever the size of the image."""


def chosen(changes: ImageChanges, drawn: Sequence[float], size: int) -> tuple[Choice, ...]:
    """Return what the policy of `changes` does to an image.

    drawn: at least as many numbers in [0, 1) as the policy takes; MOST_DRAWS are enough. size: the
    image's side in pixels, which some translations go by.
    """
    return tuple(_POLICIES[changes.policy](changes, drawn, size))


def _none(changes: ImageChanges, drawn: Sequence[float], size: int) -> Iterator[Choice]:
    yield from ()


def _trivial(changes: ImageChanges, drawn: Sequence[float], size: int) -> Iterator[Choice]:
    """Take three numbers: operation, strength, direction."""
    strength = int(drawn[1] * _BINS) / (_BINS - 1)
    yield _WIDE.choice(one_of(_FOURTEEN, drawn[0]), strength, drawn[2])


def _randaugment(changes: ImageChanges, drawn: Sequence[float], size: int) -> Iterator[Choice]:
    """Take two numbers for each operation: which, and its direction."""
    scale, strength = _searched_scale(size), changes.policy_magnitude / (_BINS - 1)
    for which, sign in _groups(drawn, 2, changes.policy_ops):
        yield scale.choice(one_of(_FOURTEEN, which), strength, sign)


def _increasing(changes: ImageChanges, drawn: Sequence[float], size: int) -> Iterator[Choice]:
    """Take five numbers for each operation: which, whether, noise, direction, filter."""
    for which, whether, noise, sign, filter in _groups(drawn, 5, changes.policy_ops):
        if whether < changes.policy_probability:
            level = _level(changes.policy_magnitude, changes.policy_noise, noise)
            operation = one_of(_FIFTEEN, which)
            magnitude = _increasing_magnitude(operation, level, sign, size)
            yield Choice(operation, magnitude, one_of(_SMOOTH, filter))


def _level(magnitude: int, noise: float, drawn: float) -> float:
    """Return a normal draw about `magnitude`, kept in 0..10, as a part of 10: in 0..1.

    By the inverse of the distribution (Wichura 1988, in Python's `statistics`).
    """
    # 0 has no inverse; the next greater number that can be drawn is 2 ** -53.
    away = noise * NormalDist().inv_cdf(max(drawn, 2.0**-54)) if noise else 0.0
    return round(min(max(magnitude + away, 0.0), 10.0) * _LEVELS) / _LEVELS / 10.0


def _increasing_magnitude(operation: str, part: float, sign: float, size: int) -> float:
    """Return the magnitude of an operation at `part` of its greatest severity."""
    match operation:
        case "rotate":
            return signed(30.0 * part, sign)
        case "shear_x" | "shear_y":
            return signed(0.3 * part, sign)
        case "translate_x" | "translate_y":
            return signed(0.45 * part * size, sign)
        case "colour" | "contrast" | "brightness" | "sharpness":
            return 1.0 + signed(0.9 * part, sign)
        case "posterize":
            return 4.0 - int(4 * part)
        case "solarize":
            return 256.0 - int(256 * part)
        case "solarize_add":
            return float(int(110 * part))
        case _:
            return 0.0


def _searched(pairs: tuple[Pair, ...]) -> Callable[..., Iterator[Choice]]:
    """Return a policy of AutoAugment. It takes five numbers.

    They are the pair, and for each of its two operations whether, and its direction.
    """

    def policy(changes: ImageChanges, drawn: Sequence[float], size: int) -> Iterator[Choice]:
        scale = _searched_scale(size)
        pair = one_of(pairs, drawn[0])
        for step, (whether, sign) in zip(pair, _groups(drawn[1:], 2, 2), strict=True):
            if whether < step.probability:
                yield scale.choice(step.operation, step.level / 9, sign)

    return policy


def _groups(drawn: Sequence[float], size: int, count: int) -> Iterator[Sequence[float]]:
    for start in range(0, size * count, size):
        yield drawn[start : start + size]


_POLICIES: dict[str, Callable[[ImageChanges, Sequence[float], int], Iterator[Choice]]] = {
    "none": _none,
    "trivial": _trivial,
    "randaugment": _randaugment,
    "randaugment_increasing": _increasing,
    "autoaugment_cifar10": _searched(CIFAR10),
    "autoaugment_imagenet": _searched(IMAGENET),
}
"""By `ImageChanges.policy`."""
FILLED_WITH_MEAN = frozenset({"randaugment_increasing"})
"""The policies that show the mean colour where the image has moved away; black in others."""
