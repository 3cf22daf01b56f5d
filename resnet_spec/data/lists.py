"""Images by a list of (path, label): pairs in Python, or CSV files with a line for each image.

A folder of lists has `train.csv` and `test.csv` (or another split's, and `validation.csv` beside
them), with the columns `path` and `label`; paths are below the folder of their list. Classes are
the labels of the training list, by name, numbers by their value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np

from resnet_spec.data.absent import Absent
from resnet_spec.data.beside import in_two, other_lists
from resnet_spec.data.classes import (
    NO_LABELS,
    absent_notes,
    check_unique,
    checked_classes,
    order_notes,
    sorted_names,
)
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.list_files import Sample, check_name, is_unlabelled, read_list
from resnet_spec.data.samples import checked_size
from resnet_spec.data.splits import (
    EVALUATED,
    NAMES,
    TRAIN,
    Parts,
    no_such_split,
    parts_note,
    parts_of,
)
from resnet_spec.data.statistics import KNOWN
from resnet_spec.data.walking import entries_of
from resnet_spec.errors import DataError, did_you_mean

_SIZE = 224
_ENDING = ".csv"


def is_lists(path: Path) -> bool:
    """Whether `path` is a folder with a list of a split in it."""
    return bool(_lists(path))


def read_lists(path: Path, size: int | None, asked: str | None = None) -> Dataset:
    """Return the dataset of the lists in a folder.

    asked: the split to evaluate on, alone; None chooses, as of image folders, whose statistics
    these are, too: ImageNet's. Raises DataError.
    """
    lists = _lists(path)
    if asked is not None and asked not in lists:
        raise no_such_split(path, asked, list(lists))
    train = read_list(lists[TRAIN]) if TRAIN in lists else None
    parts, notes = (Parts(asked), ()) if asked else _parts(path, lists)
    if train is None:
        notes = (*notes, f"{path} has no {TRAIN}.csv: it can be evaluated, not trained on")
    if asked is None:
        notes = (*notes, *other_lists(path, list(lists.values())))
    own = None if parts.validation is None else read_list(lists[parts.validation])
    fixed = path.resolve().name, train, read_list(lists[parts.test]), own
    return _dataset(*fixed, size=size, root=path, place=str(path), notes=notes)


def from_files(
    name: str,
    train: str | Path | Iterable[tuple[str | Path, str | int]],
    test: str | Path | Iterable[tuple[str | Path, str | int]],
    *,
    validation: str | Path | Iterable[tuple[str | Path, str | int]] | None = None,
    classes: Sequence[str] | None = None,
    size: int = _SIZE,
) -> Dataset:
    """Return a dataset of image files, which are decoded as they are read.

    train, test: pairs (path, label), or the path of a CSV file with the columns `path` and `label`,
        whose paths are below its folder. A label is the name of a class, or its number.
    validation: the same; what runs choose their best epoch by. None: the test images.
    classes: their names in order, in which whole numbers are then places; None takes the labels of
        `train`, numbers by their value.
    size: pixels per side. Grey images become three equal channels.

    Raises DataError for a label that is no class, a file that is not there, or a class without a
    training image.
    """
    found = _samples(train, f"{name}, {TRAIN}"), _samples(test, f"{name}, test")
    own = None if validation is None else _samples(validation, f"{name}, validation")
    return _dataset(name, *found, own, size=size, classes=classes, place=name)


def _samples(part: Any, where: str) -> list[Sample]:
    if isinstance(part, str | Path):
        return read_list(Path(part))
    if not isinstance(part, Iterable):
        kind = type(part).__name__
        raise DataError(f"{where}: must be pairs (path, label) or a .csv file, and is {kind}")
    return [_sample(pair, f"{where}[{i}]") for i, pair in enumerate(cast("Iterable[Any]", part))]


def _sample(pair: Any, where: str) -> Sample:
    # Callers in Python are not bound to the types.
    if not issubclass(type(pair), tuple | list) or len(pair) != 2:
        raise DataError(f"{where}: must be a pair (path, label), and is {type(pair).__name__}")
    path, label = pair
    if not issubclass(type(path), str | PurePath):
        raise DataError(f"{where}: path must be a text or a Path, and is {type(path).__name__}")
    kind = type(label).__name__
    if kind == "bool" or not issubclass(type(label), str | int | np.integer):
        raise DataError(f"{where}: label must be a name or a whole number, and is {kind}")
    check_name(str(label), where)
    named = label if issubclass(type(label), str) else int(label)
    return Sample(str(Path(path).absolute()), named, where)


def _lists(path: Path) -> dict[str, Path]:
    """Return the lists in a folder by their split."""
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for entry in entries_of(path):
        stem, ending = Path(entry.name.lower()).stem, Path(entry.name.lower()).suffix
        if ending == _ENDING and stem in NAMES and entry.is_file:
            if stem in found:
                raise DataError(f"{path}: has {found[stem].name} and {entry.name}; rename one")
            found[stem] = path / entry.name
    return found


def _parts(path: Path, lists: dict[str, Path]) -> tuple[Parts, tuple[str, ...]]:
    """Return what the lists are for, with notes; one without labels is passed over."""
    there = [name for name in EVALUATED if name in lists]
    if not there:
        raise DataError(f"{path}: has {TRAIN}.csv and nothing to evaluate on; add test.csv")
    names = [name for name in there if not is_unlabelled(lists[name])] or there[:1]
    parts = parts_of(names, trains=TRAIN in lists)
    left = (f"{name}.csv has no labels and is left out" for name in there if name not in names)
    return parts, (*left, *parts_note(parts, names, lambda name: f"{name}.csv", path))


def _dataset(
    name: str,
    train: list[Sample] | None,
    test: list[Sample],
    validation: list[Sample] | None,
    *,
    size: int | None,
    classes: Sequence[str] | None = None,
    root: Path | None = None,
    place: str,
    notes: tuple[str, ...] = (),
) -> Dataset:
    names = {str(it.label) for it in train or test}
    known = sorted_names(names) if classes is None else checked_classes(classes, f"data {name}")
    check_unique(known, f"data {name}")
    size = _SIZE if size is None else checked_size(size, f"data {name}")
    split = _Maker(known, size, root, is_given=classes is not None)
    tested = split.made(test, f"{place}: the list to evaluate")
    own = None if validation is None else split.made(validation, f"{place}: the validation list")
    trained = None if train is None else split.made(train, f"{place}: the training list")
    if trained is not None:
        counts = np.bincount(trained.labels, minlength=len(known))
        for one, count in zip(known, counts.tolist(), strict=True):
            if not count:
                rule = f"the training list has no image of the class {one!r}"
                raise DataError(f"{place}: {rule}; add one, or leave the class out of classes")
    mean, std = KNOWN["imagenet"]
    told = order_notes(known) if classes is None else ()
    seen = tested.labels, NO_LABELS if own is None else own.labels
    both = {"training": train or [], "validation": validation or [], "test": test}
    told += in_two({part: [it.path for it in samples] for part, samples in both.items()})
    return Dataset(
        name=name,
        classes=known,
        size=size,
        channels=3,
        mean=mean,
        std=std,
        train=trained or Absent(f"{place}: has no list to train on"),
        test=tested,
        notes=(*notes, *told, *absent_notes(known, NO_LABELS, *seen)),
        validation=own,
    )


class _Maker:
    """Makes splits of one dataset. root: the folder of the lists, no part of what a split is."""

    def __init__(
        self, classes: tuple[str, ...], size: int, root: Path | None, *, is_given: bool
    ) -> None:
        self._classes, self._size, self._root = classes, size, root
        self._places = {name: place for place, name in enumerate(classes)}
        self._is_given = is_given

    def made(self, samples: list[Sample], what: str) -> EncodedSplit:
        if not samples:
            raise DataError(f"{what} names no image; give it a pair for each, or leave it out")
        _check_files(samples, what)
        labels = np.array([self._label(sample) for sample in samples], np.int64)
        _check_contradictions(samples, labels.tolist(), self._classes)
        files = [sample.path for sample in samples]
        root = "" if self._root is None else os.fspath(self._root.absolute())
        common = root if all(file.startswith(root + os.sep) for file in files) else ""
        fixed = files, labels, self._size, 3, files.__getitem__
        return EncodedSplit(*fixed, root=common)

    def _label(self, sample: Sample) -> int:
        label = sample.label
        if isinstance(label, str) and label.isdecimal() and label not in self._places:
            label = int(label)
        if isinstance(label, int) and self._is_given:
            if 0 <= label < len(self._classes):
                return label
            rule = f"{label} is no place in {len(self._classes)} classes"
            raise DataError(f"{sample.where}: {rule}")
        found = self._places.get(str(label))
        if found is None:
            hint = did_you_mean(str(label), self._classes)
            raise DataError(f"{sample.where}: {label!r} is not a class of the data; {hint}")
        return found


def _check_files(samples: list[Sample], what: str) -> None:
    """Raise DataError where files are not there, before hours later one is to be read."""
    gone = [sample for sample in samples if not Path(sample.path).is_file()]
    if gone:
        first = gone[0]
        more = f" (and {len(gone) - 1} more of {len(samples)})" if len(gone) > 1 else ""
        raise DataError(f"{first.where}: there is no file {first.path}{more}")


def _check_contradictions(samples: list[Sample], labels: list[int], names: Sequence[str]) -> None:
    """Raise DataError where a list calls one file by two classes: one of them is wrong."""
    seen: dict[str, int] = {}
    for sample, label in zip(samples, labels, strict=True):
        first = seen.setdefault(sample.path, label)
        if first != label:
            both = f"{names[first]!r} before, and {names[label]!r} here; give it one label"
            raise DataError(f"{sample.where}: {sample.path} is {both}")
