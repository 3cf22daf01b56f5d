"""A split at another size, or of another part of its images: read anew where they allow it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.absent import Absent
from resnet_spec.data.dataset import ArraySplit, Dataset, Images, Places, Split
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.fingerprint import Identified
from resnet_spec.data.held_out import Part
from resnet_spec.data.relabelled import Relabelled
from resnet_spec.data.samples import SampleSplit
from resnet_spec.data.views import View, central, image_of, resized
from resnet_spec.errors import DataError, problem

MOST_SIDE = 8192
"""Pixels of the shorter side of an image, of which a part is seen."""


def view_of(size: int, crop: float | None, where: str = "evaluation.crop") -> View | None:
    """Return the view that takes the central `crop` of an image's shorter side; None: as usual.

    The shorter side becomes size / crop pixels, rounded down, as in timm. where: for errors.
    Raises DataError where that is more than `MOST_SIDE`.
    """
    if crop is None:
        return None
    # 224 / 0.875 is 256, which the division of two floats may miss from below.
    side = math.floor(size / crop + 1e-9)
    if side > MOST_SIDE:
        rule = f"makes images of {side:,} pixels, of which {size} are seen; at most {MOST_SIDE:,}"
        raise DataError(problem(where, crop, rule, "raise it"))
    return View(side, size, cuts_small=True)


def at_size(split: Split, size: int, view: View | None = None) -> Split:
    """Return `split` with images of `size` pixels, evaluated in `view`; None: in its own.

    Images in memory are resized from what is kept of them, files are read at that size, and a split
    of another kind is resized as it is read.
    """
    found: Any = split  # For type checkers; which of a split's kinds this is, is asked here.
    match found:
        case Absent():
            return found
        case Part() | Relabelled():
            parted: Any = replace(found, whole=at_size(found.whole, size, view))
            return parted
        case EncodedSplit() | SampleSplit() | ArraySplit():
            return replace(found, size=size, view=view or found.view)
        case _:
            return Resized(split, size, view)


def sized(data: Dataset, size: int) -> Dataset:
    """Return `data` with images of `size` pixels, made of those that it has."""
    if size == data.size:
        return data
    parts = {name: at_size(split, size) for name, split in data.splits.items()}
    return replace(data, size=size, **parts)


def viewed(data: Dataset, view: View | None) -> Dataset:
    """Return `data` with its images evaluated in `view`; None: in its own.

    Images in memory are whole, and have a margin cut off only by a view that says so.
    """

    def changed(split: Split) -> Split:
        if view is None or not (view.cuts_small or isinstance(split, EncodedSplit)):
            return split
        return at_size(split, data.size, view)

    return replace(data, **{name: changed(split) for name, split in data.splits.items()})


@dataclass(frozen=True, eq=False)
class Resized:
    """The samples of `whole`, resized as they are read."""

    whole: Split = field(repr=False)
    size: int
    view: View | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`."""
        return self.whole.labels

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.whole)

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`."""
        return self.whole.content() if isinstance(self.whole, Identified) else ()

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        found = self.whole.images(indices)
        if self.view is None:
            return np.stack([resized(image, self.size) for image in found])
        return np.stack([central(image_of(image), self.size, self.view) for image in found])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        found = self.whole.boxes(indices, choices)
        return np.stack([resized(image, self.size) for image in found])
