"""One Parquet file with encoded images: its columns, and their checked content.

Needs pyarrow, which is imported when such a file is read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from resnet_spec.data.classes import Labels
from resnet_spec.data.parquet_columns import Columns, Schema
from resnet_spec.errors import DataError

_MOST_BYTES = 1 << 34
_MOST_CLASSES = 1_000_000
_UNLABELLED = (None, -1, "")
"""How a split without labels fills their column."""


def read_schema(path: Path) -> Schema:
    """Return the columns of the file `path`. Raises DataError."""
    with _file(path) as (file, arrow):
        return Schema.of(path, file.schema_arrow, arrow)


def is_unlabelled(path: Path, label: str) -> bool:
    """Whether the file `path` has no column `label`, or no label in any of its rows."""
    with _file(path) as (file, _):
        if label not in file.schema_arrow.names:
            return True
        values = file.read(columns=[label]).column(label).to_pylist()
        return bool(values) and all(value in _UNLABELLED for value in values)


@dataclass(frozen=True)
class ParquetImages:
    """The rows of one file.

    labels: as the file numbers its classes, int64 [N]; texts: each row's class, where the labels
    are names. folders: the parent folder of each image's path, None where one has none. names: the
    classes' names from the metadata, or None.
    """

    path: Path
    images: list[bytes]
    labels: Labels
    texts: list[str] | None
    folders: list[str] | None
    names: tuple[str, ...] | None

    @classmethod
    def read(cls, path: Path, columns: Columns) -> Self:
        """Return the rows of `path`. Raises DataError."""
        with _file(path) as (file, arrow):
            schema = Schema.of(path, file.schema_arrow, arrow)
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            if sum(group.total_byte_size for group in groups) > _MOST_BYTES:
                raise DataError(f"{path}: is larger than memory allows; use an image folder")
            table = file.read(columns=[columns.image, columns.label])
        images, folders = _images(table.column(columns.image), path, arrow)
        values = table.column(columns.label).to_pylist()
        texts = _texts(values, columns.label, path) if columns.texts else None
        numbers = [] if columns.texts else _numbers(values, columns.label, path)
        return cls(
            path=path,
            images=images,
            labels=np.array(numbers, dtype=np.int64),
            texts=texts,
            folders=folders,
            names=None if columns.texts else schema.class_names(columns.label),
        )


@contextmanager
def _file(path: Path) -> Generator[tuple[Any, Any]]:
    """Give an open file, and pyarrow. Raises DataError for what is no whole Parquet file."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            "Parquet: needs pyarrow, which is not installed; pip install 'resnet-spec[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file, arrow
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: is not a whole Parquet file ({reason})") from None


def _images(column: Any, path: Path, arrow: Any) -> tuple[list[bytes], list[str] | None]:
    """Return the encoded images, and the folders of their paths where every one has a path."""
    images: list[bytes] = []
    folders: list[str] = []
    for chunk in column.chunks:
        parts = {"bytes": chunk}
        if arrow.types.is_struct(chunk.type):
            # Unlike `field`, `flatten` carries the nulls of the struct itself into its fields.
            names = [chunk.type.field(i).name for i in range(chunk.type.num_fields)]
            parts = dict(zip(names, chunk.flatten(), strict=True))
        images += _bytes_of(parts["bytes"], len(images), path)
        if "path" in parts:
            folders += _folders(parts["path"].to_pylist())
    return images, folders if len(folders) == len(images) else None


def _bytes_of(values: Any, start: int, path: Path) -> list[bytes]:
    rows = cast("list[bytes | None]", values.to_pylist())
    for row, value in enumerate(rows):
        if value is None:
            raise DataError(f"{path}: row {start + row}: has no image bytes; remove the row")
    return cast("list[bytes]", rows)


def _folders(paths: list[str | None]) -> Iterator[str]:
    for path in paths:
        # As PurePosixPath(path).parent.name, which takes longer than reading the file.
        folder = (path or "").rpartition("/")[0].rpartition("/")[2]
        if folder:
            yield folder


def _numbers(values: list[Any], name: str, path: Path) -> list[int]:
    for row, value in enumerate(values):
        if value is None or not 0 <= value < _MOST_CLASSES:
            raise DataError(f"{path}: row {row}: {name} = {value}: must be a class number >= 0")
    return values


def _texts(values: list[Any], name: str, path: Path) -> list[str]:
    for row, value in enumerate(values):
        if not value:
            rule = "must be a class's name; remove the row or name its class"
            raise DataError(f"{path}: row {row}: {name} = {value!r}: {rule}")
    return values
