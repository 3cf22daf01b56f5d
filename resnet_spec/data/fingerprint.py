"""What tells one dataset from another: class names, sizes, labels and content, not counts alone.

Stands in every checkpoint and summary, and is compared wherever a run or its weights meet data
again. It names no path: a dataset that moved is still the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import xxhash

from resnet_spec.data.dataset import Dataset, Split
from resnet_spec.errors import DataError

_SPLITS = ("train", "validation", "test")


@runtime_checkable
class Identified(Protocol):
    """A split that knows what its images are without decoding them."""

    def content(self) -> Iterable[bytes | memoryview]:
        """Yield what tells its images from others: pixels, file names or lengths, in order."""
        ...


@dataclass(frozen=True, slots=True)
class SplitPrint:
    """One split: how many samples in all and of each class, and a digest of labels and content.

    digest: `xxh3-128:` and 32 hex digits. Labels alone are in it where a split made in Python
    does not say what its images are.
    """

    count: int
    histogram: tuple[int, ...]
    digest: str

    @classmethod
    def of(cls, split: Split, classes: int) -> SplitPrint:
        """Return the print of `split`; what its images are is asked for, and not decoded."""
        labels = np.ascontiguousarray(split.labels, dtype="<i8")
        whole = xxhash.xxh3_128(labels.tobytes())
        if isinstance(split, Identified):
            for part in split.content():
                whole.update(part)
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        return cls(len(split), tuple(counts.tolist()), f"xxh3-128:{whole.hexdigest()}")


@dataclass(frozen=True)
class Fingerprint:
    """A dataset's identity. classes: their names in the order of the labels."""

    name: str
    classes: tuple[str, ...]
    size: int
    channels: int
    splits: Mapping[str, SplitPrint]

    @classmethod
    def of(cls, data: Dataset, splits: Iterable[str] = _SPLITS) -> Fingerprint:
        """Return the identity of `data`, with those of these splits that it has."""
        parts = {name: data.splits[name] for name in splits if name in data.splits}
        prints = {name: SplitPrint.of(split, len(data.classes)) for name, split in parts.items()}
        return cls(data.name, tuple(data.classes), data.size, data.channels, prints)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Fingerprint:
        """Return what `to_dict` wrote. Raises DataError for another table."""
        try:
            splits = cast("Mapping[str, Mapping[str, Any]]", fields["splits"])
            prints = {
                name: SplitPrint(int(it["count"]), tuple(it["histogram"]), str(it["digest"]))
                for name, it in splits.items()
            }
            return cls(
                name=str(fields["name"]),
                classes=tuple(str(name) for name in fields["classes"]),
                size=int(fields["size"]),
                channels=int(fields["channels"]),
                splits=prints,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"dataset: is no fingerprint of a dataset: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "size": self.size,
            "channels": self.channels,
            "splits": {
                name: {"count": it.count, "histogram": list(it.histogram), "digest": it.digest}
                for name, it in self.splits.items()
            },
        }

    def changes(self, now: Fingerprint, splits: Iterable[str] = _SPLITS) -> list[str]:
        """Return what is another in `now`, one clause each; empty where both are the same data.

        The name is not compared (a folder may be renamed), nor is what either does not know, as a
        validation part that the other does not have.
        """
        return [*self._kinds(now), *self.image_changes(now, splits)]

    def image_changes(self, now: Fingerprint, splits: Iterable[str] = _SPLITS) -> list[str]:
        """Return what is another in the images and their labels alone; see `changes`."""
        return [clause for name in splits for clause in self._images(now, name)]

    def _kinds(self, now: Fingerprint) -> Iterator[str]:
        if self.classes != now.classes:
            yield class_change(self.classes, now.classes)
        for what, before, after in (
            ("image size", self.size, now.size),
            ("channels", self.channels, now.channels),
        ):
            if before != after:
                yield f"{what} {before} -> {after}"

    def _images(self, now: Fingerprint, name: str) -> Iterator[str]:
        before, after = self.splits.get(name), now.splits.get(name)
        if before is None or after is None or before == after:
            return
        if before.count != after.count:
            yield f"{before.count} -> {after.count} {name} images"
        elif before.histogram != after.histogram:
            yield f"other numbers of {name} images per class"
        else:
            yield f"other {name} images, or another order of them"


def class_change(before: tuple[str, ...], now: tuple[str, ...]) -> str:
    """Return in a clause how two tuples of class names, which are not equal, differ."""
    if len(before) != len(now):
        return f"{len(before)} -> {len(now)} classes"
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    if not gone and not new:
        return "the same classes in another order"
    return f"classes {_some(gone)} -> {_some(new)}"


def _some(names: list[str]) -> str:
    few = ", ".join(names[:3])
    return f"{few} and {len(names) - 3} more" if len(names) > 3 else few
