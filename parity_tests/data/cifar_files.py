"""CIFAR's files with a few images, written as Python 2, Python 3 and C would."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from resnet_spec.data.cifar_names import CIFAR10
from resnet_spec.data.dataset import Dataset

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


def _meta(names: list[str], key: str = "label_names") -> bytes:
    return pickle.dumps({key.encode(): [name.encode() for name in names]}, protocol=2)
