"""Image folders: a folder per class in `train/` and in `val/` (or another split), or classes alone.

A class's images may lie in sub-folders. What is not read is counted in a note.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_spec.data.absent import Absent
from resnet_spec.data.beside import other_folders, same_folders
from resnet_spec.data.classes import NO_LABELS, absent_notes, order_notes, sorted_names
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.images import SUFFIXES
from resnet_spec.data.splits import (
    EVALUATED,
    NAMES,
    TEST,
    TRAIN,
    no_such_split,
    parts_note,
    parts_of,
)
from resnet_spec.data.statistics import KNOWN
from resnet_spec.data.walking import (
    Left,
    count_file,
    entries_of,
    has_image,
    images_below,
    is_image,
)
from resnet_spec.errors import DataError, did_you_mean

_SIZE = 224
_ALSO = {"training": TRAIN, "testing": "test"}
"""How some spell folders of splits."""


@dataclass(frozen=True)
class _Chosen:
    """The folders of a dataset. train: None where there is none to train on, for `reason`.

    validation: None where there is none beside the test part.
    """

    train: Path | None
    test: Path
    reason: str
    notes: tuple[str, ...]
    validation: Path | None = None


def is_image_folder(path: Path) -> bool:
    """Whether `path` has splits with images in them."""
    return bool(_splits(path))


def has_class_folders(path: Path) -> bool:
    """Whether a split in `path` has folders of classes, and not pictures alone."""
    return any(_has_folders(split) for split in _splits(path).values())


def is_class_folder(path: Path) -> bool:
    """Whether `path` is a folder of classes: every folder in it has images, and not only below.

    A folder of whole datasets is none, and nor is one with a folder of pictures beside others.
    """
    folders = [entry.path for entry in entries_of(path) if entry.is_folder] if path.is_dir() else []
    return bool(folders) and all(has_image(folder) for folder in folders)


def read_image_folder(path: Path, size: int | None, asked: str | None = None) -> Dataset:
    """Return the dataset in `path`. Classes are the folders of `train/`, numbers by their value.

    asked: the split to evaluate on, alone; None chooses, and takes `val/` for validation where
    `test/` is there, too. Images are decoded when they are read. The statistics are ImageNet's.
    """
    splits = _splits(path)
    if asked is not None and asked not in splits:
        raise no_such_split(path, asked, list(splits))
    chosen = _chosen(path, splits, asked)
    if chosen.train is None:
        note = f"{path} has no train/: it can be evaluated, not trained on"
        chosen = replace(chosen, notes=(*chosen.notes, note))
    return _dataset(path, size, chosen)


def read_class_folder(path: Path, size: int | None, asked: str | None = None) -> Dataset:
    """Return the images of a folder of classes, to be evaluated; nobody parted it for training."""
    if asked is not None:
        raise no_such_split(path, asked, ())
    reason = f"{path}: has folders of classes, not train/ and val/; part it to train on it"
    note = f"{path} has no train/ and val/: all its images are evaluated, and none trained on"
    return _dataset(path, size, _Chosen(None, path, reason, (note,)))


def _dataset(path: Path, size: int | None, chosen: _Chosen) -> Dataset:
    size = size or _SIZE
    home = chosen.train or chosen.test
    classes = sorted_names(_folders(home))
    for part in (chosen.test, chosen.validation):
        if part is not None:
            _check_classes(part, classes, home)
    left = Left()
    test = _split(chosen.test, classes, size, left)
    train = _split(chosen.train, classes, size, left) if chosen.train else None
    own = _split(chosen.validation, classes, size, left) if chosen.validation else None
    _check_whole(train, classes, chosen.train)
    mean, std = KNOWN["imagenet"]
    parts = {"training": chosen.train, "validation": chosen.validation, "test": chosen.test}
    shared = same_folders({name: it for name, it in parts.items() if it is not None}, classes)
    counts = absent_notes(classes, NO_LABELS, test.labels, NO_LABELS if own is None else own.labels)
    return Dataset(
        name=path.resolve().name,
        classes=classes,
        size=size,
        channels=3,
        mean=mean,
        std=std,
        train=train or Absent(chosen.reason),
        test=test,
        notes=(*chosen.notes, *order_notes(classes), *counts, *shared, *left.notes(str(path))),
        validation=own,
    )


def _splits(path: Path) -> dict[str, Path]:
    """Return the folders of splits in `path` by their split, `Train/` as well as `train/`."""
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for entry in entries_of(path):
        name = _ALSO.get(entry.name.lower(), entry.name.lower())
        if name not in NAMES or not entry.is_folder or _holds_parquet(entry.path):
            continue
        if name in found:
            raise DataError(f"{path}: has {found[name].name}/ and {entry.name}/; rename one")
        found[name] = path / entry.name
    return found


def _holds_parquet(folder: str) -> bool:
    return any(entry.name.endswith(".parquet") for entry in entries_of(folder))


def _chosen(path: Path, splits: dict[str, Path], asked: str | None) -> _Chosen:
    """Return the folders that are used, with notes on the others."""
    train, reason = splits.get(TRAIN), f"{path}: has no train/ to train on"
    if asked is not None:
        return _Chosen(train, splits[asked], reason, ())
    names = [name for name in EVALUATED if name in splits]
    usable = [name for name in names if _has_folders(splits[name])]
    if len(usable) > 1 and TEST in usable and _is_one_lump(splits[TEST], train):
        usable.remove(TEST)
    if not usable and names:
        raise DataError(f"{splits[names[0]]}: has no folder; it must have one for each class")
    if not usable:
        expected = ", ".join(f"{name}/" for name in EVALUATED)
        raise DataError(f"{path}: has train/ and nothing to evaluate on; add one of {expected}")
    parts = parts_of(usable, trains=train is not None)
    notes = (
        *other_folders(path, list(splits.values())),
        *(
            f"{splits[name].name}/ has no folders of classes and is left out"
            for name in names
            if name not in usable
        ),
        *parts_note(parts, usable, lambda name: f"{splits[name].name}/", path),
    )
    own = None if parts.validation is None else splits[parts.validation]
    return _Chosen(train, splits[parts.test], reason, notes, own)


def _is_one_lump(test: Path, train: Path | None) -> bool:
    """Whether `test` has its images in one folder that is no class, as Tiny ImageNet's `images/`.

    They are to be predicted: nobody says what they are.
    """
    folders = _folders(test)
    return train is not None and len(folders) == 1 and folders[0] not in _folders(train)


def _has_folders(path: Path) -> bool:
    return any(entry.is_folder for entry in entries_of(path))


def _folders(path: Path) -> list[str]:
    found = [entry.name for entry in entries_of(path) if entry.is_folder]
    if not found:
        raise DataError(f"{path}: has no folder; it must have one for each class")
    return found


def _check_classes(test: Path, classes: Sequence[str], home: Path) -> None:
    folders = _folders(test)
    if folders == ["images"] and "images" not in classes:  # As in Tiny ImageNet.
        rule = "holds its images in images/, not in folders of classes"
        raise DataError(f"{test}: {rule}; move each to {test}/CLASS/, as its annotations say")
    for name in folders:
        if name not in classes:
            hint = did_you_mean(name, classes)
            raise DataError(f"{test / name}: is not a class of {home}; {hint}")


def _check_whole(train: EncodedSplit | None, classes: Sequence[str], place: Path | None) -> None:
    """Raise DataError for a class without a training image."""
    if train is None or place is None:
        return
    counts = np.bincount(train.labels, minlength=len(classes))
    for name, count in zip(classes, counts.tolist(), strict=True):
        if not count:
            raise DataError(f"{place / name}: holds no image; add {', '.join(SUFFIXES)} files")


def _split(path: Path, classes: Sequence[str], size: int, left: Left) -> EncodedSplit:
    """Return the images of every class in `path`; count in `left` what is not read."""
    places = {name: label for label, name in enumerate(classes)}
    found: dict[int, list[str]] = {}
    for entry in entries_of(path):
        if entry.is_folder:
            found[places[entry.name]] = images_below(entry.path, left)
        elif is_image(entry.name):
            left.files["images outside the folders of classes"] += 1
        else:
            count_file(entry.name, left)
    files = [file for label in sorted(found) for file in found[label]]
    if not files:
        raise DataError(f"{path}: holds no image; add {', '.join(SUFFIXES)} files")
    labels = np.repeat(
        np.array(sorted(found), np.int64), [len(found[label]) for label in sorted(found)]
    )
    name = files.__getitem__
    return EncodedSplit(files, labels, size, 3, name, root=os.fspath(path))
