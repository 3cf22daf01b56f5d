"""Image files without labels, run through a session a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch
from resnet_spec.data.images import read_image
from resnet_spec.data.views import View
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import DataError
from resnet_spec.running.evaluate import Predictor

_AT_ONCE = 256


class Images:
    """The images at `paths`. The first batch is read at once, the others as they are needed.

    Raises DataError, with a line for each image of the first batch that cannot be read.
    """

    def __init__(self, paths: Sequence[Path], spec: Spec, view: View | None) -> None:
        self._paths, self._spec, self._view = paths, spec, view
        self._lines: list[str] = []
        self._first = self._read(paths[:_AT_ONCE])
        self._check()

    def logits(self, session: Predictor) -> Array:
        """Return the logits of all, [N, classes].

        Raises DataError with a line for each image that cannot be read.
        """
        found = list(session.predict(self._batches()))
        self._check()
        return np.concatenate(found)[: len(self._paths)]

    def _batches(self) -> Iterator[Batch]:
        """Yield batches of one size, the last one filled up with its first image."""
        for start in range(0, len(self._paths), _AT_ONCE):
            images = self._read(self._paths[start : start + _AT_ONCE]) if start else self._first
            if self._lines:  # The others are read, too, so that all errors are told.
                continue
            missing = len(self._first) - len(images)
            images = np.concatenate([images, np.repeat(images[:1], missing, axis=0)])
            places = np.arange(len(images))
            yield Batch(images, labels=np.full(len(images), -1), indices=places)

    def _read(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Return images, [n, size, size, C], without those that cannot be read."""
        images: list[NDArray[np.uint8]] = []
        for path in paths:
            given = self._spec.input
            try:
                images.append(read_image(path, given.size, given.channels, self._view))
            except DataError as error:
                self._lines += error.problems
        return np.stack(images) if images else np.empty((0, 0, 0, 0), np.uint8)

    def _check(self) -> None:
        if self._lines:
            raise DataError(*self._lines)
