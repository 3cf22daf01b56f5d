"""What a dataset is to the rest of the project: names, image shape, statistics and splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.boxes import random_box
from resnet_spec.data.classes import checked_classes
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.data.views import View, boxed, central, image_of, resized
from resnet_spec.errors import DataError

Images = NDArray[np.uint8]
"""[N, H, W, C]."""
Places = NDArray[np.int64]
"""[n], places of samples in their split."""


class Split(Protocol):
    """Images with labels, read by place; the same pixels for the same place, always."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N], the class of each sample."""
        ...

    def __len__(self) -> int:
        """Return the number of samples, N."""
        ...

    def images(self, indices: Places) -> Images:
        """Return the samples at `indices` as they are evaluated, uint8 [n, size, size, C]."""
        ...

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """Return a random box of each sample, resized: uint8 [n, size, size, C].

        choices: float64 [n, boxes.CHOICES] in [0, 1), see `boxes.random_box`.
        """
        ...


@dataclass(frozen=True)
class Dataset:
    """A named dataset. `mean` and `std` are per channel, of images scaled to 0..1.

    validation: what a run chooses its best epoch by: the dataset's own part, or images that the run
    holds out of `train` (see `held_out`); None: there is none, and it chooses by the test images.
    notes: what was left out, joined or assumed when it was read, one line each, for a person.
    """

    name: str
    classes: tuple[str, ...]
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split = field(repr=False)
    test: Split = field(repr=False)
    notes: tuple[str, ...] = ()
    validation: Split | None = field(default=None, repr=False)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        train: tuple[Images, NDArray[np.integer[Any]]],
        test: tuple[Images, NDArray[np.integer[Any]]],
        classes: Sequence[str],
        validation: tuple[Images, NDArray[np.integer[Any]]] | None = None,
    ) -> Dataset:
        """Return a dataset of (images, labels) in memory, with the statistics of its images.

        validation: what runs choose their best epoch by; None: the test images.

        Images are uint8 [N, size, size, C], labels whole numbers [N] from 0, classes their names.
        Raises DataError where they are not, or not one label for each image; the rest is checked
        where it is used, as in `load_data` and `train`.
        """
        names = checked_classes(tuple(classes) if isinstance(classes, str) else classes, name)
        pairs = {"train": train, "test": test}
        pairs |= {} if validation is None else {"validation": validation}
        pairs = {part: _checked_pair(f"{name}, {part}", pair) for part, pair in pairs.items()}
        trained_on = pairs["train"][0]
        if not len(trained_on):
            raise DataError(f"{name}, train: holds no images; there must be some to train on")
        size, channels = trained_on.shape[2:]
        for part, (images, _) in pairs.items():
            if images.shape[2:] != (size, channels):
                kind = f"{images.shape[2]} pixels and {images.shape[3]} channels"
                rule = f"images have {kind}, and those to train on {size} and {channels}"
                raise DataError(f"{name}, {part}: {rule}; make them alike")
        mean, std = channel_statistics(trained_on)
        first, second, *own = (
            ArraySplit(x, np.asarray(y, np.int64), size) for x, y in pairs.values()
        )
        return cls(name, names, size, channels, mean, std, first, second, (), *own)

    @property
    def splits(self) -> dict[str, Split]:
        """Its parts by name: `train`, `test` and, where there is one, `validation`."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.validation is None else {**parts, "validation": self.validation}


def _checked_pair(where: str, pair: Any) -> tuple[Images, NDArray[np.integer[Any]]]:
    """Return `pair` as arrays: uint8 [N, size, size, C], whole numbers [N]; or raise DataError.

    Before anything is cast or resized: 0.7 would become class 0, a tall image a square one.
    """
    if not issubclass(type(pair), tuple | list) or len(pair) != 2:
        raise DataError(f"{where}: must be a pair (images, labels), and is {type(pair).__name__}")
    images: NDArray[Any] = np.asarray(pair[0])
    labels: NDArray[Any] = np.asarray(pair[1])
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2]:
        kind = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"{where}: images must be uint8 [N, size, size, C], and are {kind}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(
            f"{where}: labels must be {len(images)} whole numbers, one for each image, "
            f"and are {labels.dtype} {list(labels.shape)}"
        )
    return images, labels


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split in memory.

    pixels: uint8 [N, H, W, C]; resized on reading (Pillow's bilinear filter) where `size` differs.
    labels: int64 [N].
    identity: what the pixels were decoded from, where decoders may differ; () is the pixels. view:
    how the samples are evaluated; None: whole.
    """

    pixels: Images = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    size: int
    identity: tuple[bytes, ...] = field(default=(), repr=False)
    view: View | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`: the pixels, which are in memory, or what they are from."""
        if self.identity:
            yield from self.identity
            return
        yield str(self.pixels.shape).encode()
        yield np.ascontiguousarray(self.pixels).reshape(-1).data

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        found = self.pixels[indices]
        if self.view is not None:
            return np.stack([central(image_of(image), self.size, self.view) for image in found])
        if found.shape[1:3] == (self.size, self.size):
            return found
        return np.stack([resized(image, self.size) for image in found])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        height, width = self.pixels.shape[1:3]
        return np.stack(
            [
                boxed(self.pixels[i], random_box(height, width, row), self.size)
                for i, row in zip(indices, choices, strict=True)
            ]
        )
