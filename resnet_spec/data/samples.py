"""Map-style datasets of other libraries: whatever has a length and gives a sample for a number.

torch's and torchvision's give (image, label), those of Hugging Face a table with `image` and
`label`. Small images are read once, into memory; large ones each time they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.boxes import random_box
from resnet_spec.data.classes import absent_notes, check_unique, checked_classes, places_in
from resnet_spec.data.dataset import ArraySplit, Dataset, Images, Places, Split
from resnet_spec.data.sources import Source
from resnet_spec.data.statistics import KNOWN, channel_statistics
from resnet_spec.data.views import SMALL, Pixels, View, boxed, central
from resnet_spec.errors import DataError, problem
from resnet_spec.printing.activity import doing

if TYPE_CHECKING:
    from PIL import Image

_MOST_BYTES = 1 << 31
"""Of images that are kept in memory."""


def from_samples(
    name: str,
    train: Any,
    test: Any,
    *,
    validation: Any = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    image: str = "image",
    label: str = "label",
) -> Dataset:
    """Return a dataset of two map-style ones, or three.

    train, test: have a length, and for a number (image, label) or a table with these.
        An image is Pillow's, an array uint8 [H, W] or [H, W, C], or a tensor uint8 [C, H, W]; a
        label a whole number from 0.
    validation: as `test`; what runs choose their best epoch by. None: the test images.
    classes: their names; None asks the dataset (`classes`, or Hugging Face's features), or numbers
        those of `train`.
    size: pixels per side; None takes the first image's, which is square then, and small ones all
        have it. Up to 64 pixels all
        images are read now, and mean and standard deviation are measured on those to train on;
        larger ones are read when they are needed, and the statistics are ImageNet's.
    image, label: what a table calls them.

    Raises DataError for samples of another kind, for labels outside of the classes, and for a
    dataset that gives another image each time it is asked: `augment` does that, the same in every
    framework.
    """
    parts = {"train": train, "test": test}
    parts |= {} if validation is None else {"validation": validation}
    sources = {
        which: Source(part, f"data {name}, {which}", image, label) for which, part in parts.items()
    }
    first = sources["train"].first
    channels = max(source.channels for source in sources.values())
    if size is None and first.width != first.height:
        rule = f"the first image has {first.width} x {first.height} pixels; give size"
        raise DataError(f"data {name}: size: {rule}")
    is_given = size is not None
    size = first.width if size is None else checked_size(size, f"data {name}")
    names, labels, notes = _named(name, sources, classes)
    keeps = size <= SMALL and _bytes(sources.values(), size, channels) <= _MOST_BYTES
    splits: dict[str, Split] = {
        which: _kept(source, labels[which], size, channels, is_given=is_given)
        if keeps
        else SampleSplit(source, labels[which], size, channels)
        for which, source in sources.items()
    }
    first_split, own = splits["train"], splits.get("validation")
    mean, std = KNOWN["imagenet"]
    if isinstance(first_split, ArraySplit):
        mean, std = channel_statistics(first_split.pixels)
    elif channels == 1:
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    fixed = name, names, size, channels, mean, std
    return Dataset(*fixed, first_split, splits["test"], notes, own)


def checked_size(size: Any, where: str) -> int:
    """Return pixels per side as a person gave them. Raises DataError."""
    if not issubclass(type(size), Integral) or type(size) is bool or size < 1:
        raise DataError(problem(f"{where}: size", repr(size), "must be a whole number from 1 on"))
    return int(size)


def _named(
    name: str, sources: Mapping[str, Source], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, Places], tuple[str, ...]]:
    """Return the names of classes, the labels of each source as places among them, and notes.

    Labels of datasets that name their classes are matched by these names.
    """
    notes: tuple[str, ...] = ()
    labels: dict[str, Places] = {which: source.labels() for which, source in sources.items()}
    most = int(labels["train"].max())
    if classes is not None:
        names = checked_classes(classes, f"data {name}")
    else:
        told = {which: source.classes() for which, source in sources.items()}
        first = told["train"]
        names = first or tuple(str(i) for i in range(most + 1))
        for which, source in sources.items():
            check_unique(told[which] or (), source.where)
        for which, known in told.items():
            if first and known and known != first:
                _check_labels(labels[which], known, sources[which])
                places = places_in(known, first, sources[which].where, "the training data")
                labels[which] = places[labels[which]]
                rule = "data has classes of another order: its labels are matched by name"
                notes = (*notes, f"the {which} {rule}")
    for which, source in sources.items():
        _check_labels(labels[which], names, source)
    counted = (labels[which] for which in ("train", "test", "validation") if which in labels)
    return names, labels, (*notes, *absent_notes(names, *counted))


def _check_labels(labels: Places, names: Sequence[str], source: Source) -> None:
    """Raise DataError for a label that none of these classes has."""
    most = int(labels.max())
    if most >= len(names):
        where = f"{source.where}[{int(labels.argmax())}]: label"
        remedy = "where the images to train on have not all of them, name them in classes"
        rule = f"must be 0 to {len(names) - 1}, a class's number"
        raise DataError(problem(where, most, rule, remedy))


def _bytes(sources: Iterable[Source], size: int, channels: int) -> int:
    return sum(len(source) for source in sources) * size * size * channels


def _kept(
    source: Source, labels: Places, size: int, channels: int, *, is_given: bool
) -> ArraySplit:
    """Return the images in memory, as they are evaluated.

    is_given: whether a person gave the size; else all images have it, or are refused.
    """
    pixels = np.empty((len(source), size, size, channels), np.uint8)
    with doing(f"reading the images of {source.where}", total=len(source)) as activity:
        for i in range(len(source)):
            image = source.image(i, channels)
            if not is_given and image.size != (size, size):
                rule = f"the first image to train on has {size} x {size}"
                it = f"{image.width} x {image.height} pixels"
                raise DataError(problem(f"{source.where}[{i}]", it, rule, "give size"))
            pixels[i] = central(image, size)
            activity.advance()
    return ArraySplit(pixels, labels, size)


@dataclass(frozen=True, eq=False)
class SampleSplit:
    """A split that asks another library's dataset for each image."""

    source: Source = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    size: int
    channels: int
    view: View | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`: what Hugging Face says of it, or the first and last image.

        To look at all of them would decode them all.
        """
        told = getattr(self.source.samples, "_fingerprint", None)
        if isinstance(told, str):
            yield told.encode()
            return
        for place in (0, len(self) - 1):
            yield self.images(np.array([place])).tobytes()

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return np.stack([central(self._image(i), self.size, self.view) for i in indices.tolist()])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return np.stack([self._box(*pair) for pair in zip(indices.tolist(), choices, strict=True)])

    def _image(self, place: int) -> Image.Image:
        return self.source.image(place, self.channels)

    def _box(self, place: int, choices: NDArray[np.float64]) -> Pixels:
        image = self._image(place)
        return boxed(image, random_box(image.height, image.width, choices), self.size)
