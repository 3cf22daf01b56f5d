"""IDX files, plain and gzip, and files that are not what they say."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.data import idx, idx_files, load_data
from resnet_spec.data.statistics import KNOWN, channel_statistics
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


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_kaggle_s_names(tmp_path: Path, ending: str) -> None:
    """`train-images.idx3-ubyte`, and the same file once more in a folder of its name."""
    write(tmp_path, zipped=bool(ending))
    for path in sorted(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (20, 10)
    if not ending:
        inner = tmp_path / TRAIN / TRAIN
        inner.parent.mkdir()
        inner.write_bytes((tmp_path / TRAIN.replace("-idx", ".idx")).read_bytes())
        assert len(load_data(tmp_path).train) == 20
        inner.write_bytes(encoded(arrays(21)[0]))
        with pytest.raises(DataError, match=r"train-images.idx3-ubyte: does not hold what train-i"):
            load_data(tmp_path)


@pytest.mark.parametrize("given", [".", "MNIST", "MNIST/raw"])
def test_torchvision_s_folders_by_path(tmp_path: Path, given: str) -> None:
    write(tmp_path / "MNIST" / "raw", zipped=False)
    write(tmp_path / "MNIST" / "raw", zipped=True)  # It leaves both.
    data = load_data(tmp_path / given)
    assert (data.name, len(data.train)) == ("MNIST", 20)
    write(tmp_path / "FashionMNIST" / "raw", zipped=True)
    if given == ".":
        with pytest.raises(DataError, match=r"holds MNIST/raw and FashionMNIST/raw; give the path"):
            load_data(tmp_path)


@pytest.mark.parametrize("file", [TRAIN, "t10k-labels-idx1-ubyte"])
def test_a_gzip_file_beside_another_plain_one_is_refused(tmp_path: Path, file: str) -> None:
    write(tmp_path, zipped=False)
    write(tmp_path, zipped=True)
    assert len(load_data(tmp_path).train) == 20
    data = bytearray((tmp_path / file).read_bytes())
    data[-1] ^= 1
    (tmp_path / f"{file}.gz").write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(DataError, match=rf"{file}.gz: does not hold what {file} does; remove one"):
        load_data(tmp_path)


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write(tmp_path, zipped=False)
    (tmp_path / TEST).write_bytes(encoded(arrays(10, size=5)[0]))
    with pytest.raises(DataError, match="training and test images of 6 x 6 and 5 x 5 pixels"):
        load_data(tmp_path)


def _like(name: str) -> list[np.ndarray]:
    """Return images and labels that have the mean and the counts of a known dataset."""
    found: list[np.ndarray] = []
    for counts in idx_files._COUNTS[name]:  # pyright: ignore[reportPrivateUsage]
        value = round(KNOWN[name][0][0] * 255)
        found += [
            np.full((sum(counts), 2, 2), value, np.uint8),
            np.repeat(np.arange(10, dtype=np.uint8), counts),
        ]
    return found


def _put(folder: Path, arrays: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(idx._FILES, arrays, strict=True):  # pyright: ignore[reportPrivateUsage]
        (folder / file).write_bytes(encoded(array))
    return folder


def test_fashion_mnist_is_known_by_what_it_holds(tmp_path: Path) -> None:
    data = load_data(_put(tmp_path / "x", _like("fashion_mnist")))
    assert data.classes == idx.CLASSES["fashion_mnist"] and "Fashion-MNIST" in data.notes[0]
    digits = load_data(_put(tmp_path / "y", _like("mnist")))
    assert digits.classes == tuple("0123456789") and digits.notes == ()


def test_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    mnist, fashion = _like("mnist"), _like("fashion_mnist")
    mixed = [fashion[0], mnist[1], *mnist[2:]]
    with pytest.raises(DataError, match=r"mixes two datasets: .*training images are fashion_mnist"):
        load_data(_put(tmp_path / "x", mixed))
    with pytest.raises(DataError, match=r"mixes two datasets: .*test labels are fashion_mnist's"):
        load_data(_put(tmp_path / "x", [*mnist[:2], *fashion[2:]]))
    _put(tmp_path / "mnist", fashion)
    with pytest.raises(
        DataError, match="holds fashion_mnist, not mnist; place mnist's files there"
    ):
        load_data("mnist", root=tmp_path, download=False)


def test_a_folder_called_mnist_is_measured(tmp_path: Path) -> None:
    data = load_data(write(tmp_path / "mnist", zipped=False))
    assert data.mean == channel_statistics(arrays(20)[0][..., None])[0]
