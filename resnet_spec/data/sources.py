"""What is asked of another library's map-style dataset: its images, labels and class names.

Other people's code raises anything, and says of itself what is not so: what can be looked at before
a run is, and what is wrong is one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.images import eight_bit
from resnet_spec.data.views import image_of
from resnet_spec.errors import DataError, did_you_mean, problem
from resnet_spec.printing.activity import doing

if TYPE_CHECKING:
    from PIL import Image

CHANNELS = {"L": 1, "RGB": 3}
_HIGHEST_LABEL = 999_999
"""A class for each number up to it would be made, and a classifier with as many rows."""
_LOOKED_AT = 8
"""Images that are asked for twice: a mirror of every second one is seen but once in 256 times."""


class Source:
    """Another library's dataset, and what is asked of it. where: for errors."""

    def __init__(self, samples: Any, where: str, image: str, label: str) -> None:
        for needed in ("__len__", "__getitem__"):
            if not hasattr(samples, needed):
                kind = type(samples).__name__
                raise DataError(f"{where}: must be a map-style dataset, and {kind} has no {needed}")
        self.samples, self.where = samples, where
        self._names = image, label
        try:
            self._count = len(samples)
        except Exception as error:  # Other people's code raises anything.
            raise DataError(f"{where}: has no length ({_in_a_line(error)})") from error
        if not self._count:
            raise DataError(f"{where}: holds no images")
        self.first = self.image(0)
        self.channels = max(map(self._looked_at, range(min(self._count, _LOOKED_AT))))

    def _looked_at(self, place: int) -> int:
        """Return the channels of an image that is the same when it is asked for again."""
        image, again = self.image(place), self.image(place)
        if np.asarray(image).tobytes() != np.asarray(again).tobytes():
            rule = "gives another image each time; leave its random transforms out"
            raise DataError(f"{self.where}: {rule}, and set augment in the recipe")
        return CHANNELS[image.mode]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._count

    def image(self, place: int, channels: int | None = None) -> Image.Image:
        """Return an image of mode L or RGB; channels: 1 or 3, None takes its own.

        Raises DataError for what is no image, and for a coloured one that is to be grey.
        """
        where = f"{self.where}[{place}]"
        image = eight_bit(_image(self._parts(place)[0], where), None, where)
        if channels == 1 and image.mode != "L":
            rule = "is in colour, and the first images are grey; convert all to one mode"
            raise DataError(f"{where}: {rule}")
        return eight_bit(image, channels, where)

    def labels(self) -> NDArray[np.int64]:
        """Return all labels, of the column or the attribute that has them, or sample by sample."""
        column = self._column()
        found = self._each_label() if column is None else column
        values = [_label(value, f"{self.where}[{i}]") for i, value in enumerate(found)]
        if len(values) != len(self):
            raise DataError(f"{self.where}: has {len(self)} samples and {len(values)} labels")
        for place in (0, len(self) - 1):
            label = _label(self._parts(place)[1], f"{self.where}[{place}]")
            if label != values[place]:
                rule = f"its label is {label}, and {values[place]} in the column or targets"
                raise DataError(f"{self.where}[{place}]: {rule}; give one of them")
        return np.array(values, np.int64)

    def classes(self) -> tuple[str, ...] | None:
        """Return the names of classes that the dataset knows; None where it knows none."""
        features = getattr(self.samples, "features", None)
        if isinstance(features, Mapping):
            found = getattr(cast("Mapping[str, Any]", features).get(self._names[1]), "names", None)
        else:
            found = getattr(_whole(self.samples), "classes", None)
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
            why = _in_a_line(error)
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


def _whole(samples: Any) -> Any:
    """Return what torch's `Subset` and `random_split` took a part of; it knows the classes."""
    while type(samples).__name__ == "Subset" and hasattr(samples, "dataset"):
        samples = samples.dataset
    return samples


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
    if array.ndim != 3 or array.shape[2] not in CHANNELS.values() or not array.size:
        layout = "[C, H, W]" if is_tensor else "[H, W] or [H, W, C]"
        rule = f"must be {layout} with 1 or 3 channels"
        raise DataError(problem(f"{where}: image", list(np.asarray(value).shape), rule))
    return image_of(np.ascontiguousarray(array))


def _label(value: Any, where: str) -> int:
    found: NDArray[Any] = np.asarray(value)
    if found.shape != () or found.dtype.kind not in "iu":
        is_text = found.dtype.kind in "US"
        remedy = "give each name its place in classes" if is_text else ""
        raise DataError(problem(f"{where}: label", value, "must be a whole number", remedy))
    if not 0 <= int(found) <= _HIGHEST_LABEL:
        rule = f"must be 0..{_HIGHEST_LABEL}; leave out what has no label"
        raise DataError(problem(f"{where}: label", int(found), rule))
    return int(found)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
