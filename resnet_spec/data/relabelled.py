"""A split whose labels are those of a network's classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.absent import Absent
from resnet_spec.data.class_matching import Matched
from resnet_spec.data.dataset import Dataset, Images, Places, Split
from resnet_spec.data.fingerprint import Identified


@dataclass(frozen=True, eq=False)
class Relabelled:
    """The samples of `whole`; label i becomes order[i]. What is below 0 (unknown) stays."""

    whole: Split = field(repr=False)
    order: tuple[int, ...]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`."""
        old = self.whole.labels
        return np.where(old < 0, old, np.array(self.order, dtype=np.int64)[np.maximum(old, 0)])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.whole)

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`."""
        return self.whole.content() if isinstance(self.whole, Identified) else ()

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return self.whole.images(indices)

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return self.whole.boxes(indices, choices)


def relabelled(data: Dataset, matched: Matched) -> Dataset:
    """Return `data` with the network's classes, and its labels mapped to them."""
    if matched.is_identity:
        return replace(data, classes=matched.names)
    parts = {
        name: split if isinstance(split, Absent) else Relabelled(split, matched.order)
        for name, split in data.splits.items()
    }
    return replace(data, classes=matched.names, **parts)
