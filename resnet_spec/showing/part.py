"""The first images of a split, as a split of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.dataset import Images, Places, Split
from resnet_spec.data.fingerprint import Identified


@dataclass(frozen=True, eq=False)
class First:
    """The first `count` samples of `whole`, or all of them where it has fewer."""

    whole: Split = field(repr=False)
    count: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`."""
        return self.whole.labels[: self.count]

    def __len__(self) -> int:
        """Return the number of samples."""
        return min(self.count, len(self.whole))

    def content(self) -> Iterator[bytes | memoryview]:
        """See `fingerprint.Identified`: the number, and what the whole split says of itself."""
        yield f"first {len(self)}\n".encode()
        if isinstance(self.whole, Identified):
            yield from self.whole.content()

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return self.whole.images(indices)

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return self.whole.boxes(indices, choices)
