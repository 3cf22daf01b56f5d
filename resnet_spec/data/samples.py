"""Map-style datasets of other libraries: whatever has a length and gives a sample for a number.

torch's and torchvision's give (image, label), those of Hugging Face a table with `image` and
`label`. Small images are read once, into memory; large ones each time they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.boxes import random_box
from resnet_spec.data.dataset import ArraySplit, Dataset, Images, Places, Split
from resnet_spec.data.images import eight_bit
from resnet_spec.data.statistics import KNOWN, channel_statistics
from resnet_spec.data.views import SMALL, Pixels, boxed, central, image_of
from resnet_spec.errors import DataError, did_you_mean, problem
from resnet_spec.printing.activity import doing

if TYPE_CHECKING:
    from PIL import Image

_MOST_BYTES = 1 << 31
"""Of images that are kept in memory."""
_CHANNELS = {"L": 1, "RGB": 3}


def from_samples(
    name: str,
    train: Any,
    test: Any,
    *,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    image: str = "image",
    label: str = "label",
) -> Dataset:
    """Return a dataset of two map-style ones.

    train, test: have a length, and for a number (image, label) or a table with these.
        An image is Pillow's, an array uint8 [H, W] or [H, W, C], or a tensor uint8 [C, H, W]; a
        label a whole number from 0.
    classes: their names; None asks the dataset (`classes`, or Hugging Face's features), or numbers
        them.
    size: pixels per side; None takes the first image's, which is square then. Up to 64 pixels all
        images are read now, and mean and standard deviation are measured on those to train on;
        larger ones are read when they are needed, and the statistics are ImageNet's.
    image, label: what a table calls them.

    Raises DataError for samples of another kind, for labels outside of the classes, and for a
    dataset that gives another image each time it is asked: `augment` does that, the same in every
    framework.
    """
    sources = [
        _Source(part, f"data {name}, {which}", image, label)
        for which, part in (("train", train), ("test", test))
    ]
    first = sources[0].image(0)
    channels = _CHANNELS[first.mode]
    if size is None and first.width != first.height:
        rule = f"the first image has {first.width} x {first.height} pixels; give size"
        raise DataError(f"data {name}: size: {rule}")
    size = size or first.width
    names = tuple(classes) if classes is not None else sources[0].classes()
    labels = [source.labels() for source in sources]
    if names is None:
        names = tuple(str(i) for i in range(int(max(found.max() for found in labels)) + 1))
    keeps = size <= SMALL and _bytes(sources, size, channels) <= _MOST_BYTES
    splits: list[Split] = [
        _kept(source, found, size, channels)
        if keeps
        else SampleSplit(source, found, size, channels)
        for source, found in zip(sources, labels, strict=True)
    ]
    mean, std = KNOWN["imagenet"]
    if isinstance(splits[0], ArraySplit):
        mean, std = channel_statistics(splits[0].pixels)
    elif channels == 1:
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    return Dataset(name, names, size, channels, mean, std, splits[0], splits[1])


def _bytes(sources: Sequence[_Source], size: int, channels: int) -> int:
    return sum(len(source) for source in sources) * size * size * channels


def _kept(source: _Source, labels: Places, size: int, channels: int) -> ArraySplit:
    """Return the images in memory, as they are evaluated."""
    pixels = np.empty((len(source), size, size, channels), np.uint8)
    with doing(f"reading the images of {source.where}", total=len(source)) as activity:
        for i in range(len(source)):
            pixels[i] = central(source.image(i, channels), size)
            activity.advance()
    return ArraySplit(pixels, labels, size)


@dataclass(frozen=True, eq=False)
class SampleSplit:
    """A split that asks another library's dataset for each image."""

    source: _Source = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    size: int
    channels: int

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
        return np.stack([central(self._image(i), self.size) for i in indices.tolist()])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return np.stack([self._box(*pair) for pair in zip(indices.tolist(), choices, strict=True)])

    def _image(self, place: int) -> Image.Image:
        return self.source.image(place, self.channels)

    def _box(self, place: int, choices: NDArray[np.float64]) -> Pixels:
        image = self._image(place)
        return boxed(image, random_box(image.height, image.width, choices), self.size)


class _Source:
    """Another library's dataset, and what is asked of it. where: for errors."""

    def __init__(self, samples: Any, where: str, image: str, label: str) -> None:
        for needed in ("__len__", "__getitem__"):
            if not hasattr(samples, needed):
                kind = type(samples).__name__
                raise DataError(f"{where}: must be a map-style dataset, and {kind} has no {needed}")
        self.samples, self.where = samples, where
        self._names = image, label
        if not len(samples):
            raise DataError(f"{where}: holds no images")
        if np.asarray(self.image(0)).tobytes() != np.asarray(self.image(0)).tobytes():
            rule = "gives another image each time; leave its random transforms out"
            raise DataError(f"{where}: {rule}, and set augment in the recipe")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def image(self, place: int, channels: int | None = None) -> Image.Image:
        """Return an image of mode L or RGB; channels: 1 or 3, None takes its own."""
        where = f"{self.where}[{place}]"
        return eight_bit(_image(self._parts(place)[0], where), channels, where)

    def labels(self) -> NDArray[np.int64]:
        """Return all labels, of the column or the attribute that has them, or sample by sample."""
        column = self._column()
        found = self._each_label() if column is None else column
        values = [_label(value, f"{self.where}[{i}]") for i, value in enumerate(found)]
        if len(values) != len(self):
            raise DataError(f"{self.where}: has {len(self)} samples and {len(values)} labels")
        return np.array(values, np.int64)

    def classes(self) -> tuple[str, ...] | None:
        """Return the names of classes that the dataset knows; None where it knows none."""
        features = getattr(self.samples, "features", None)
        if isinstance(features, Mapping):
            found = getattr(cast("Mapping[str, Any]", features).get(self._names[1]), "names", None)
        else:
            found = getattr(self.samples, "classes", None)
        return None if found is None else tuple(str(name) for name in found)

    def _each_label(self) -> Iterator[Any]:
        with doing(f"reading the labels of {self.where}", total=len(self)) as activity:
            for i in range(len(self)):
                yield self._parts(i)[1]
                activity.advance()

    def _column(self) -> Iterable[Any] | None:
        if isinstance(getattr(self.samples, "features", None), Mapping):
            return self.samples[self._names[1]] if self._names[1] in self.samples.features else None
        is_changed = getattr(self.samples, "target_transform", None) is not None
        found = getattr(self.samples, "targets", None)
        return None if is_changed or found is None else list(found)

    def _parts(self, place: int) -> tuple[Any, Any]:
        """Return the image and the label of a sample."""
        try:
            sample: Any = self.samples[place]
        except Exception as error:  # Other people's code raises anything.
            why = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.where}[{place}]: cannot be read ({why})") from error
        if isinstance(sample, Mapping):
            table = cast("Mapping[str, Any]", sample)
            for name in self._names:
                if name not in table:
                    hint = did_you_mean(name, list(table)) or f"it has {', '.join(table)}"
                    raise DataError(f"{self.where}[{place}]: has no {name!r}; {hint}")
            return table[self._names[0]], table[self._names[1]]
        # Callers in Python are not bound to the types.
        if not issubclass(type(sample), tuple | list) or len(sample) < 2:
            rule = "must be (image, label), or a table with these"
            raise DataError(problem(f"{self.where}[{place}]", type(sample).__name__, rule))
        return sample[0], sample[1]


def _image(value: Any, where: str) -> Image.Image:
    """Return a sample's image as Pillow's. Raises DataError for what is none."""
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    is_tensor = hasattr(value, "permute")  # Whose channels come first; no array has that.
    array: NDArray[Any] = np.asarray(value)
    if array.dtype != np.uint8:
        given = f"{array.dtype} {list(array.shape)}"
        remedy = "leave ToTensor and normalisation out: they are done here"
        raise DataError(problem(f"{where}: image", given, "must be uint8", remedy))
    if array.ndim == 3 and is_tensor:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in _CHANNELS.values() or not array.size:
        layout = "[C, H, W]" if is_tensor else "[H, W] or [H, W, C]"
        rule = f"must be {layout} with 1 or 3 channels"
        raise DataError(problem(f"{where}: image", list(np.asarray(value).shape), rule))
    return image_of(np.ascontiguousarray(array))


def _label(value: Any, where: str) -> int:
    found: NDArray[Any] = np.asarray(value)
    if found.shape != () or found.dtype.kind not in "iu":
        raise DataError(problem(f"{where}: label", value, "must be a whole number"))
    return int(found)
