"""`load_data` by name and path, and the two datasets that need no file: digits and synthetic."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.data import list_datasets, load_data
from resnet_spec.data.dataset import ArraySplit, Dataset, Split
from resnet_spec.data.draws import Stream, words
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.errors import DataError


def everything(split: Split) -> np.ndarray:
    return split.images(np.arange(len(split)))


def features(split: Split) -> np.ndarray:
    return everything(split).reshape(len(split), -1).astype(np.float64)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def test_digits_are_what_the_docs_say(digits: Dataset) -> None:
    assert (digits.name, digits.size, digits.channels) == ("digits", 16, 3)
    assert digits.classes == tuple("0123456789")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    images = everything(digits.train)
    assert images.shape == (1437, 16, 16, 3) and images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(images[:, ::2, ::2], images[:, 1::2, 1::2])
    assert np.array_equal(images[..., 0], images[..., 2])
    assert channel_statistics(images) == (digits.mean, digits.std)


def test_the_digits_split_is_stratified_and_pinned(digits: Dataset) -> None:
    counts = np.bincount(digits.test.labels)
    share = counts / (counts + np.bincount(digits.train.labels))
    assert abs(share - 0.2).max() < 0.005
    stored = np.concatenate([everything(digits.train), everything(digits.test)])
    digest = hashlib.sha256(stored[:, ::2, ::2, 0].tobytes()).hexdigest()
    assert digest[:16] == "761020c98dde2613"


def test_the_digits_split_is_the_documented_draw() -> None:
    with files("resnet_spec.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        labels, test = stored["labels"], stored["test"]
    shuffled = np.lexsort((words(0, 0, Stream.SPLIT, len(labels)), labels))
    assert np.array_equal(np.sort(shuffled[::5]), np.flatnonzero(test))


def test_digits_can_be_learned(digits: Dataset) -> None:
    """One nearest neighbour already reaches the accuracy that the demo asks for."""
    train, test = features(digits.train), features(digits.test)
    distance = (train**2).sum(axis=1) - 2.0 * test @ train.T
    found = digits.train.labels[distance.argmin(axis=1)]
    assert (found == digits.test.labels).mean() >= 0.97


def test_no_digit_is_in_both_splits(digits: Dataset) -> None:
    train, test = (
        {image.tobytes() for image in everything(s)} for s in (digits.train, digits.test)
    )
    assert not train & test


@pytest.mark.parametrize("name", ["digits", "synthetic"])
@pytest.mark.parametrize("size", [8, 24])
def test_any_size_can_be_had(name: str, size: int) -> None:
    data = load_data(name, size=size)
    assert data.size == size
    assert data.test.images(np.array([5, 0])).shape == (2, size, size, 3)


def test_synthetic_images_are_pinned_and_can_be_learned() -> None:
    data = load_synthetic(size=8, classes=4, train=64, test=32)
    assert hashlib.sha256(everything(data.train).tobytes()).hexdigest()[:16] == "429596c7589c0635"
    train, test = features(data.train), features(data.test)
    means = np.stack([train[data.train.labels == k].mean(axis=0) for k in range(4)])
    found = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(found, data.test.labels)
    assert not np.array_equal(train[:32], test)
    mean, std = channel_statistics(everything(load_synthetic(classes=200, train=400).train))
    assert np.allclose(mean, data.mean, atol=0.02) and np.allclose(std, data.std, atol=0.02)


def test_the_synthetic_splits_have_the_sizes_that_docs_name() -> None:
    data = load_data("synthetic")
    assert (len(data.train), len(data.test), data.size, len(data.classes)) == (2048, 512, 32, 10)


def test_an_array_split_resizes_on_reading() -> None:
    flat = np.full((2, 6, 6, 1), 77, np.uint8)
    split = ArraySplit(flat, np.zeros(2, np.int64), 9)
    assert np.array_equal(split.images(np.array([1])), np.full((1, 9, 9, 1), 77))


def test_statistics_are_exact() -> None:
    images = np.zeros((1, 2, 2, 2), np.uint8)
    images[0, 0, :, 0] = 255
    assert channel_statistics(images) == ((0.5, 0.0), (0.5, 1.0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 5, 5, 3), dtype=np.uint8)
    scaled = images / 255.0
    mean, std = channel_statistics(images)
    assert np.allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-14)
    assert np.allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-13)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(DataError) as caught:
        load_data("cifra10")
    assert str(caught.value) == (
        "data = cifra10: is neither a dataset nor a path that exists; did you mean 'cifar10'?"
    )


def test_an_empty_name_is_not_the_folder_at_hand() -> None:
    with pytest.raises(DataError, match="data: is an empty text; give a dataset's name or path"):
        load_data("")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no dataset; it must be or hold"):
        load_data(tmp_path)


@pytest.mark.parametrize("size", [0, -3, 9000])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"input size = {size}: must be 1..8192"):
        load_data("digits", size=size)


def test_a_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_data("digits").name == "digits"
    with pytest.raises(DataError, match="holds no dataset"):
        load_data("./digits")


def test_every_name_is_listed() -> None:
    expected = {"digits", "cifar10", "cifar100", "mnist", "fashion_mnist", "synthetic"}
    assert set(list_datasets()) == expected


def test_loading_digits_imports_nothing_heavy() -> None:
    heavy = "{'PIL', 'pyarrow', 'rich', 'urllib.request', 'torch', 'jax', 'mindspore', 'sklearn'}"
    code = (
        "import sys\nfrom resnet_spec.data import load_data\nload_data('digits')\n"
        f"sys.exit(str({heavy} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""
