"""IDX files, plain and gzip, and files that are not what they say."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.data import idx, load_data
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.errors import DataError

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def encoded(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def arrays(samples: int, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples)
    images = rng.integers(0, 256, (samples, size, size), dtype=np.uint8)
    return images, (np.arange(samples) % 10).astype(np.uint8)


def write(folder: Path, *, zipped: bool, train: int = 20, test: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for images_name, count in ((TRAIN, train), (TEST, test)):
        images, labels = arrays(count)
        labels_name = images_name.replace("images-idx3", "labels-idx1")
        for name, array in ((images_name, images), (labels_name, labels)):
            data = encoded(array)
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_by_path(tmp_path: Path, zipped: bool) -> None:
    data = load_data(write(tmp_path / "things", zipped=zipped))
    assert (data.name, data.size, data.channels) == ("things", 6, 1)
    assert data.classes == tuple("0123456789")
    images, labels = arrays(20)
    assert np.array_equal(data.train.images(np.arange(20))[..., 0], images)
    assert np.array_equal(data.train.labels, labels)
    assert len(data.test) == 10
    assert (data.mean, data.std) == channel_statistics(images[..., None])


@pytest.mark.parametrize("place", ["fashion_mnist", "FashionMNIST/raw", "."])
def test_by_name(tmp_path: Path, place: str) -> None:
    write(tmp_path / place, zipped=True)
    data = load_data("fashion_mnist", root=tmp_path, download=False)
    assert data.classes[9] == "Ankle boot" and len(data.classes) == 10
    assert (data.mean, data.std) == ((0.2860,), (0.3530,))


def test_one_size_for_another(tmp_path: Path) -> None:
    data = load_data(write(tmp_path / "x", zipped=False), size=12)
    assert data.train.images(np.array([0])).shape == (1, 12, 12, 1)


def test_the_digests_are_of_the_right_length() -> None:
    for files in idx._SIZES_AND_DIGESTS.values():  # pyright: ignore[reportPrivateUsage]
        assert len(files) == 4
        assert all(len(bytes.fromhex(digest)) == 32 for _, digest in files)


def test_a_truncated_gzip_file(tmp_path: Path) -> None:
    path = write(tmp_path, zipped=True) / f"{TRAIN}.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"ubyte.gz: is not a whole gzip file .*; get it again"):
        load_data(tmp_path)


def test_a_file_that_is_not_gzip(tmp_path: Path) -> None:
    (write(tmp_path, zipped=True) / f"{TEST}.gz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="is not a whole gzip file"):
        load_data(tmp_path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "_MOST_BYTES", 100_000)
    path = write(tmp_path, zipped=True) / f"{TRAIN}.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(DataError, match="holds more than the 100000 bytes"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(arrays(20)[0])[:-1], "has 719 bytes after its header, which says \\(20, 6, 6\\)"),
        (encoded(arrays(20)[0]) + b"x", "has 721 bytes after its header"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "has 0 bytes after its header"),
        (b"\0\0\x0d\x03" + bytes(12), "is not an IDX file of bytes with 3 dimensions"),
        (encoded(arrays(20)[1]), "is not an IDX file of bytes with 3 dimensions"),
        (b"\0\0\x08\x03\0", "is not an IDX file"),
        (b"", "is not an IDX file"),
        (encoded(arrays(19)[0]), "has 19 images and 20 labels"),
        (encoded(np.zeros((20, 4, 5), np.uint8)), "must be square"),
    ],
)
def test_malformed_images(tmp_path: Path, data: bytes, reason: str) -> None:
    (write(tmp_path, zipped=False) / TRAIN).write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        load_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_strange_label(tmp_path: Path) -> None:
    write(tmp_path, zipped=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(encoded(np.full(20, 10, np.uint8)))
    with pytest.raises(DataError, match=r"label = 10: must be 0..9 in mnist"):
        load_data("mnist", root=tmp_path, download=False)
    labels.unlink()
    with pytest.raises(DataError, match=r"lacks train-labels-idx1-ubyte.gz; place it there"):
        load_data(tmp_path)
