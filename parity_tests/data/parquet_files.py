"""Small Parquet datasets for tests, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq: Any = pytest.importorskip("pyarrow.parquet")


def encoded(
    seed: int, width: int = 6, height: int = 6, mode: str = "RGB", kind: str = "PNG"
) -> bytes:
    """Return an image of noise in a file."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    buffer = BytesIO()
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def structs(images: Sequence[bytes], paths: Sequence[str | None] | None = None) -> Any:
    rows = [
        {"bytes": image, "path": path}
        for image, path in zip(images, paths or [None] * len(images), strict=True)
    ]
    return arrow.array(rows, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))


def write(path: Path, names: dict[str, list[str]] | None = None, **columns: Any) -> Path:
    """Write a file. names: the class names of columns that are ClassLabels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow.table(columns)
    if names is not None:
        features = {
            column: {"names": classes, "_type": "ClassLabel"} for column, classes in names.items()
        }
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=3)
    return path


def labelled(path: Path, labels: Any, names: list[str] | None = None, first: int = 0) -> Path:
    """Write a file of images that all differ, with a column `label`."""
    images = structs([encoded(first + i) for i in range(len(labels))])
    return write(path, None if names is None else {"label": names}, image=images, label=labels)
