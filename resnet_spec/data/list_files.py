"""A list of images: a CSV file with a line for each, its path and its class."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from resnet_spec.errors import DataError

_MOST_BYTES = 1 << 30
_LONGEST_NAME = 1000
_SHOWN = 40
_PATHS = ("path", "file", "filename", "file_name", "image", "image_path")
_LABELS = ("label", "class", "category", "class_name")
_UNLABELLED = {"", "-1"}
"""How a list of images to predict fills the column of labels."""
_Read = TypeVar("_Read")


class Sample(NamedTuple):
    """An image file and its class, by name or, from Python, by number. where: for errors."""

    path: str
    label: str | int
    where: str


def read_list(path: Path) -> list[Sample]:
    """Return the samples of a CSV file. Raises DataError."""
    samples = _table(path, _rows)
    if not samples:
        raise DataError(f"{path}: names no image; give it a line for each, or remove it")
    return samples


def has_columns(header: Sequence[str]) -> bool:
    """Whether the first line of a CSV file has a column of paths and one of labels."""
    names = {name.strip().lower() for name in header}
    return not names.isdisjoint(_PATHS) and not names.isdisjoint(_LABELS)


def is_unlabelled(path: Path) -> bool:
    """Whether a CSV file has no column of labels, or in all its lines none, or -1.

    Raises DataError for what cannot be read.
    """
    header, *rows = _table(path, lambda rows, _: rows) or [list(_LABELS)]  # Who reads it says so.
    names = [name.strip().lower() for name in header]
    places = [place for place, name in enumerate(names) if name in _LABELS]
    labels = {row[places[0]].strip() for row in rows if places and len(row) == len(header)}
    return not places or (bool(labels) and labels <= _UNLABELLED)


def _table(path: Path, take: Callable[[Any, Path], Iterable[_Read]]) -> list[_Read]:
    """Return what `take` makes of the lines of a CSV file. Raises DataError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB; part it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(take(csv.reader(file, strict=True), path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        why = " ".join(str(error).split())
        raise DataError(f"{path}: is no CSV file of UTF-8 text ({why})") from None


def _rows(rows: Any, path: Path) -> Iterable[Sample]:
    header = next(rows, None)
    if header is None:
        raise DataError(f"{path}: is empty; it must have the columns path and label")
    places = [_column(header, known, path) for known in (_PATHS, _LABELS)]
    for row in rows:
        if not row:
            continue
        where = f"{path}:{rows.line_num}"
        if len(row) != len(header):
            rule = f"has {len(row)} values, and the header has {len(header)}"
            raise DataError(f"{where}: {rule}")
        file, label = (row[place].strip() for place in places)
        if not file or not label:
            raise DataError(f"{where}: has no {'label' if file else 'path'}")
        check_name(label, where)
        yield Sample(os.path.normpath(path.absolute().parent / file), label, where)


def _column(header: Sequence[str], known: Sequence[str], path: Path) -> int:
    """Return which column is called by one of the `known` names."""
    names = [name.strip().lower() for name in header]
    found = [place for place, name in enumerate(names) if name in known]
    if len(found) == 1:
        return found[0]
    if found:
        both = " and ".join(names[place] for place in found)
        raise DataError(f"{path}: has the columns {both}, of which one is to be {known[0]}")
    shown = ", ".join(names)[:100]
    raise DataError(
        f"{path}: has no column {known[0]}; its first line must be a header with path and label, "
        f"and is: {shown}"
    )


def check_name(label: str, where: str) -> None:
    """Raise DataError for what is no name of a class: a quote that nobody closed takes in lines."""
    if not label.isprintable() or not 0 < len(label) <= _LONGEST_NAME:
        shown = label if len(label) <= _SHOWN else f"{label[:_SHOWN]}..."
        rule = f"must be a line of 1 to {_LONGEST_NAME} characters"
        raise DataError(f"{where}: label = {shown!r}: {rule}")
    if label[0] == "-" and label[1:].isdecimal():  # As -1, which says that there is none.
        raise DataError(f"{where}: label = {label}: is no class; leave images without a label out")
