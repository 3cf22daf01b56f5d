"""One Parquet file with encoded images: which columns hold what, and their checked content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import DataError

_MOST_BYTES = 1 << 34
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class ParquetImages:
    """The rows of one file.

    labels: int64 [N]. folders: the parent folder of each image's path, None where one has none.
    names: the classes' names from the metadata that Hugging Face's `datasets` writes, or None.
    """

    images: list[bytes]
    labels: NDArray[np.int64]
    folders: list[str] | None
    names: tuple[str, ...] | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the rows of `path`. Raises DataError."""
        arrow, parquet = _pyarrow()
        try:
            with parquet.ParquetFile(path) as file:
                features = _features(file.schema_arrow.metadata)
                image, label = _columns(file.schema_arrow, features, path, arrow)
                groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
                if sum(group.total_byte_size for group in groups) > _MOST_BYTES:
                    raise DataError(f"{path}: is larger than memory allows; use an image folder")
                table = file.read(columns=[image, label])
        except (arrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{path}: is not a whole Parquet file ({reason})") from None
        images, folders = _images(table.column(image), path, arrow)
        return cls(
            images, _labels(table.column(label), label, path), folders, _names(features, label)
        )


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            "Parquet: needs pyarrow, which is not installed; pip install 'resnet-spec[parquet]'"
        ) from None


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Return the `features` that Hugging Face's `datasets` writes into the file, or {}."""
    try:
        value = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _columns(schema: Any, features: dict[str, Any], path: Path, arrow: Any) -> tuple[str, str]:
    """Return the names of the image and the label column."""
    types = {field.name: field.type for field in schema}
    images = [name for name, kind in types.items() if _holds_bytes(kind, arrow)]
    labels = [name for name, kind in types.items() if arrow.types.is_integer(kind)]
    classes = [name for name in labels if _kind(features, name) == "ClassLabel"]
    return (
        _choose(images, _IMAGE_NAMES, "image bytes", types, path),
        _choose(classes or labels, _LABEL_NAMES, "integer labels", types, path),
    )


def _holds_bytes(kind: Any, arrow: Any) -> bool:
    if arrow.types.is_struct(kind):
        places = [i for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        return bool(places) and _holds_bytes(kind.field(places[0]).type, arrow)
    return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)


def _choose(
    found: list[str], preferred: tuple[str, ...], what: str, types: dict[str, Any], path: Path
) -> str:
    for name in preferred:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    columns = ", ".join(f"{name} ({kind})" for name, kind in types.items())
    rule = f"no column holds {what}" if not found else f"several columns hold {what}"
    raise DataError(f"{path}: {rule}; name it {preferred[0]}; it has {columns}")


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


def _labels(column: Any, name: str, path: Path) -> NDArray[np.int64]:
    rows = cast("list[int | None]", column.to_pylist())
    for row, value in enumerate(rows):
        if value is None or not 0 <= value < 1_000_000:
            raise DataError(f"{path}: row {row}: {name} = {value}: must be a class number >= 0")
    return np.array(rows, dtype=np.int64)


def _kind(features: dict[str, Any], name: str) -> object:
    feature = features.get(name)
    return cast("dict[str, Any]", feature).get("_type") if isinstance(feature, dict) else None


def _names(features: dict[str, Any], label: str) -> tuple[str, ...] | None:
    feature = features.get(label)
    names = cast("dict[str, Any]", feature).get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list):
        return None
    return tuple(str(name) for name in cast("list[object]", names))
