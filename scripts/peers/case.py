"""What is measured, and the images that every contender is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.statistics import KNOWN

Contender = Callable[[], None]
"""One turn: `Case.steps` steps or batches, waited for."""

MOMENTUM, DECAY, CLASSES = 0.9, 1e-4, 1000


class Case(NamedTuple):
    """A network at a size: `steps` batches a turn, trained on or predicted."""

    network: str
    size: int
    batch: int
    steps: int
    trains: bool
    rate: float = 1e-3

    @property
    def title(self) -> str:
        """The case in words."""
        verb = "train" if self.trains else "predict"
        return f"{verb} {self.network}, {self.size} px, batch {self.batch}"

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images [N, H, W, 3] and labels [N]."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (self.batch, self.size, self.size, 3), dtype=np.uint8)
        return images, random.integers(0, CLASSES, self.batch)

    def normalised(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the same images as float32 with ImageNet's mean and deviation, NHWC."""
        images, labels = self.arrays()
        mean, std = KNOWN["imagenet"]
        return ((images / 255 - mean) / std).astype(np.float32), labels


CASES = {
    "train-50-224": Case("resnet50", 224, 8, 2, True),
    "train-50-32": Case("resnet50", 32, 64, 3, True),
    "train-18-32": Case("resnet18", 32, 64, 5, True),
    "predict-50-1": Case("resnet50", 224, 1, 20, False),
    "predict-50-16": Case("resnet50", 224, 16, 2, False),
}
