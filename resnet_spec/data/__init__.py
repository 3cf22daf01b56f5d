"""Datasets by name or path. Adding one: a file here and a line in `_NAMES` or `_FORMS`.

Nothing heavy is imported before a dataset that needs it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import NamedTuple

from resnet_spec.data.cifar import is_cifar, load_cifar, read_cifar
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.digits import load_digits
from resnet_spec.data.download import data_root
from resnet_spec.data.folder import (
    has_class_folders,
    is_class_folder,
    is_image_folder,
    read_class_folder,
    read_image_folder,
)
from resnet_spec.data.given import checked, is_name_of_given
from resnet_spec.data.idx import is_idx, load_mnist, read_idx_folder
from resnet_spec.data.lists import from_files, is_lists, read_lists
from resnet_spec.data.locations import is_there, parted
from resnet_spec.data.parquet import read_parquet
from resnet_spec.data.parquet_splits import is_parquet
from resnet_spec.data.samples import from_samples
from resnet_spec.data.splits import no_such_split
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.data.walking import entries_of
from resnet_spec.errors import DataError, check_kind, did_you_mean, nearest, problem
from resnet_spec.printing.activity import doing

__all__ = ["data_place", "from_arrays", "from_files", "from_samples", "list_datasets", "load_data"]

from_arrays = Dataset.from_arrays

_MOST_SIZE = 8192

_NAMES: dict[str, Callable[[int | None, Path, bool], Dataset]] = {
    "digits": lambda size, root, download: load_digits(size),
    "cifar10": lambda size, root, download: load_cifar("cifar10", size, root, download),
    "cifar100": lambda size, root, download: load_cifar("cifar100", size, root, download),
    "mnist": lambda size, root, download: load_mnist("mnist", size, root, download),
    "fashion_mnist": lambda size, root, download: load_mnist("fashion_mnist", size, root, download),
    "synthetic": lambda size, root, download: load_synthetic(size),
}


class _Form(NamedTuple):
    """A way in which a dataset lies on disk. read: takes the path, the size and the test split."""

    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, int | None, str | None], Dataset]


def _one_split(read: Callable[[Path, int | None], Dataset]) -> Callable[..., Dataset]:
    """Return a reader of a form that has one test split and no choice."""

    def chosen(path: Path, size: int | None, asked: str | None) -> Dataset:
        if asked is not None:
            raise no_such_split(path, asked, ())
        return read(path, size)

    return chosen


def _is_image_folder(path: Path) -> bool:
    """Whether `path` has images by class, or, without lists of them, what may be meant to be so."""
    return is_image_folder(path) and (has_class_folders(path) or not is_lists(path))


# A path that more than one of these fits is refused.
_FORMS = (
    _Form("Parquet files", is_parquet, read_parquet),
    _Form("CIFAR", is_cifar, _one_split(read_cifar)),
    _Form("IDX files", is_idx, _one_split(read_idx_folder)),
    _Form("folders of images", _is_image_folder, read_image_folder),
)
# Tried in this order where none of these does: many a folder of images has lists of them, too, and
# nearly any folder with pictures below it fits the last.
_LAST = (
    _Form("lists of images", is_lists, read_lists),
    _Form("folders of classes", is_class_folder, read_class_folder),
)


def list_datasets() -> list[str]:
    """Return the names that `load_data` knows."""
    return list(_NAMES)


def load_data(
    name_or_path: str | Path | Dataset,
    *,
    size: int | None = None,
    download: bool = True,
    root: str | Path | None = None,
) -> Dataset:
    """Return a dataset by name (`list_datasets`) or from a path (see docs/data.md).

    A dataset is returned as it is, when it is sound.

    size: pixels per side; None takes the dataset's own.
    download: whether a named dataset that is not in `root` may be fetched.
    root: folder of named datasets; None is $RESNET_SPEC_DATA or the user's cache folder.

    A name wins over a folder of the same name: write `./cifar10` for the folder. `PATH@validation`
    evaluates on that split alone, of Parquet files, image folders and lists. Raises DataError.
    """
    rule = "must be a whole number of pixels"
    check_kind(DataError, "input size", size, [Integral, NoneType], rule)
    size = None if size is None else int(size)
    if size is not None and not 1 <= size <= _MOST_SIZE:
        raise DataError(problem("input size", size, f"must be 1..{_MOST_SIZE} pixels"))
    if isinstance(name_or_path, Dataset):
        return checked(name_or_path, size)
    name = str(name_or_path)
    # Callers in Python are not bound to the types.
    if not isinstance(name_or_path, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"data: must be a name, a path or a Dataset, and is {type(name_or_path).__name__}; "
            "Dataset.from_arrays makes one of arrays"
        )
    if not name.strip():
        raise DataError("data: is an empty text; give a dataset's name or path")
    with doing(f"reading the data {name}"):
        if _is_name(name_or_path):
            return _NAMES[name](size, data_root() if root is None else Path(root), download)
        return _read(name, size)


def _read(name: str, size: int | None) -> Dataset:
    """Return the dataset at a path, with the split that its name may ask for."""
    path, asked = parted(name)
    if not is_there(path):
        raise _not_there(name, path)
    fitting = [form for form in _FORMS if form.fits(path)]
    if len(fitting) > 1:
        found = " and ".join(form.title for form in fitting)
        raise DataError(f"{path}: holds {found}; give the path of one of them")
    for form in (*fitting, *_LAST):
        if form in fitting or form.fits(path):
            return form.read(path, size, asked)
    inner = _inside(path)
    if inner:
        raise DataError(f"{path}: holds no dataset, but {inner} does; give that path")
    raise DataError(
        f"{path}: holds no dataset; it must be or hold a CIFAR folder or archive, IDX files, "
        "train*.parquet with test*.parquet, train.csv with test.csv, or train/CLASS/ and "
        "val/CLASS/ folders of images"
    )


def _inside(path: Path, depth: int = 2) -> Path | None:
    """Return the first dataset in the folders of `path`, for the error only; None: there is none.

    Archives often have one folder more than their name says.
    """
    folders = [Path(it.path) for it in entries_of(path) if it.is_folder] if path.is_dir() else []
    for folder in folders[:_MOST_INSIDE]:
        try:
            if any(form.fits(folder) for form in (*_FORMS, _LAST[0])):
                return folder
            found = _inside(folder, depth - 1) if depth > 1 else None
        except DataError:  # It may not be read.
            continue
        if found:
            return found
    return None


_MOST_INSIDE = 20


def data_place(name_or_path: str | Path) -> str:
    """Return what finds the same data from every working folder: a name, or an absolute path."""
    if _is_name(name_or_path) or is_name_of_given(str(name_or_path)):
        return str(name_or_path)
    path, asked = parted(str(name_or_path))
    return f"{path.absolute()}@{asked}" if asked else str(path.absolute())


def _is_name(name_or_path: str | Path) -> bool:
    return not isinstance(name_or_path, Path) and name_or_path in _NAMES


def _not_there(name: str, path: Path) -> DataError:
    if is_name_of_given(name):
        rule = "was a dataset made in Python, and cannot be read again by a name"
        return DataError(problem("data", name, rule, "give it, or where it is, as data (--data)"))
    if "://" in name:
        rule = "is an address, from which nothing is fetched"
        return DataError(problem("data", name, rule, "download it, and give the path"))
    if nearest(name, _NAMES) is not None or path.is_absolute():
        rule = "is neither a dataset nor a path that exists"
        return DataError(problem("data", name, rule, did_you_mean(name, _NAMES)))
    rule = f"is neither a dataset nor a path that exists below {Path.cwd()}"
    return DataError(problem("data", name, rule, did_you_mean(name, _NAMES)))
