"""Splits whose images stay encoded and are decoded on reading, several at a time, in threads.

Pillow releases Python's lock while it decodes and resizes. Each image is a function of its bytes
alone, so the pixels do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from resnet_spec.data.archives import read_file
from resnet_spec.data.boxes import random_box
from resnet_spec.data.dataset import Images, Places
from resnet_spec.data.images import MOST_BYTES, decode
from resnet_spec.data.views import Pixels, View, boxed, central

if TYPE_CHECKING:
    from PIL import Image

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_MOST_WORKERS = 16


def cores() -> int:
    """Return the number of processor cores this process may use, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def in_threads(function: Callable[[_In], _Out], items: Sequence[_In], workers: int) -> list[_Out]:
    """Return `function` of every item, in order; the first failure in that order is raised."""
    if workers == 1 or len(items) < 2:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(workers)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Encoded images: bytes in memory, or paths of files.

    name: says where sample i is, for errors. view: how the samples are evaluated. root: the folder
    of the split where the sources are paths; its own place is no part of what the split is.
    """

    sources: Sequence[bytes | str] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    size: int
    channels: int
    name: Callable[[int], str] = field(repr=False)
    workers: int = field(default_factory=cores)
    view: View = field(default_factory=View)
    root: str = ""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def content(self) -> Iterator[bytes]:
        """See `fingerprint.Identified`: encoded images, or names and sizes of their files.

        Files are asked for their size and not opened: a folder of a million costs some seconds.
        """
        yield from content_of(self.sources, self.root)

    def images(self, indices: Places) -> Images:
        """See `Split.images`; the view is `views.central`."""

        def view(place: int) -> Pixels:
            return central(self._decoded(place), self.size, self.view)

        return np.stack(in_threads(view, indices.tolist(), self.workers))

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""

        def view(item: tuple[int, NDArray[np.float64]]) -> Pixels:
            image = self._decoded(item[0])
            return boxed(image, random_box(image.height, image.width, item[1]), self.size)

        pairs = list(zip(indices.tolist(), choices, strict=True))
        return np.stack(in_threads(view, pairs, self.workers))

    def _decoded(self, place: int) -> Image.Image:
        source = self.sources[place]
        data = source if isinstance(source, bytes) else read_file(Path(source), MOST_BYTES)
        return decode(data, self.channels, self.name(place))


def content_of(sources: Sequence[bytes | str], root: str = "") -> Iterator[bytes]:
    """Yield what tells encoded images from others: a digest of each, or its path and its size.

    Paths are those below `root`: parted by '/' on every system, and written as the file system
    has them. Names alone tell little (`0.png`, `1.png`, ... are in many folders).
    """
    start = len(root.rstrip("/" + os.sep)) + 1 if root else 0
    for source in sources:
        if isinstance(source, bytes):
            yield xxhash.xxh3_128_digest(source)
        else:
            name = os.fsencode(source[start:].replace(os.sep, "/"))
            yield b"%b%b\n" % (name, _size(source))


def _size(path: str) -> bytes:
    """Return a file's size behind a NUL, which no name holds; nothing of one that has gone."""
    try:
        return b"\0%d" % Path(path).stat().st_size
    except OSError:  # Whoever reads the image says so.
        return b""
