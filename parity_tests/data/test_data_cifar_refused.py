"""Files of CIFAR that are broken or mean harm."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar_files import binary10_files, cifar10_files, rows_of, write_folder, write_tar

from resnet_spec.data import load_data
from resnet_spec.data.archives import read_tar
from resnet_spec.data.pickles import read_pickle
from resnet_spec.errors import DataError


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
        (b"\x80\x02c__main__\nHarm\n)\x81.", "asks for __main__.Harm"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
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


def test_a_folder_of_both_is_asked_for_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "cifar-10-batches-py", cifar10_files())
    write_folder(tmp_path / "cifar-100-python", {"train": b"", "test": b"", "meta": b""})
    both = "holds cifar-10-batches-py and cifar-100-python; give the path of one of them"
    with pytest.raises(DataError, match=both):
        load_data(tmp_path)


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
