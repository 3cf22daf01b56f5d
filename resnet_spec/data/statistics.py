"""Per-channel mean and standard deviation of images scaled to 0..1: known figures and measuring."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""(mean, std), one entry per channel."""

_BLOCK = 512
"""Images summed at a time, to bound the memory taken."""

# Over all pixels of the training split, rounded to four digits: the values in general use.
KNOWN: dict[str, Statistics] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    # What torchvision's, timm's and most other ImageNet weights were trained with.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def channel_statistics(images: NDArray[np.uint8]) -> Statistics:
    """Return mean and population standard deviation over all pixels of uint8 [N, H, W, C].

    Exact integer sums, so equal on every machine; a constant channel gets a deviation of 1.
    """
    planes = (images[..., channel] for channel in range(images.shape[3]))
    mean, std = zip(*(_mean_std(plane) for plane in planes), strict=True)
    return tuple(mean), tuple(std)


def _mean_std(plane: NDArray[np.uint8]) -> tuple[float, float]:
    n, total, squares = plane.size, 0, 0
    for start in range(0, len(plane), _BLOCK):
        # A block's sums are integers far below 2**53: exact in float64, in any order of summing.
        block = plane[start : start + _BLOCK].ravel().astype(np.float64)
        total += int(block.sum())
        squares += int(np.square(block).sum())
    spread = n * squares - total * total
    return total / (255 * n), math.sqrt(spread / (255 * n) ** 2) if spread else 1.0
