"""Datasets by name or path. Adding one: a file here and a line in `_NAMES` or `_FORMS`.

Nothing heavy is imported before a dataset that needs it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resnet_spec.data.cifar import is_cifar, load_cifar, read_cifar
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.digits import load_digits
from resnet_spec.data.download import data_root
from resnet_spec.data.folder import is_image_folder, read_image_folder
from resnet_spec.data.given import checked, is_name_of_given
from resnet_spec.data.idx import is_idx, load_mnist, read_idx_folder
from resnet_spec.data.parquet import is_parquet, read_parquet
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.errors import DataError, did_you_mean, problem

_MOST_SIZE = 8192

_NAMES: dict[str, Callable[[int | None, Path, bool], Dataset]] = {
    "digits": lambda size, root, download: load_digits(size),
    "cifar10": lambda size, root, download: load_cifar("cifar10", size, root, download),
    "cifar100": lambda size, root, download: load_cifar("cifar100", size, root, download),
    "mnist": lambda size, root, download: load_mnist("mnist", size, root, download),
    "fashion_mnist": lambda size, root, download: load_mnist("fashion_mnist", size, root, download),
    "synthetic": lambda size, root, download: load_synthetic(size),
}
# Tried in this order on a path that exists.
_FORMS: tuple[tuple[Callable[[Path], bool], Callable[[Path, int | None], Dataset]], ...] = (
    (lambda path: path.name.endswith((".tar.gz", ".tgz")), read_cifar),
    (is_parquet, read_parquet),
    (is_cifar, read_cifar),
    (is_idx, read_idx_folder),
    (is_image_folder, read_image_folder),
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

    A name wins over a folder of the same name: write `./cifar10` for the folder. Raises DataError.
    """
    if size is not None and not 1 <= size <= _MOST_SIZE:
        raise DataError(problem("input size", size, f"must be 1..{_MOST_SIZE} pixels"))
    if isinstance(name_or_path, Dataset):
        return checked(name_or_path, size)
    name, path = str(name_or_path), Path(name_or_path)
    if name in _NAMES and not isinstance(name_or_path, Path):
        return _NAMES[name](size, data_root() if root is None else Path(root), download)
    if is_name_of_given(name) and not path.exists():
        rule = "was a dataset made in Python, and cannot be read again by a name"
        raise DataError(problem("data", name, rule, "give it, or where it is, as data (--data)"))
    if not path.exists():
        rule = "is neither a dataset nor a path that exists"
        raise DataError(problem("data", name, rule, did_you_mean(name, _NAMES)))
    for is_form, read in _FORMS:
        if is_form(path):
            return read(path, size)
    raise DataError(
        f"{path}: holds no dataset; it must be or hold a CIFAR folder or archive, IDX files, "
        "train*.parquet with test*.parquet, or train/CLASS/ and val/CLASS/ folders of images"
    )
