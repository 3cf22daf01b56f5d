"""CIFAR in its four forms, with its own names or the user's."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar_files import (
    PER_BATCH,
    _meta,
    binary10_files,
    check_cifar10,
    cifar10_files,
    new_pickle,
    old_pickle,
    rows_of,
    write_folder,
    write_tar,
)

from resnet_spec.data import load_data
from resnet_spec.data.cifar_names import CIFAR10, CIFAR100
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.errors import DataError


def test_names_are_complete_and_in_order() -> None:
    assert len(CIFAR10) == 10 and len(CIFAR100) == 100
    assert list(CIFAR10) == sorted(CIFAR10) and list(CIFAR100) == sorted(CIFAR100)
    assert CIFAR10[9] == "truck" and CIFAR100[0] == "apple" and CIFAR100[99] == "worm"


def test_the_python_form(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cifar-10-batches-py", cifar10_files())
    check_cifar10(load_data(folder))
    check_cifar10(load_data(str(tmp_path)))
    check_cifar10(load_data("cifar10", root=tmp_path, download=False))


def test_the_binary_form(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cifar-10-batches-bin", binary10_files())
    check_cifar10(load_data(folder))
    check_cifar10(load_data("cifar10", root=tmp_path, download=False))


@pytest.mark.parametrize(
    ("folder", "files"),
    [("cifar-10-batches-py", cifar10_files), ("cifar-10-batches-bin", binary10_files)],
)
def test_archives(tmp_path: Path, folder: str, files: Any) -> None:
    members = {f"./{folder}/{name}": data for name, data in files().items()}
    members[f"{folder}/readme.html"] = b"<html>"
    check_cifar10(load_data(write_tar(tmp_path / "any.tar.gz", members)))
    write_tar(tmp_path / "cifar-10-python.tar.gz", members)
    check_cifar10(load_data("cifar10", root=tmp_path, download=False))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batches_written_by_python_3(tmp_path: Path, protocol: int) -> None:
    files = {name: new_pickle(*rows_of(s), protocol) for s, name in enumerate(cifar10_files())}
    check_cifar10(load_data(write_folder(tmp_path / "cifar-10-batches-py", files)))


def test_cifar100(tmp_path: Path) -> None:
    rows, labels = rows_of(0)
    fine = [label + 90 for label in labels]
    python = {name: old_pickle(rows, fine, b"fine_labels") for name in ("train", "test")}
    write_folder(tmp_path / "a" / "cifar-100-python", python)
    record = np.column_stack([np.array(labels, np.uint8), np.array(fine, np.uint8), rows])
    binary = {name: record.tobytes() for name in ("train.bin", "test.bin")}
    write_folder(tmp_path / "b" / "cifar-100-binary", binary)
    for place in ("a", "b"):
        data = load_data(tmp_path / place)
        assert data.name == "cifar100" and data.classes == CIFAR100
        assert data.test.labels.tolist() == fine
        found = data.test.images(np.arange(PER_BATCH)).transpose(0, 3, 1, 2)
        assert np.array_equal(found, rows.reshape(-1, 3, 32, 32))


def test_own_names_in_the_metadata_are_used(tmp_path: Path) -> None:
    own = [f"thing {i}" for i in range(10)]
    for place, files, name, data in (
        ("cifar-10-batches-py", cifar10_files(), "batches.meta", _meta(own)),
        ("cifar-10-batches-bin", binary10_files(), "batches.meta.txt", "\r\n".join(own).encode()),
    ):
        folder = write_folder(tmp_path / place, {**files, name: data})
        found = load_data(folder)
        assert found.classes == tuple(own)
        assert f"classes are those of {name} (thing 0" in found.notes[0]
        images = found.train.images(np.arange(len(found.train)))
        assert (found.mean, found.std) == channel_statistics(images)
        members = {f"{place}/{key}": value for key, value in {**files, name: data}.items()}
        assert load_data(write_tar(tmp_path / f"{place}.tgz", members)).classes == tuple(own)


def test_cifar_s_own_metadata_changes_nothing(tmp_path: Path) -> None:
    files = {**cifar10_files(), "batches.meta": _meta(list(CIFAR10))}
    data = load_data(write_folder(tmp_path / "cifar-10-batches-py", files))
    check_cifar10(data)
    assert data.notes == ()


def test_own_names_of_cifar100(tmp_path: Path) -> None:
    own = [f"thing {i}" for i in range(100)]
    rows, labels = rows_of(0)
    files = {name: old_pickle(rows, labels, b"fine_labels") for name in ("train", "test")}
    files["meta"] = _meta(own, "fine_label_names")
    folder = write_folder(tmp_path / "cifar-100-python", files)
    assert load_data(folder).classes == tuple(own)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (_meta([]), "batches.meta: names no classes"),
        (_meta(["a"] * 10), "batches.meta: names the class 'a' twice"),
        (_meta(["a", "b"]), "labels must be numbers of 0..1"),
        (pickle.dumps({"label_names": [1]}, protocol=2), "names a class 1, which is no text"),
        (b"?", "batches.meta: is not a CIFAR batch"),
    ],
)
def test_names_that_do_not_fit(tmp_path: Path, meta: bytes, reason: str) -> None:
    files = {**cifar10_files(), "batches.meta": meta}
    with pytest.raises(DataError, match=reason):
        load_data(write_folder(tmp_path / "cifar-10-batches-py", files))


@pytest.mark.parametrize("missing", ["data_batch_1", "test_batch"])
def test_a_missing_first_batch_is_named_too(tmp_path: Path, missing: str) -> None:
    files = cifar10_files()
    del files[missing]
    folder = write_folder(tmp_path / "cifar-10-batches-py", files)
    for place in (folder, tmp_path):
        with pytest.raises(DataError, match=f"cifar-10-batches-py: lacks {missing}; get it again"):
            load_data(place)


def test_two_datasets_in_one_place_are_refused(tmp_path: Path) -> None:
    rows, labels = rows_of(0)
    hundred = {name: old_pickle(rows, labels, b"fine_labels") for name in ("train", "test")}
    write_folder(tmp_path / "cifar-10-batches-py", cifar10_files())
    write_folder(tmp_path / "cifar-100-python", hundred)
    with pytest.raises(DataError, match="holds cifar-10-batches-py and cifar-100-python; give the"):
        load_data(tmp_path)
    check_cifar10(load_data("cifar10", root=tmp_path, download=False))
    assert load_data("cifar100", root=tmp_path, download=False).classes == CIFAR100
    members = {f"cifar-10-batches-py/{name}": data for name, data in cifar10_files().items()}
    members |= {f"cifar-100-python/{name}": data for name, data in hundred.items()}
    with pytest.raises(DataError, match=r"holds cifar-10-batches-py/ and cifar-100-python/; unpa"):
        load_data(write_tar(tmp_path / "both.tar.gz", members))


def _numbered(said: bytes) -> bytes:
    rows, labels = rows_of(0)
    return pickle.dumps({b"data": rows, b"labels": labels, b"batch_label": said}, protocol=2)


def test_a_batch_under_another_s_name_is_refused(tmp_path: Path) -> None:
    files = {**cifar10_files(), "data_batch_2": _numbered(b"training batch 2 of 5")}
    check = write_folder(tmp_path / "a" / "cifar-10-batches-py", files)
    assert len(load_data(check).train) == 5 * PER_BATCH
    for file, said in (
        ("data_batch_2", b"training batch 3 of 5"),
        ("test_batch", b"training batch 1 of 5"),
    ):
        wrong = {**files, file: _numbered(said)}
        folder = write_folder(tmp_path / file / "cifar-10-batches-py", wrong)
        with pytest.raises(DataError, match=f"{file}: says that it is {said.decode()}; get it"):
            load_data(folder)


def test_more_batches_than_there_should_be_are_said(tmp_path: Path) -> None:
    files = {**cifar10_files(), "data_batch_6": b"?", "data_batch_1 (1)": b"?", "readme.html": b"?"}
    data = load_data(write_folder(tmp_path / "cifar-10-batches-py", files))
    assert data.notes == ("left out: data_batch_1 (1), data_batch_6",)
