"""Datasets that a person made in Python: checked as files are, and how a run calls them.

A label outside of the classes is an error in one framework and a silent zero in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from resnet_spec.data.dataset import Dataset, Split
from resnet_spec.errors import DataError, problem


def name_of(data: Dataset) -> str:
    """Return what a run and its checkpoints call the source of `data`: no name that can be read."""
    return f"<{data.name}>"


def is_name_of_given(name: str) -> bool:
    """Whether `name_of` made `name`."""
    return name.startswith("<") and name.endswith(">")


def checked(data: Dataset, size: int | None = None) -> Dataset:
    """Return `data` when it is a sound dataset of images of `size`; None takes its own size.

    The first and the last image of each split are read. Raises DataError with every problem.
    """
    problems = list(_problems(data, size))
    if problems:
        raise DataError(*problems)
    return data


def _problems(data: Dataset, size: int | None) -> Iterator[str]:
    name = f"data {data.name}"
    if size is not None and size != data.size:
        rule = f"the dataset has images of {data.size} pixels"
        yield problem("input size", size, rule, "make it with images of the size that you want")
    if not data.name.isprintable() or not data.name or set(data.name) & set("/\\"):
        yield problem("data: name", repr(data.name), "must be a word, which folders are named by")
    if not data.classes or len(set(data.classes)) < len(data.classes):
        yield f"{name}: classes must be names, one or more, each once"
    for what, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != data.channels or not np.isfinite(values).all():
            yield problem(f"{name}: {what}", values, f"must be {data.channels} numbers")
    if any(value <= 0 for value in data.std):
        yield problem(f"{name}: std", data.std, "must be above 0")
    for which, split in data.splits.items():
        yield from (f"{name}, {which}: {line}" for line in _problems_of(data, split))


def _problems_of(data: Dataset, split: Split) -> Iterator[str]:
    labels: Any = split.labels  # Callers in Python are not bound to the types.
    if getattr(labels, "dtype", None) != np.int64:
        kind = getattr(labels, "dtype", type(labels).__name__)
        yield f"labels must be an array of int64, and are {kind}"
        return
    if labels.shape != (len(split),):
        yield f"labels must be [{len(split)}], one for each image, and are {list(labels.shape)}"
        return
    if not len(labels):
        yield "holds no images"
        return
    least, most, count = int(labels.min()), int(labels.max()), len(data.classes)
    if least < 0 or most >= count:
        yield f"labels are {least} to {most}, and must be 0 to {count - 1} for {count} classes"
    ends = np.array([0, len(labels) - 1], np.int64)
    try:
        found = np.asarray(split.images(ends))
    except IndexError:
        yield f"has {len(labels)} labels, and fewer images"
        return
    wanted = [data.size, data.size, data.channels]
    if found.dtype != np.uint8 or list(found.shape) != [2, *wanted]:
        is_like = f"two of them are {found.dtype} {list(found.shape)}"
        yield f"images must be uint8 [n, {', '.join(map(str, wanted))}], and {is_like}"
