"""Mixed images: two of a batch in one, by numbers that are drawn for a step.

mixup (Zhang et al. 2018) is a weighted mean of two images, CutMix (Yun et al. 2019) one with a box
of the other; both take the two labels by the same weights. Image i of a batch is mixed with the one
before it, the first with the last. All is done to uint8 pixels on the host, where the mean is
rounded to the nearest (halves to even), so every framework is given the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count

import numpy as np

from resnet_spec.data.boxes import Box
from resnet_spec.data.dataset import Images, Places
from resnet_spec.data.draws import Stream, uniforms, words
from resnet_spec.recipe import Augment

_STEPS = 2.0**-16
"""To which a drawn share is rounded: powers differ between machines in their last bit."""
_PAIRS = 32
"""Tried at a time for a share."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is drawn for a step.

    share: how much of each image is its own. centre: (y, x) in 0..1 of the box of CutMix, whose
    share then changes with what of the box lies in the image; None: mixup.
    """

    share: float
    centre: tuple[float, float] | None = None


def choice_of(augment: Augment, seed: int, step: int) -> Choice | None:
    """Return how the batch of a step is mixed; None: not at all."""
    if not augment.mixes:
        return None
    mixes, switches, y, x = uniforms(words(seed, step, Stream.MIX, 4)).tolist()
    if mixes >= augment.mix_probability:
        return None
    both = augment.mixup > 0 and augment.cutmix > 0
    cuts = switches < augment.switch_probability if both else augment.cutmix > 0
    share = _symmetric_beta(augment.cutmix if cuts else augment.mixup, seed, step)
    return Choice(share, (y, x) if cuts else None)


def mixed(images: Images, others: Images, choice: Choice) -> tuple[Images, float]:
    """Return `images`, uint8 [N, H, W, C], with `others` mixed in, and the share of their own."""
    if choice.centre is not None:
        top, left, height, width = box = cut_of(choice, *images.shape[1:3])
        mixture = images.copy()
        place = np.s_[:, top : top + height, left : left + width]
        mixture[place] = others[place]
        return mixture, 1.0 - box.height * box.width / (images.shape[1] * images.shape[2])
    share = np.float32(choice.share)
    mean = images.astype(np.float32)
    mean *= share
    rest = others.astype(np.float32)
    rest *= np.float32(1.0) - share
    mean += rest
    return np.rint(mean, out=mean).astype(np.uint8), choice.share


def cut_of(choice: Choice, height: int, width: int) -> Box:
    """Return the box of CutMix: 1 - share of the image around a centre, cut off at its edges."""
    assert choice.centre is not None
    part = math.sqrt(1.0 - choice.share)
    top, bottom = _range(choice.centre[0], part, height)
    left, right = _range(choice.centre[1], part, width)
    return Box(top, left, bottom - top, right - left)


def _range(centre: float, part: float, length: int) -> tuple[int, int]:
    """Return from where to where `part` of a length around `centre` reaches, in pixels."""
    middle, half = int(centre * length), int(part * length) // 2
    return max(middle - half, 0), min(middle + half, length)


def partners(rows: Places, count: int) -> Places:
    """Return with which rows of a whole batch of `count` those at `rows` are mixed."""
    return (rows - 1) % count


def _symmetric_beta(alpha: float, seed: int, step: int) -> float:
    """Return a draw of Beta(alpha, alpha) in 0..1, a multiple of 2 ** -16 (Jöhnk 1964)."""
    for place in count(1):
        drawn = uniforms(words(seed, step, Stream.MIX, 2 * _PAIRS, place)).reshape(-1, 2)
        powers = drawn ** (1.0 / alpha)
        totals = powers.sum(1)
        fit = np.flatnonzero((totals <= 1.0) & (totals > 0.0))
        if fit.size:
            first, both = float(powers[fit[0], 0]), float(totals[fit[0]])
            return round(first / both / _STEPS) * _STEPS
    raise AssertionError  # Where no pair fits, the next ones are looked at.
