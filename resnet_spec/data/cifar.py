"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the forms of their home page: Python and binary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.archives import read_file, read_tar
from resnet_spec.data.cifar_names import CIFAR10, CIFAR100, read_names
from resnet_spec.data.classes import Ordered, check_unique, few
from resnet_spec.data.dataset import ArraySplit, Dataset, Images
from resnet_spec.data.download import Remote, obtain
from resnet_spec.data.pickles import byte_rows, read_pickle
from resnet_spec.data.statistics import KNOWN, channel_statistics
from resnet_spec.data.walking import entries_of
from resnet_spec.errors import DataError, problem

_SIZE = 32
_PIXELS = 3 * _SIZE * _SIZE
_MOST_BYTES = 400_000_000
"""Above every file and archive of both datasets, unpacked (186 MB)."""

Name = Literal["cifar10", "cifar100"]
Read = tuple[Images, NDArray[np.int64]]

CLASSES: dict[Name, tuple[str, ...]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
# The page at www.cs.toronto.edu/~kriz/cifar.html gives the MD5 sums c58f3010... and eb9058c3... for
# the same files.
_HOME = "https://www.cs.toronto.edu/~kriz/"
_REMOTE: dict[Name, Remote] = {
    "cifar10": Remote(
        "cifar-10-python.tar.gz",
        _HOME,
        170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    "cifar100": Remote(
        "cifar-100-python.tar.gz",
        _HOME,
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
}


@dataclass(frozen=True)
class Form:
    """One way in which a CIFAR dataset is distributed; files are named relative to `folder`."""

    name: Name
    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Callable[[bytes, str, int], Read]
    names: str
    """The file with the classes' names."""

    @property
    def members(self) -> dict[str, str]:
        """{file: its name in the archive}."""
        return {file: f"{self.folder}/{file}" for file in (*self.train, *self.test)}

    @property
    def with_names(self) -> dict[str, str]:
        """`members` and the file of names, which need not be there."""
        return {**self.members, self.names: f"{self.folder}/{self.names}"}


def load_cifar(name: Name, size: int | None, root: Path, download: bool) -> Dataset:
    """Return a CIFAR dataset from `root`, in any form; downloads the Python form when absent."""
    forms = [form for form in FORMS if form.name == name]
    found = _find(root, forms)
    if not found:
        obtain(name, [_REMOTE[name]], root, download)
        return _read(root / _REMOTE[name].file, forms, size)
    return _read(next(iter(found.values())), forms, size)


def is_cifar(path: Path) -> bool:
    """Whether `path` is an archive, or is or holds a CIFAR dataset in a form that can be read."""
    return _is_archive(path) or bool(_find(path, FORMS))


def read_cifar(path: Path, size: int | None) -> Dataset:
    """Return the CIFAR dataset at `path`: an archive, its folder, or a folder with one of both.

    Raises DataError where both CIFAR-10 and CIFAR-100 are there.
    """
    if _is_archive(path):
        return _read(path, FORMS, size)
    found = _find(path, FORMS)
    if len(found) > 1:
        places = " and ".join(place.name for place in found.values())
        raise DataError(f"{path}: holds {places}; give the path of one of them")
    return _read(next(iter(found.values())), FORMS, size)


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".tar.gz", ".tgz"))


def _find(path: Path, forms: Sequence[Form]) -> dict[Name, Path]:
    """Return where at or in `path` each dataset is: the first of its forms, folder or archive.

    The forms of one dataset hold the same images, and downloads leave a folder and its archive.
    """
    found: dict[Name, Path] = {}
    for form in forms:
        inner = (path / form.folder, path / form.archive)
        place = path if _is_folder_of(path, form) else None
        place = place or next((it for it in inner if _is_folder_of(it, form) or it.is_file()), None)
        if place is not None:
            found.setdefault(form.name, place)
    return found


def _is_folder_of(path: Path, form: Form) -> bool:
    """Whether some of a form's files are in folder `path`; what is missing is said later.

    CIFAR-100's are called `train` and `test`, and both must be there to be taken for it.
    """
    there = [(path / file).is_file() for file in form.members]
    return any(there) if len(there) > 2 else all(there)


def _read(place: Path, forms: Sequence[Form], size: int | None) -> Dataset:
    form, contents = _from_archive(place) if place.is_file() else _from_folder(place, forms)
    return _dataset(form, place, contents, size)


def _from_folder(path: Path, forms: Sequence[Form]) -> tuple[Form, dict[str, bytes]]:
    form = next(form for form in forms if _is_folder_of(path, form))
    files = [file for file in form.with_names if (path / file).is_file()]
    return form, {file: read_file(path / file, _MOST_BYTES) for file in files}


def _from_archive(path: Path) -> tuple[Form, dict[str, bytes]]:
    wanted = {member for form in FORMS for member in form.with_names.values()}
    found = read_tar(path, wanted, _MOST_BYTES)
    held = [form for form in FORMS if any(member in found for member in form.members.values())]
    if len(held) > 1:
        folders = " and ".join(f"{form.folder}/" for form in held)
        raise DataError(f"{path}: holds {folders}; unpack it, and give the folder of one of them")
    if held:
        return held[0], {file: found[m] for file, m in held[0].with_names.items() if m in found}
    folders = ", ".join(f"{form.folder}/" for form in FORMS)
    raise DataError(f"{path}: holds no CIFAR dataset; it must have one of {folders}")


def _dataset(form: Form, path: Path, contents: dict[str, bytes], size: int | None) -> Dataset:
    missing = [file for file in form.members if file not in contents]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; get it again")
    stored, notes = _class_names(form, path, contents)
    order = Ordered.of(stored)

    def split(files: tuple[str, ...]) -> ArraySplit:
        parts = [form.parse(contents.pop(file), f"{path}: {file}", len(stored)) for file in files]
        images, labels = zip(*parts, strict=True)
        places = order.places[np.concatenate(labels)]
        return ArraySplit(np.concatenate(images), places, size or _SIZE)

    train, test = split(form.train), split(form.test)
    mean, std = KNOWN[form.name] if not notes else channel_statistics(train.pixels)
    return Dataset(
        name=form.name,
        classes=order.names,
        size=size or _SIZE,
        channels=3,
        mean=mean,
        std=std,
        train=train,
        test=test,
        notes=(*notes, *order.notes, *_left_out(form, path)),
    )


def _left_out(form: Form, place: Path) -> tuple[str, ...]:
    """Return a note on batches in a folder that are none of the form's."""
    first = form.train[0].partition("1")[0]
    names = [it.name for it in entries_of(place) if it.is_file] if place.is_dir() else []
    more = [it for it in names if it.startswith(first) and it not in form.with_names]
    return (f"left out: {few(more)}",) if more and len(form.train) > 1 else ()


def _class_names(
    form: Form, path: Path, contents: dict[str, bytes]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes in the order of the labels, and a note where they are not CIFAR's own."""
    known = CLASSES[form.name]
    if form.names not in contents:
        return known, ()
    where = f"{path}: {form.names}"
    names = read_names(contents.pop(form.names), where, _NAMES_KEY[form.name])
    if names == known:
        return known, ()
    check_unique(names, where)
    what = "CIFAR-10" if form.name == "cifar10" else "CIFAR-100"
    note = (
        f"classes are those of {form.names} ({few(names)}), not {what}'s: the images are taken for "
        "another dataset's, and their mean and deviation are measured"
    )
    return names, (note,)


def _images(rows: NDArray[np.uint8]) -> Images:
    """Return uint8 [n, 32, 32, 3] from rows of one plane per colour."""
    planes = rows.reshape(-1, 3, _SIZE, _SIZE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _checked(labels: NDArray[np.int64], classes: int, where: str) -> NDArray[np.int64]:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        worst = int(labels.max() if labels.max() >= classes else labels.min())
        raise DataError(problem(f"{where}: label", worst, f"must be 0..{classes - 1}"))
    return labels


def _check_number(batch: dict[str, object], where: str) -> None:
    """Refuse a batch that says that it is another one: `training batch 3 of 5` in data_batch_2."""
    said = batch.get("batch_label")
    text = said.decode("latin1") if isinstance(said, bytes) else said
    name = where.rpartition(" ")[2]
    expected = {file: f"training batch {i} of 5" for i, file in enumerate(_BATCHES, start=1)}
    wanted = {**expected, "test_batch": "testing batch 1 of 1"}.get(name)
    others = {*expected.values(), "testing batch 1 of 1"}
    if text in others and wanted is not None and text != wanted:
        raise DataError(f"{where}: says that it is {text}; get it again")


def _pickled(key: str) -> Callable[[bytes, str, int], Read]:
    def parse(data: bytes, where: str, classes: int) -> Read:
        batch = read_pickle(data, where)
        if "data" not in batch or key not in batch:
            raise DataError(f"{where}: lacks data or {key}; it is another dataset's file")
        _check_number(batch, where)
        rows, labels = byte_rows(batch["data"], _PIXELS, where), batch[key]
        if not isinstance(labels, list) or len(cast("list[object]", labels)) != len(rows):
            raise DataError(f"{where}: {key} must be a list of {len(rows)} numbers")
        values = cast("list[object]", labels)
        if not all(isinstance(label, int) and 0 <= label < classes for label in values):
            raise DataError(f"{where}: {key} must be numbers of 0..{classes - 1}")
        return _images(rows), np.array(values, dtype=np.int64)

    return parse


def _binary(label_bytes: int) -> Callable[[bytes, str, int], Read]:
    def parse(data: bytes, where: str, classes: int) -> Read:
        record = label_bytes + _PIXELS
        if len(data) % record or not data:
            raise DataError(
                f"{where}: has {len(data)} bytes, no multiple of {record} per image; get it again"
            )
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, record)
        labels = rows[:, label_bytes - 1].astype(np.int64)  # The fine label comes last.
        return _images(rows[:, label_bytes:]), _checked(labels, classes, where)

    return parse


_NAMES_KEY: dict[Name, str] = {"cifar10": "label_names", "cifar100": "fine_label_names"}
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
FORMS = (
    Form(
        name="cifar10",
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        train=_BATCHES,
        test=("test_batch",),
        parse=_pickled("labels"),
        names="batches.meta",
    ),
    Form(
        name="cifar10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"{batch}.bin" for batch in _BATCHES),
        test=("test_batch.bin",),
        parse=_binary(1),
        names="batches.meta.txt",
    ),
    Form(
        name="cifar100",
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        train=("train",),
        test=("test",),
        parse=_pickled("fine_labels"),
        names="meta",
    ),
    Form(
        name="cifar100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test=("test.bin",),
        parse=_binary(2),
        names="fine_label_names.txt",
    ),
)
