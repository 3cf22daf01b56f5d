"""CIFAR in its four forms, and files that mean harm."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.data import load_data
from resnet_spec.data.archives import read_tar
from resnet_spec.data.cifar_names import CIFAR10, CIFAR100
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.pickles import read_pickle
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.errors import DataError

PER_BATCH = 4


def rows_of(seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
    return rows, rng.integers(0, 10, PER_BATCH).tolist()


def old_pickle(rows: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """Return what Python 2 wrote: byte strings, protocol 2, NumPy's array by name."""

    def text(value: bytes) -> bytes:
        assert len(value) < 256
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
        b"(K\x01" + _int(len(rows)) + _int(rows.shape[1]) + b"\x86"
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + rows.nbytes.to_bytes(4, "little")
        + rows.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(_int(label) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(key) + numbers + b"u."


def _int(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def new_pickle(rows: np.ndarray, labels: list[int], protocol: int) -> bytes:
    return pickle.dumps({"data": rows, "labels": labels}, protocol=protocol)


def cifar10_files() -> dict[str, bytes]:
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {name: old_pickle(*rows_of(seed)) for seed, name in enumerate(names)}


def binary10_files() -> dict[str, bytes]:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    files: dict[str, bytes] = {}
    for seed, name in enumerate(names):
        rows, labels = rows_of(seed)
        files[name] = np.column_stack([np.array(labels, np.uint8), rows]).tobytes()
    return files


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def check_cifar10(data: Dataset) -> None:
    assert (data.name, data.classes, data.size, data.channels) == ("cifar10", CIFAR10, 32, 3)
    assert data.mean == (0.4914, 0.4822, 0.4465)
    assert (len(data.train), len(data.test)) == (5 * PER_BATCH, PER_BATCH)
    for split, at, seed in ((data.train, 2 * PER_BATCH, 2), (data.test, 0, 5)):
        rows, labels = rows_of(seed)
        places = np.arange(at, at + PER_BATCH)
        expected = rows.reshape(-1, 3, 32, 32)
        assert np.array_equal(split.images(places).transpose(0, 3, 1, 2), expected)
        assert split.labels[places].tolist() == labels


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


class Harm:
    def __init__(self, call: tuple[Any, ...]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.mkdir, ("harm",)), "asks for posix.mkdir"),
        ((eval, ("__import__('os').mkdir('harm')",)), r"asks for \w+.eval"),
        ((np.load, ("harm",)), "asks for numpy.load"),
        ((getattr, (b"", "join")), r"asks for \w+.getattr"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_malicious_pickle_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, named: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    files = cifar10_files()
    files["data_batch_3"] = pickle.dumps({"data": Harm(call)}, protocol=protocol)
    folder = write_folder(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError, match=f"data_batch_3: is not a CIFAR batch .*{named}") as caught:
        load_data(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "is not a CIFAR batch"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "more than 2000000 opcodes"),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".", "is not a CIFAR batch"),
        (b"\x80\x02c__main__\nHarm\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02(iposix\nsystem\n.", "opcode INST"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02cnumpy\ndtype\n}b.", "changes a function"),
        (b"\x80\x02].", "holds no dict"),
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "is not a CIFAR batch"),
        (b"", "is not a CIFAR batch"),
        (b"hello", "is not a CIFAR batch"),
    ],
)
def test_odd_pickles_give_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=f"batch: .*{reason}") as caught:
        read_pickle(data, "batch")
    assert "\n" not in str(caught.value)


def _with(**changes: object) -> bytes:
    rows, labels = rows_of(0)
    return pickle.dumps({"data": rows, "labels": labels, **changes}, protocol=2)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (_with(data=rows_of(0)[0].astype(np.float32)), "data must be a uint8 array"),
        (_with(data=rows_of(0)[0][:, :3000]), "data must be a uint8 array with 3072 columns"),
        (_with(data=np.asfortranarray(rows_of(0)[0])), "data must be a uint8 array"),
        (_with(data=[1, 2]), "data must be a uint8 array"),
        (_with(labels=[1, 2]), "labels must be a list of 4 numbers"),
        (_with(labels=[1, 2, 3, 10]), "labels must be numbers of 0..9"),
        (_with(labels=["a"] * 4), "labels must be numbers of 0..9"),
        (pickle.dumps({"x": 1}, protocol=2), "lacks data or labels"),
        (cifar10_files()["test_batch"][:-500], "is not a CIFAR batch"),
    ],
)
def test_malformed_batches(tmp_path: Path, batch: bytes, reason: str) -> None:
    files = {**cifar10_files(), "test_batch": batch}
    folder = write_folder(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError, match=f"cifar-10-batches-py: test_batch: .*{reason}"):
        load_data(folder)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    files = cifar10_files()
    del files["data_batch_4"]
    folder = write_folder(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError, match="cifar-10-batches-py: lacks data_batch_4; get it again"):
        load_data(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "has 12291 bytes, no multiple of 3073"),
        (lambda data: b"\x0a" + data[1:], "label = 10: must be 0..9"),
        (lambda data: b"", "has 0 bytes"),
    ],
)
def test_malformed_binary_batches(tmp_path: Path, change: Any, reason: str) -> None:
    files = binary10_files()
    files["data_batch_2.bin"] = change(files["data_batch_2.bin"])
    folder = write_folder(tmp_path / "cifar-10-batches-bin", files)
    with pytest.raises(DataError, match=f"data_batch_2.bin: {reason}"):
        load_data(folder)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "cifar-10-batches-py/../../evil"])
def test_an_archive_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    members = {f"cifar-10-batches-py/{n}": data for n, data in cifar10_files().items()}
    path = write_tar(tmp_path / "x.tar.gz", {name: b"evil", **members})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="has a member outside its folder"):
        load_data(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_batch_must_be_a_regular_file(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match="data_batch_1 must be one regular file in the archive"):
        load_data(path)


def test_a_truncated_archive(tmp_path: Path) -> None:
    members = {f"cifar-10-batches-py/{n}": data for n, data in cifar10_files().items()}
    path = write_tar(tmp_path / "x.tar.gz", members)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"x.tar.gz: is not a whole .tar.gz archive .*; get it ag"):
        load_data(path)
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"is not a whole .tar.gz archive"):
        load_data(path)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar.gz", {"a.txt": b"hello"})
    with pytest.raises(DataError, match="holds no CIFAR dataset; it must have one of cifar-10"):
        load_data(path)


@pytest.mark.parametrize("name", ["bomb", "b"])
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "x.tar.gz", {"a": b"1", "bomb": bytes(10_000_000), "b": b"2"})
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="holds more than the 1000000 bytes"):
        read_tar(path, {name}, limit=1_000_000)


def _meta(names: list[str], key: str = "label_names") -> bytes:
    return pickle.dumps({key.encode(): [name.encode() for name in names]}, protocol=2)


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
