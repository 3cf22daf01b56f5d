"""`synthetic`: deterministic images of any size, for benchmarks and tests; a class has a pattern.

Integer arithmetic on raw random words: the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.boxes import random_box
from resnet_spec.data.dataset import Dataset, Images, Places
from resnet_spec.data.draws import Stream, words
from resnet_spec.data.views import Pixels, boxed

_SIZE = 32
_CHANNELS = 3
_GRID = 4
_TRAIN, _TEST, _PATTERN = 0, 1, 2


def load_synthetic(
    size: int | None = None, classes: int = 10, train: int = 2048, test: int = 512
) -> Dataset:
    """Return a dataset of `classes` coarse colour patterns, averaged with noise."""
    size = size or _SIZE
    patterns = np.stack([_pattern(label, size) for label in range(classes)])
    return Dataset(
        name="synthetic",
        classes=tuple(str(i) for i in range(classes)),
        size=size,
        channels=_CHANNELS,
        # Of the mean of two uniform variables: 1/2, and the square root of 1/24.
        mean=(0.5,) * _CHANNELS,
        std=(0.2041,) * _CHANNELS,
        train=SyntheticSplit(patterns, train, _TRAIN),
        test=SyntheticSplit(patterns, test, _TEST),
    )


@dataclass(frozen=True, eq=False)
class SyntheticSplit:
    """Images made on reading from `patterns`, uint8 [K, H, W, C]; sample i has class i mod K."""

    patterns: Images = field(repr=False)
    count: int
    part: int

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    @property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`."""
        return np.arange(self.count, dtype=np.int64) % len(self.patterns)

    def content(self) -> Iterator[bytes | memoryview]:
        """See `fingerprint.Identified`: the patterns and the split's number; the rest follows."""
        yield f"synthetic {self.part} {self.count} {self.patterns.shape}\n".encode()
        yield np.ascontiguousarray(self.patterns).reshape(-1).data

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return np.stack([self._image(place) for place in indices.tolist()])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        size = self.patterns.shape[1]
        pairs = zip(self.images(indices), choices, strict=True)
        return np.stack([boxed(image, random_box(size, size, row), size) for image, row in pairs])

    def _image(self, place: int) -> Pixels:
        pattern = self.patterns[place % len(self.patterns)]
        noise = _random_bytes(self.part, place, pattern.size).reshape(pattern.shape)
        return ((pattern.astype(np.uint16) + noise) // 2).astype(np.uint8)


def _pattern(label: int, size: int) -> Pixels:
    coarse = _random_bytes(_PATTERN, label, _GRID * _GRID * _CHANNELS)
    cells = np.arange(size) * _GRID // size
    return coarse.reshape(_GRID, _GRID, _CHANNELS)[cells][:, cells]


def _random_bytes(part: int, place: int, count: int) -> NDArray[np.uint8]:
    drawn = words(0, part, Stream.SYNTHETIC, -(-count // 8), place=place)
    return drawn.astype("<u8").view(np.uint8)[:count]
