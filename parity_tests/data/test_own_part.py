"""Data with a validation part of its own: which part is which, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_refusals import refused
from pets import paint
from three_parts import COUNTS, folder, lists

from resnet_spec.data import from_arrays, from_files, from_samples, load_data
from resnet_spec.data.as_before import as_before
from resnet_spec.data.at_size import viewed
from resnet_spec.data.class_matching import match_classes
from resnet_spec.data.dataset import ArraySplit, Dataset
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.file_names import file_names
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import HeldOut
from resnet_spec.data.relabelled import relabelled
from resnet_spec.data.views import View
from resnet_spec.errors import DataError

ON_DISK: dict[str, tuple[Callable[..., Path], str]] = {
    "folders": (folder, "{}/"),
    "lists": (lists, "{}.csv"),
}


@pytest.mark.parametrize(("make", "told"), ON_DISK.values(), ids=ON_DISK)
def test_a_dataset_with_three_parts_has_them(
    tmp_path: Path, make: Callable[..., Path], told: str
) -> None:
    data = load_data(make(tmp_path), size=8)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 18,
        "test": 3,
        "validation": 6,
    }
    assert data.validation is not None
    assert data.validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    val, test = told.format("val"), told.format("test")
    note = f"{val} is the validation part, and {test} the test part"
    assert data.notes == (
        f"{note} (write {tmp_path}@test or {tmp_path}@val for one of them alone)",
    )
    for name, count in (("test", 3), ("val", 6)):
        alone = load_data(f"{tmp_path}@{name}", size=8)
        assert (len(alone.test), alone.validation, alone.notes) == (count, None, ())


@pytest.mark.parametrize(("make", "told"), ON_DISK.values(), ids=ON_DISK)
def test_what_else_is_there_is_said(tmp_path: Path, make: Callable[..., Path], told: str) -> None:
    data = load_data(make(tmp_path, valid=1, eval=1), size=8)
    assert data.validation is not None and len(data.validation) == 6
    both = f"{told.format('val')} is the validation part, and {told.format('test')} the test part"
    ways = " or ".join(f"{tmp_path}@{name}" for name in ("test", "val", "valid", "eval"))
    note = f"{both}; valid, eval are there, too (write {ways} for one of them alone)"
    assert data.notes == (note,)


def test_without_a_part_to_train_on_nothing_is_to_be_validated(tmp_path: Path) -> None:
    paint(tmp_path, count=2, splits=("val",))
    paint(tmp_path, count=1, splits=("test",))
    data = load_data(tmp_path, size=8)
    assert (len(data.test), data.validation) == (6, None)
    assert f"evaluation is on val/; test is there, too (write {tmp_path}@test" in data.notes[0]


# --- Parts without labels, and wrong ones ---------------------------------------------------------


def test_a_test_folder_without_classes_leaves_the_other_to_test_on(tmp_path: Path) -> None:
    """Tiny ImageNet's, after its validation images were sorted into folders."""
    paint(tmp_path, count=2)
    paint(tmp_path, {"images": "cat"}, count=3, splits=("test",))
    data = load_data(tmp_path, size=8)
    assert (len(data.test), data.validation) == (6, None)
    assert data.notes == ("test/ has no folders of classes and is left out",)
    assert "holds its images in images/" in refused(f"{tmp_path}@test")


@pytest.mark.parametrize(
    "lines",
    [
        ["path", "pictures/cat/00.png"],
        ["path,label", "pictures/cat/00.png,", "pictures/cat/01.png,-1"],
    ],
    ids=["no column", "no labels"],
)
@pytest.mark.parametrize(("name", "rest"), [("test", 6), ("val", 3)])
def test_a_list_without_labels_leaves_the_other_to_test_on(
    tmp_path: Path, name: str, rest: int, lines: list[str]
) -> None:
    (lists(tmp_path) / f"{name}.csv").write_text("\n".join(lines))
    data = load_data(tmp_path, size=8)
    assert (len(data.test), data.validation) == (rest, None)
    assert data.notes == (f"{name}.csv has no labels and is left out",)


def test_a_validation_folder_with_another_class_is_refused(tmp_path: Path) -> None:
    paint(folder(tmp_path), {"wolf": "cat"}, count=1, splits=("val",))
    line = f"{tmp_path / 'val' / 'wolf'}: is not a class of {tmp_path / 'train'}"
    assert refused(tmp_path).startswith(line)


def test_an_empty_validation_folder_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    for file in (tmp_path / "val").rglob("*.png"):
        file.unlink()
    assert refused(tmp_path).startswith(f"{tmp_path / 'val'}: holds no image; add ")


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (
            ["path,label", "pictures/cat/00.png,wolf"],
            "val.csv:2: 'wolf' is not a class of the data",
        ),
        (["path,label"], "val.csv: names no image; give it a line for each, or remove it"),
        ([], "val.csv: is empty; it must have the columns path and label"),
        (["path,label", "x.png,cat"], "val.csv:2: there is no file"),
    ],
)
def test_a_wrong_validation_list_is_refused(tmp_path: Path, lines: list[str], rule: str) -> None:
    (lists(tmp_path) / "val.csv").write_text("\n".join(lines))
    assert rule in refused(tmp_path)


def test_classes_without_a_validation_image_are_said(tmp_path: Path) -> None:
    for file in (folder(tmp_path) / "val" / "dog").iterdir():
        file.unlink()
    notes = load_data(tmp_path, size=8).notes
    assert notes[1:] == ("1 of 3 classes have no validation image: dog",)


# --- Made in Python -------------------------------------------------------------------------------


def images(count: int, channels: int = 1, side: int = 8) -> tuple[Any, Any]:
    draw = np.random.default_rng(count)
    pixels = draw.integers(0, 256, (count, side, side, channels), np.uint8)
    return pixels, np.arange(count) % 3


def arrays(validation: Any) -> Dataset:
    return from_arrays("mine", images(9), images(3), "abc", validation=validation)


def test_arrays_may_have_a_validation_part() -> None:
    data = arrays(images(6))
    assert data.validation is not None and load_data(data) is data
    assert np.array_equal(data.validation.images(np.arange(6)), images(6)[0])
    assert data.mean == from_arrays("mine", images(9), images(3), "abc").mean


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ((images(6)[0], images(6)[1] + 1), "labels are 1 to 3, and must be 0 to 2 for 3 classes"),
        (images(6, channels=3), "images have 8 pixels and 3 channels, and those to train on 8"),
        (images(6, side=9), "images have 9 pixels and 1 channels, and those to train on 8 and 1"),
        ((images(6)[0][:0], images(6)[1][:0]), "holds no images"),
        ((images(6)[0], images(5)[1]), "labels must be 6 whole numbers"),
        ((images(6)[0][:, :, :4], images(6)[1]), r"images must be uint8 \[N, size, size, C\]"),
        (images(6)[0], "must be a pair"),
    ],
    ids=["class", "channels", "size", "empty", "labels", "not square", "no pair"],
)
def test_a_wrong_validation_part_of_arrays_is_refused(part: Any, rule: str) -> None:
    with pytest.raises(DataError, match=f"mine, validation: {rule}"):
        load_data(arrays(part))


def test_a_split_of_another_size_is_refused() -> None:
    data = arrays(images(6))
    pixels, labels = images(6, side=9)
    with pytest.raises(DataError, match=r"mine, validation: images must be uint8 \[n, 8, 8, 1\]"):
        load_data(replace(data, validation=ArraySplit(pixels, labels, 9)))


def test_files_and_samples_may_have_a_validation_part(tmp_path: Path) -> None:
    lists(tmp_path)
    parts = {name: tmp_path / f"{name}.csv" for name in COUNTS}
    data = from_files("pets", parts["train"], parts["test"], validation=parts["val"], size=8)
    assert data.validation is not None and len(data.validation) == 6
    pairs = [(tmp_path / "pictures/cat/00.png", "wolf")]
    with pytest.raises(DataError, match=r"pets, validation\[0\]: 'wolf' is not a class"):
        from_files("pets", parts["train"], parts["test"], validation=pairs)

    class Named(list[Any]):
        classes: tuple[str, ...] = ("b", "a", "c")

    train, test, own = (list(zip(*images(n), strict=True)) for n in (9, 3, 6))
    samples = from_samples("mine", train, test, validation=own)
    assert samples.validation is not None and samples.validation.labels.tolist() == [0, 1, 2] * 2
    first = Named(train)
    first.classes = ("a", "b", "c")
    named = from_samples("mine", first, Named(test), validation=Named(own))
    assert named.validation is not None and named.validation.labels.tolist() == [1, 0, 2] * 2
    rule = "data has classes of another order: its labels are matched by name"
    assert named.notes == (f"the test {rule}", f"the validation {rule}")
    with pytest.raises(DataError, match=r"mine, validation\[0\]: label"):
        from_samples("mine", train, test, validation=[(images(1)[0][0], -1)])
    wider = [(np.zeros((8, 8, 3), np.uint8), 0)]
    assert from_samples("mine", train, test, validation=wider).channels == 3


# --- What is done to data -------------------------------------------------------------------------


def test_a_validation_part_is_relabelled_viewed_and_named_as_the_others_are(
    tmp_path: Path,
) -> None:
    data = load_data(folder(tmp_path), size=8)
    assert isinstance(data.validation, EncodedSplit)
    view = View(side=232)
    seen = viewed(data, view).validation
    assert isinstance(seen, EncodedSplit) and seen.view == view
    matched = match_classes(
        data.classes,
        ("fox", "dog", "cat"),
        count=3,
        where="--data",
        ignore=False,
        datasets=("pets", "pets"),
    )
    moved = relabelled(data, matched).validation
    assert moved is not None and moved.labels.tolist() == [2, 2, 1, 1, 0, 0]
    names = file_names(moved)
    assert names is not None and names[0] == str(tmp_path / "val" / "cat" / "00.png")


def test_the_identity_knows_the_validation_part(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path), size=8)
    before = Fingerprint.of(data)
    assert list(before.splits) == ["train", "validation", "test"]
    assert Fingerprint.from_dict(before.to_dict()) == before
    held = HeldOut.own(before)
    assert held is not None
    assert (held.fraction, held.count, held.told, held.of_training) == (None, 6, "own", 0)
    assert held.digest == before.splits["validation"].digest
    assert HeldOut.from_dict(held.to_dict()) == held
    alone = Fingerprint.of(load_data(f"{tmp_path}@test", size=8))
    assert HeldOut.own(alone) is None and before.changes(alone) == alone.changes(before) == []
    (tmp_path / "val" / "cat" / "00.png").unlink()
    now = Fingerprint.of(load_data(tmp_path, size=8))
    assert before.changes(now) == ["6 -> 5 validation images"]


def test_data_as_it_was_before_is_tested_on_what_it_was(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path), size=8)
    assert as_before(data, Fingerprint.of(data)) is data
    for name, count, told in (
        ("val", 6, "is tested on, as when the run began, and the test part left out"),
        ("test", 3, "is left out: the run began without one"),
    ):
        was = Fingerprint.of(load_data(f"{tmp_path}@{name}", size=8))
        now = as_before(data, was)
        assert (len(now.test), now.validation) == (count, None)
        assert was.changes(Fingerprint.of(now)) == []
        assert now.notes[-1] == f"the validation part of {tmp_path.name} {told}"
        assert as_before(replace(data, validation=None), was).notes == data.notes
