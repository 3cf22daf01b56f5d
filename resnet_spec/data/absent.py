"""A split that is not there: data to evaluate on, and nothing to train on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.dataset import Dataset, Images, Places, Split
from resnet_spec.errors import DataError


@dataclass(frozen=True)
class Absent:
    """No images. reason: why, and what to do, for whoever asks for one."""

    reason: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`; there are none."""
        return np.empty(0, np.int64)

    def __len__(self) -> int:
        """Return 0."""
        return 0

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`; there is none."""
        return ()

    def images(self, indices: Places) -> Images:
        """Raise DataError."""
        raise DataError(self.reason)

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """Raise DataError."""
        raise DataError(self.reason)


def training_split(data: Dataset) -> Split:
    """Return the images that `data` is trained on. Raises DataError where it has none."""
    if isinstance(data.train, Absent):
        raise DataError(data.train.reason)
    return data.train
