"""A dataset made in Python: passed through when sound, and never read again by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec import DataError, Dataset
from resnet_spec.cli.main import main
from resnet_spec.data.dataset import ArraySplit
from resnet_spec.weights.checkpoint import load_checkpoint

TINY: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
RECIPE: dict[str, Any] = {"epochs": 2, "batch": 4}


def arrays(count: int, seed: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 8, 8, 1), np.uint8), np.arange(count, dtype=np.uint8) % 3


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_arrays("mine", arrays(12, 0), arrays(6, 1), ("a", "b", "c"))


def test_arrays_become_a_dataset(dataset: Dataset) -> None:
    images, labels = arrays(12, 0)
    assert (dataset.size, dataset.channels, dataset.classes) == (8, 1, ("a", "b", "c"))
    assert dataset.mean == pytest.approx((images.mean() / 255,))
    assert dataset.std == pytest.approx((images.std() / 255,))
    assert dataset.train.labels.dtype == np.int64 and dataset.train.labels.tolist() == [*labels]
    assert np.array_equal(dataset.train.images(np.array([3])), images[3:4])
    assert resnet_spec.load_data(dataset) is dataset
    assert resnet_spec.load_data(dataset, size=8) is dataset


def test_it_is_trained_on_and_given_again_to_go_on(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = resnet_spec.train(TINY, "numpy", dataset, RECIPE, out=tmp_path)
    assert summary.complete and summary.steps == 6 and summary.data == "<mine>"
    kept = load_checkpoint(tmp_path / "last.safetensors")
    assert kept.data == "<mine>" and kept.class_names == ("a", "b", "c")
    assert kept.spec.classes == 3 and kept.spec.input.channels == 1
    assert resnet_spec.train(resume=tmp_path, data=dataset) == summary
    rule = r"data = <mine>: was a dataset made in Python, and cannot be read again by a name"
    with pytest.raises(DataError, match=rule):
        resnet_spec.train(resume=tmp_path)
    assert main(["evaluate", str(tmp_path / "best.safetensors"), "--backend", "numpy"]) == 2
    assert "data = <mine>: was a dataset made in Python" in capsys.readouterr().err


def test_its_folder_is_called_by_its_name(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resnet_spec.train(TINY, "numpy", dataset, {"steps": 1, "batch": 4})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-mine-numpy"]


@pytest.mark.parametrize("classes", [None, 3, 0.5])
def test_names_of_classes_are_a_list(classes: Any) -> None:
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
    with pytest.raises(DataError, match=r"mine: classes = .*: must be a list of names"):
        Dataset.from_arrays("mine", (images, labels), (images, labels), classes)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "../mine"}, "data: name = '../mine': must be a word"),
    "no classes": ({"classes": ()}, "classes must be names, one or more"),
    "twice": ({"classes": ("a", "b", "a")}, "each once"),
    "few classes": ({"classes": ("a", "b")}, r"mine, train: labels are 0 to 2, and must be 0 to 1"),
    "mean": ({"mean": (0.5, 0.5)}, "mean = .*must be 1 numbers"),
    "std": ({"std": (0.0,)}, "std = .*must be above 0"),
    "size": ({"size": 9}, r"images must be uint8 \[n, 9, 9, 1\]"),
    "kind of images": (
        {"train": ArraySplit(np.zeros((3, 8, 8, 1)), np.zeros(3, np.int64), 8)},  # pyright: ignore[reportArgumentType]
        r"two of them are float64 \[2, 8, 8, 1\]",
    ),
    "kind of labels": (
        {"test": ArraySplit(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3), 8)},  # pyright: ignore[reportArgumentType]
        "mine, test: labels must be an array of int64, and are float64",
    ),
    "list": (
        {"test": ArraySplit(np.zeros((3, 8, 8, 1), np.uint8), [0, 1, 2], 8)},  # pyright: ignore[reportArgumentType]
        "labels must be an array of int64, and are list",
    ),
    "fewer images": (
        {"train": ArraySplit(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, np.int64), 8)},
        "mine, train: has 3 labels, and fewer images",
    ),
    "unknown": (
        {"test": ArraySplit(np.zeros((3, 8, 8, 1), np.uint8), np.full(3, -1), 8)},
        "labels are -1 to -1, and must be 0 to 2",
    ),
    "nothing": (
        {"test": ArraySplit(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64), 8)},
        "mine, test: holds no images",
    ),
}


@pytest.mark.parametrize(("changes", "rule"), WRONG.values(), ids=WRONG.keys())
def test_an_unsound_one_is_refused_before_anything_is_made(
    dataset: Dataset, changes: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rule):
        resnet_spec.train(TINY, "numpy", replace(dataset, **changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_size_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"input size = 16: the dataset has images of 8 pixels"):
        resnet_spec.load_data(dataset, size=16)


IMAGES, LABELS = arrays(12, 0)
UNFIT: dict[str, tuple[Any, str]] = {
    "no pair": (IMAGES, "must be a pair"),
    "fractions": ((IMAGES, LABELS + 0.5), r"whole numbers, .* float64 \[12\]"),
    "texts": ((IMAGES, ["a"] * 12), "12 whole numbers"),
    "one-hot": ((IMAGES, np.eye(3, dtype=np.int64)[LABELS]), r"int64 \[12, 3\]"),
    "fewer labels": ((IMAGES, LABELS[:5]), r"12 whole numbers, .* \[5\]"),
    "more labels": ((IMAGES[:5], LABELS), r"5 whole numbers, .* \[12\]"),
    "floats": ((IMAGES / 255, LABELS), r"must be uint8 .* float64"),
    "channels first": ((IMAGES.transpose(0, 3, 1, 2), LABELS), r"uint8 \[12, 1, 8, 8\]"),
    "no channels": ((IMAGES[..., 0], LABELS), r"uint8 \[12, 8, 8\]"),
}


@pytest.mark.parametrize(("given", "rule"), UNFIT.values(), ids=UNFIT.keys())
def test_arrays_are_refused_before_they_are_cast(given: Any, rule: str) -> None:
    sound = arrays(6, 1)
    with pytest.raises(DataError, match=f"mine, train: .*{rule}"):
        Dataset.from_arrays("mine", given, sound, ("a", "b", "c"))
    with pytest.raises(DataError, match=f"mine, test: .*{rule}"):
        Dataset.from_arrays("mine", sound, given, ("a", "b", "c"))


def test_lists_of_images_and_labels_are_the_same_as_arrays() -> None:
    sound = arrays(6, 1)
    lists: Any = (list(IMAGES), list(LABELS))
    of_lists = Dataset.from_arrays("mine", lists, sound, ("a", "b", "c"))
    of_arrays = Dataset.from_arrays("mine", (IMAGES, LABELS), sound, ("a", "b", "c"))
    assert (of_lists.mean, of_lists.std) == (of_arrays.mean, of_arrays.std)
    assert np.array_equal(of_lists.train.labels, of_arrays.train.labels)


def test_no_images_to_train_on_are_refused() -> None:
    with pytest.raises(DataError, match="mine, train: holds no images; "):
        Dataset.from_arrays("mine", (IMAGES[:0], LABELS[:0]), arrays(6, 1), ("a", "b", "c"))


def test_bare_arrays_are_told_how_to_become_a_dataset() -> None:
    given: Any = (IMAGES, LABELS)
    with pytest.raises(DataError, match=r"a Dataset, and is tuple; Dataset.from_arrays"):
        resnet_spec.load_data(given)
