"""Parquet with encoded images, as Hugging Face datasets are stored.

Needs pyarrow, which is imported when such a dataset is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.dataset import ArraySplit, Dataset, Images, Split
from resnet_spec.data.encoded import EncodedSplit, cores, in_threads
from resnet_spec.data.images import channels_of, decode
from resnet_spec.data.parquet_file import ParquetImages
from resnet_spec.data.statistics import KNOWN, channel_statistics
from resnet_spec.data.views import SMALL, pixels_of
from resnet_spec.errors import DataError

_LARGE_SIZE = 224
_TEST_NAMES = ("test", "validation", "val")


def is_parquet(path: Path) -> bool:
    """Whether `path` is a Parquet file or a folder with `train*.parquet` in it or in `data/`."""
    return path.suffix == ".parquet" or bool(_shards(_home(path), "train"))


def read_parquet(path: Path, size: int | None) -> Dataset:
    """Return the dataset in a folder, or the pair of a `train*.parquet` and its test file.

    Small square images (up to 64 pixels) are decoded at once and the statistics measured; others
    stay encoded, are cut to `size` or 224 on reading, and get ImageNet's statistics.
    """
    train_files, test_files = _files(path)
    train, test = _Table.read(train_files), _Table.read(test_files)
    classes = _class_names(train, test)
    first = train.images[0]
    channels = channels_of(first, train.name(0))
    image = decode(first, channels, train.name(0))
    parts: tuple[Split, Split]
    if image.width == image.height <= SMALL:
        size = size or image.width
        small = [_decoded(table, channels, image.size) for table in (train, test)]
        mean, std = channel_statistics(small[0])
        parts = (ArraySplit(small[0], train.labels, size), ArraySplit(small[1], test.labels, size))
    else:
        size = size or _LARGE_SIZE
        mean, std = KNOWN["imagenet"]
        if channels == 1:
            mean, std = (sum(mean) / 3,), (sum(std) / 3,)
        lazy = [
            EncodedSplit(table.images, table.labels, size, channels, table.name)
            for table in (train, test)
        ]
        parts = (lazy[0], lazy[1])
    home = path.resolve()
    name = home.parent.name if home.suffix == ".parquet" else home.name
    return Dataset(name, classes, size, channels, mean, std, *parts)


def _decoded(table: _Table, channels: int, size: tuple[int, int]) -> Images:
    """Return all images of a table; they must have one size, (width, height)."""

    def one(row: int) -> NDArray[np.uint8]:
        image = decode(table.images[row], channels, table.name(row))
        if image.size != size:
            raise DataError(
                f"{table.name(row)}: is {image.width} x {image.height} pixels, and the first is "
                f"{size[0]} x {size[1]}; bring them to one size"
            )
        return pixels_of(image)

    out = np.empty((len(table.images), size[1], size[0], channels), dtype=np.uint8)

    def several(rows: range) -> None:
        for row in rows:
            out[row] = one(row)

    step = 512
    rows = range(len(table.images))
    in_threads(several, [rows[i : i + step] for i in range(0, len(rows), step)], cores())
    return out


@dataclass(frozen=True)
class _Table:
    """The rows of one split; `folders` are the parent folders of the images' paths, where given."""

    images: list[bytes]
    labels: NDArray[np.int64]
    folders: list[str] | None
    names: tuple[str, ...] | None
    name: Callable[[int], str]

    @classmethod
    def read(cls, files: list[Path]) -> Self:
        parts = [ParquetImages.read(path) for path in files]
        starts = np.cumsum([0, *(len(part.images) for part in parts)])

        def name(row: int) -> str:
            at = int(np.searchsorted(starts, row, side="right")) - 1
            return f"{files[at]}: row {row - int(starts[at])}"

        images = [image for part in parts for image in part.images]
        if not images:
            raise DataError(f"{files[0]}: has no rows")
        folders = [folder for part in parts for folder in part.folders or ()]
        return cls(
            images=images,
            labels=np.concatenate([part.labels for part in parts]),
            folders=folders if len(folders) == len(images) else None,
            names=parts[0].names,
            name=name,
        )


def _home(path: Path) -> Path:
    inner = path / "data"
    return inner if not _shards(path, "train") and _shards(inner, "train") else path


def _shards(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}*.parquet"))


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the training and the test files that belong to `path`."""
    if path.suffix == ".parquet":
        if not path.name.startswith("train"):
            raise DataError(f"{path}: must be the training file, train*.parquet, of a pair")
        train, home = [path], path.parent
    else:
        home = _home(path)
        train = _shards(home, "train")
    for name in _TEST_NAMES:
        test = _shards(home, name)
        if test:
            return train, test
    raise DataError(f"{home}: has {train[0].name} and no test*.parquet or validation*.parquet")


def _class_names(train: _Table, test: _Table) -> tuple[str, ...]:
    """Return the names the file gives, else those of the images' folders, else "0", "1", ...

    Folders count only when each class has exactly one folder of its own.
    """
    count = int(max(train.labels.max(), test.labels.max())) + 1
    if train.names is not None:
        if len(train.names) < count:
            raise DataError(
                f"{train.name(0).rpartition(':')[0]}: names {len(train.names)} classes, and "
                f"there is a label {count - 1}"
            )
        return train.names
    pairs = set(zip(train.labels.tolist(), train.folders or (), strict=False))
    names = dict(sorted(pairs))
    if len(pairs) == len(names) == len(set(names.values())) == count:
        return tuple(names.values())
    return tuple(str(i) for i in range(count))
