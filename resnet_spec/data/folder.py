"""Image folders: `train/CLASS/*.jpg` and `val/CLASS/*.jpg` (or `validation/`, `test/`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from resnet_spec.data.dataset import Dataset
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.images import SUFFIXES
from resnet_spec.data.statistics import KNOWN
from resnet_spec.errors import DataError, did_you_mean

_SIZE = 224
_TEST_NAMES = ("val", "validation", "test")


def is_image_folder(path: Path) -> bool:
    """Whether `path` has a training folder and one to evaluate on."""
    return (path / "train").is_dir() and _test_folder(path) is not None


def read_image_folder(path: Path, size: int | None) -> Dataset:
    """Return the dataset in `path`. Classes are the folders of `train/`, sorted by name.

    Images are decoded when they are read. The statistics are ImageNet's.
    """
    size = size or _SIZE
    classes = tuple(_folders(path / "train"))
    test = _test_folder(path)
    assert test is not None
    unknown = [name for name in _folders(test) if name not in classes]
    if unknown:
        hint = did_you_mean(unknown[0], classes)
        raise DataError(f"{test / unknown[0]}: is not a class of {path / 'train'}; {hint}")
    mean, std = KNOWN["imagenet"]
    return Dataset(
        name=path.resolve().name,
        classes=classes,
        size=size,
        channels=3,
        mean=mean,
        std=std,
        train=_split(path / "train", classes, size),
        test=_split(test, classes, size),
    )


def _test_folder(path: Path) -> Path | None:
    return next((path / name for name in _TEST_NAMES if (path / name).is_dir()), None)


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        found = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not found:
        raise DataError(f"{path}: has no folder; it must have one for each class")
    return found


def _split(path: Path, classes: tuple[str, ...], size: int) -> EncodedSplit:
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _image_files(path / name) if (path / name).is_dir() else []
        files += found
        labels += [label] * len(found)
        if not found and path.name == "train":
            raise DataError(f"{path / name}: holds no image; add {', '.join(SUFFIXES)} files")
    if not files:
        raise DataError(f"{path}: holds no image; add {', '.join(SUFFIXES)} files")
    return EncodedSplit(files, np.array(labels, dtype=np.int64), size, 3, files.__getitem__)


def _image_files(folder: Path) -> list[str]:
    """Return the paths of the images of a class, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted(
            e.path
            for e in entries
            if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".") and e.is_file()
        )
