"""Data with a validation part of its own, in every form: pets, of which parts differ in number."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pets import COLOURS, paint

from resnet_spec.data import load_data
from resnet_spec.data.dataset import Dataset

COUNTS = {"train": 6, "val": 2, "test": 1}
"""Images of each of the three classes in each part."""


def folder(home: Path, **more: int) -> Path:
    """Make an image folder with three parts; more: other parts, and how many images of a class."""
    for split, count in {**COUNTS, **more}.items():
        paint(home, count=count, splits=(split,))
    return home


def lists(home: Path, **more: int) -> Path:
    """Make lists of as many images, each in one, beside a folder of them that is no split."""
    counts, first = {**COUNTS, **more}, 0
    paint(home, count=sum(counts.values()), splits=("pictures",))
    for split, count in counts.items():
        numbers = range(first, first + count)
        first += count
        lines = [f"pictures/{name}/{i:02}.png,{name}" for name in COLOURS for i in numbers]
        (home / f"{split}.csv").write_text("\n".join(["path,label", *lines, ""]))
    return home


def parquet(home: Path) -> Path:
    """Make Parquet files of the same images, with texts for labels. Needs pyarrow."""
    arrow: Any = import_module("pyarrow")
    write: Any = import_module("pyarrow.parquet").write_table
    home.mkdir(parents=True)
    for split in COUNTS:
        files = sorted((folder(home.parent / f"of-{split}") / split).rglob("*.png"))
        images = [{"bytes": file.read_bytes()} for file in files]
        table = arrow.table({"image": images, "label": [file.parent.name for file in files]})
        write(table, home / f"{split}.parquet")
    return home


def arrays(home: Path) -> Dataset:
    """Return the images of `folder` in memory; the folder is not looked at again."""
    data = load_data(folder(home), size=8)
    assert data.validation is not None
    train, test, own = (
        (split.images(np.arange(len(split))), split.labels) for split in data.splits.values()
    )
    return Dataset.from_arrays("pets", train, test, data.classes, validation=own)


FORMS: dict[str, Callable[[Path], Path | Dataset]] = {
    "folders": folder,
    "lists": lists,
    "Parquet": parquet,
    "Python": arrays,
}
