"""The first images of a split, as a split of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.dataset import Images, Places, Split


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

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return self.whole.images(indices)

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return self.whole.boxes(indices, choices)
