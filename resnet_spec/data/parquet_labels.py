"""The classes of Parquet files, and labels that mean the same class in every one of them.

A file numbers its classes itself; another file of the same dataset may number them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from resnet_spec.data.classes import (
    Labels,
    Ordered,
    check_unique,
    few,
    order_notes,
    places_in,
    sorted_names,
)
from resnet_spec.data.parquet_file import ParquetImages
from resnet_spec.errors import DataError

Parts = Sequence[ParquetImages]


@dataclass(frozen=True)
class Labelled:
    """Class names, and the labels of all rows of each split, in the order in which they came."""

    names: tuple[str, ...]
    labels: tuple[Labels, ...]
    notes: tuple[str, ...]


def labelled(train: Parts, *others: Parts) -> Labelled:
    """Return the classes of a dataset; without training files they are those of the first others.

    others: the test files, and those of other splits that are evaluated on.
    """
    first, splits = train or others[0], (train, *others)
    every = [part for parts in splits for part in parts]
    if first[0].texts is not None:
        return _by_text(first, splits)
    named = [part for part in every if part.names is not None]
    if named:
        return _by_metadata(splits, named[0])
    names = _folder_names(first)
    if names is not None:
        rest = [part for parts in others for part in parts]
        moved, notes = _by_folder(names, rest) if train else ({}, [])
        if all(id(it) in moved or _highest([it]) < len(names) for it in every):
            return _in_order(names, splits, moved, notes)
    numbers = tuple(str(i) for i in range(_highest(every) + 1))
    return _in_order(numbers, splits, {}, ())


def _highest(parts: Parts) -> int:
    return max((int(part.labels.max()) for part in parts if len(part.labels)), default=-1)


def _by_text(first: Parts, splits: Sequence[Parts]) -> Labelled:
    """Return the classes that the texts of the first files are, in their order."""
    texts = [text for part in first for text in part.texts or ()]
    names = sorted_names(set(texts))
    places = {name: place for place, name in enumerate(names)}
    for part in (part for parts in splits for part in parts):
        for row, text in enumerate(part.texts or ()):
            if text not in places:
                places_in([text], names, f"{part.path}: row {row}", "the training files")

    def labels(parts: Parts) -> Labels:
        found = [places[text] for part in parts for text in part.texts or ()]
        return np.array(found, dtype=np.int64)

    return Labelled(names, tuple(map(labels, splits)), order_notes(names))


def _by_metadata(splits: Sequence[Parts], first: ParquetImages) -> Labelled:
    """Return the classes that file `first` names; the labels of other files are mapped by name."""
    known = first.names or ()
    check_unique(known, str(first.path))
    moved: dict[int, Labels] = {}
    notes: list[str] = []
    unnamed: list[str] = []
    for part in (part for parts in splits for part in parts):
        names = known if part.names is None else part.names
        if _highest([part]) >= len(names):
            whose = f"{part.path}: names" if part.names else f"{part.path}: {first.path.name} names"
            worst = _highest([part])
            raise DataError(f"{whose} {len(names)} classes, and there is a label {worst}")
        if part.names is None:
            unnamed.append(part.path.name)
        elif names != known:
            check_unique(names, str(part.path))
            moved[id(part)] = places_in(names, known, str(part.path), str(first.path))
            notes.append(
                f"{part.path.name} has the classes in another order than {first.path.name} "
                f"({few(names)}; {few(known)}); its labels are mapped by name"
            )
    if unnamed:
        which = "name" if len(unnamed) > 1 else "names"
        notes.append(f"{few(unnamed)} {which} no classes, and is read with {first.path.name}'s")
    return _in_order(known, splits, moved, notes)


def _in_order(
    stored: tuple[str, ...],
    splits: Sequence[Parts],
    moved: dict[int, Labels],
    notes: Sequence[str],
) -> Labelled:
    """Return labels as `stored` has them, moved where a file has others, names in their order."""
    order = Ordered.of(stored)

    def labels(parts: Parts) -> Labels:
        rows = [
            moved[id(part)][part.labels] if id(part) in moved else part.labels for part in parts
        ]
        return order.places[np.concatenate(rows)] if rows else np.empty(0, np.int64)

    return Labelled(order.names, tuple(map(labels, splits)), (*notes, *order.notes))


def _pairs(parts: Parts) -> Iterator[tuple[int, str]]:
    for part in parts:
        yield from zip(part.labels.tolist(), cast("list[str]", part.folders), strict=True)


def _folder_names(parts: Parts) -> tuple[str, ...] | None:
    """Return the folders of the images' paths, where each class has exactly one of its own."""
    if any(part.folders is None for part in parts):
        return None
    pairs = set(_pairs(parts))
    names = dict(sorted(pairs))
    count = len(pairs)
    is_one_to_one = count == len(names) == len(set(names.values()))
    return tuple(names.values()) if is_one_to_one and max(names) == count - 1 else None


def _by_folder(names: tuple[str, ...], others: Parts) -> tuple[dict[int, Labels], list[str]]:
    """Return how to map labels of files whose images' folders number the classes otherwise.

    Folders that are no classes, as `test/`, say nothing. Raises DataError where they contradict.
    """
    moved: dict[int, Labels] = {}
    notes: list[str] = []
    for part in others:
        if part.folders is None or not set(part.folders) <= set(names):
            continue
        pairs = dict(_pairs([part]))
        for row, (label, folder) in enumerate(_pairs([part])):
            if pairs[label] != folder:
                rule = f"label {label} lies in {folder}/ here, and in {pairs[label]}/ elsewhere"
                raise DataError(f"{part.path}: row {row}: {rule}; make them one")
        if len(set(pairs.values())) != len(pairs):
            raise DataError(f"{part.path}: two labels lie in one folder; number the classes alike")
        places = np.zeros(max(pairs) + 1, np.int64)
        for label, folder in pairs.items():
            places[label] = names.index(folder)
        if any(places[label] != label for label in pairs):
            moved[id(part)] = places
            notes.append(
                f"{part.path.name} numbers the classes otherwise than the training files, by the "
                "folders of its images; its labels are mapped by name"
            )
    return moved, notes
