"""Parquet with encoded images, as Hugging Face datasets are stored.

Needs pyarrow, which is imported when such a dataset is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from resnet_spec.data.absent import Absent
from resnet_spec.data.classes import Labels, absent_notes
from resnet_spec.data.dataset import ArraySplit, Dataset, Images, Split
from resnet_spec.data.encoded import EncodedSplit, content_of, cores, in_threads
from resnet_spec.data.headers import Header, Survey, header
from resnet_spec.data.images import decode
from resnet_spec.data.parquet_columns import Columns, columns_of
from resnet_spec.data.parquet_file import ParquetImages, read_schema
from resnet_spec.data.parquet_labels import labelled
from resnet_spec.data.parquet_splits import choose
from resnet_spec.data.statistics import KNOWN, Statistics, channel_statistics
from resnet_spec.data.views import SMALL, pixels_of
from resnet_spec.errors import DataError

_LARGE_SIZE = 224
_UNTRAINED = "{}: has no train*.parquet to train on"
_STEP = 512
"""Images that a thread takes at a time."""


def read_parquet(path: Path, size: int | None, asked: str | None = None) -> Dataset:
    """Return the dataset in a folder, or the pair of a `train*.parquet` and its test file.

    asked: the split to evaluate on, alone; None chooses (see `parquet_splits`). Images of one small
    square size (up to 64 pixels) are decoded at once and the statistics measured; others stay
    encoded, are cut to `size` or 224 on reading, and get ImageNet's statistics. Colours and sizes
    are decided over all images.
    """
    chosen = choose(path, asked)
    files = chosen.train, chosen.test, chosen.validation
    columns = columns_of([read_schema(it) for its in files for it in its])
    rows = [_read(its, columns) for its in files]
    classes = labelled(*rows)
    tables = [_Table.of(*pair) for pair in zip(rows, classes.labels, strict=True)]
    headers = [table.headers() for table in tables]
    survey = Survey.of([it for found in headers for it in found])
    if size is None:
        _check_sizes(survey, tables, headers)
    side = _small_side(survey)
    splits: Sequence[Split]
    if side is not None:
        size = size or side
        splits, (mean, std) = _in_memory(tables, survey.channels, side, size)
    else:
        size = size or _LARGE_SIZE
        splits = [table.encoded(size, survey.channels) for table in tables]
        mean, std = _imagenet(survey.channels)
    train, test, validation = splits
    place = path.resolve()
    return Dataset(
        name=place.parent.name if place.suffix == ".parquet" else place.name,
        classes=classes.names,
        size=size,
        channels=survey.channels,
        mean=mean,
        std=std,
        train=train if chosen.train else Absent(_UNTRAINED.format(chosen.home)),
        test=test,
        notes=(
            *(*chosen.notes, *columns.notes, *classes.notes, *survey.notes),
            *absent_notes(classes.names, *classes.labels),
        ),
        validation=validation if chosen.validation else None,
    )


def _read(files: Sequence[Path], columns: Columns) -> list[ParquetImages]:
    parts = [ParquetImages.read(file, columns) for file in files]
    if parts and not any(part.images for part in parts):
        raise DataError(f"{files[0]}: has no rows")
    return parts


@dataclass(frozen=True)
class _Table:
    """The rows of one split. name: where a row is, for errors."""

    images: list[bytes]
    labels: Labels
    name: Callable[[int], str]

    @classmethod
    def of(cls, parts: Sequence[ParquetImages], labels: Labels) -> Self:
        starts = np.cumsum([0, *(len(part.images) for part in parts)])

        def name(row: int) -> str:
            at = int(np.searchsorted(starts, row, side="right")) - 1
            return f"{parts[at].path}: row {row - int(starts[at])}"

        images = [image for part in parts for image in part.images]
        return cls(images, labels, name)

    def headers(self) -> list[Header]:
        return [header(image, self.name(row)) for row, image in enumerate(self.images)]

    def encoded(self, size: int, channels: int) -> EncodedSplit:
        return EncodedSplit(self.images, self.labels, size, channels, self.name)

    def decoded(self, channels: int, side: int) -> Images:
        """Return all images, which are `side` pixels wide and high."""
        out = np.empty((len(self.images), side, side, channels), dtype=np.uint8)

        def several(rows: range) -> None:
            for row in rows:
                found = pixels_of(decode(self.images[row], channels, self.name(row)))
                if found.shape != out.shape[1:]:
                    raise DataError(f"{self.name(row)}: has another size than its header says")
                out[row] = found

        rows = range(len(self.images))
        in_threads(several, [rows[i : i + _STEP] for i in range(0, len(rows), _STEP)], cores())
        return out


def _small_side(survey: Survey) -> int | None:
    """Return the side of images that all have one small square size, or None."""
    (width, height), *others = survey.sizes
    return width if not others and width == height <= SMALL else None


def _check_sizes(
    survey: Survey, tables: Sequence[_Table], headers: Sequence[Sequence[Header]]
) -> None:
    """Refuse small images of several sizes: neither of them is the dataset's."""
    if len(survey.sizes) == 1 or max(max(size) for size in survey.sizes) > SMALL:
        return
    first = survey.sizes[0]
    for table, found in zip(tables, headers, strict=True):
        for row, it in enumerate(found):
            if (it.width, it.height) != first:
                raise DataError(
                    f"{table.name(row)}: is {it.width} x {it.height} pixels, and the first is "
                    f"{first[0]} x {first[1]}; bring them to one size, or give --input-size"
                )


def _in_memory(
    tables: Sequence[_Table], channels: int, side: int, size: int
) -> tuple[Sequence[Split], Statistics]:
    """Return the splits decoded, and the statistics of the first, which is trained on."""
    decoded = [table.decoded(channels, side) for table in tables]
    splits = [
        ArraySplit(pixels, table.labels, size, (b"".join(content_of(table.images)),))
        for pixels, table in zip(decoded, tables, strict=True)
    ]
    return splits, channel_statistics(next(pixels for pixels in decoded if len(pixels)))


def _imagenet(channels: int) -> Statistics:
    mean, std = KNOWN["imagenet"]
    return ((sum(mean) / 3,), (sum(std) / 3,)) if channels == 1 else (mean, std)
