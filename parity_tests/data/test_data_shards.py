"""Which Parquet files are a dataset: nothing missing, nothing doubled, nothing by chance."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_refusals import refused
from parquet_files import arrow, labelled

from resnet_spec.data import load_data
from resnet_spec.errors import DataError

LABELS = [0, 1, 2]


def make(home: Path, *names: str, labels: list[int] = LABELS) -> Path:
    for place, name in enumerate(names):
        labelled(home / f"{name}.parquet", labels, first=10 * place)
    return home


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        (["train-00000-of-00002"], "lacks train-00001-of-00002.parquet; get it again"),
        (["train-00001-of-00002"], "lacks train-00000-of-00002.parquet; get it again"),
        (
            ["train-00000-of-00003-0123456789abcdef"],
            "lacks train-00001-of-00003.parquet, train-00002-of-00003.parquet; get it again",
        ),
        (["train-00000-of-00001", "train-00000-of-00002"], "two sets of the split train"),
        (["train", "train-00000-of-00001"], "two sets of the split train; remove one"),
        (
            ["train-00000-of-00001-0123456789abcdef", "train-00000-of-00001"],
            "has train-00000-of-00001-0123456789abcdef.parquet and train-00000-of-00001.parquet;",
        ),
        (["train-00000-of-00001", "train-00001-of-00001"], "has 2 shards of 1"),
        (["train-0-of-2"], "lacks train-1-of-2.parquet; get it again"),
        (["train_01_of_03"], "lacks train_00_of_03.parquet, train_02_of_03.parquet; get it"),
        (["train-3-of-3", "train-1-of-3"], "lacks train-2-of-3.parquet; get it again"),
        (["train_2"], "has train_2.parquet, whose numbers are not 0, 1, 2, ... without a gap"),
        (["train_part2"], "has train_part2.parquet, whose numbers are not 0, 1, 2, ..."),
        (["train", "Train"], "two sets of the split train; remove one"),
        (["train_small", "train_large"], "none is the whole split train; call that one train.parq"),
        (["train_0", "train_2"], "whose numbers are not 0, 1, 2, ... without a gap"),
        (["train-0", "train_0"], "whose numbers are not 0, 1, 2, ... without a gap"),
    ],
)
def test_sets_that_are_not_one_are_refused(tmp_path: Path, train: list[str], reason: str) -> None:
    make(tmp_path, *train, "test")
    assert reason in refused(tmp_path)


def test_a_missing_shard_of_the_test_split_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "train", "test-00000-of-00002")
    assert "lacks test-00001-of-00002.parquet" in refused(tmp_path)


@pytest.mark.parametrize(
    ("train", "first", "notes"),
    [
        (["train"], "train", ()),
        (["train-00000-of-00001"], "train-00000-of-00001", ()),
        (["train-00000-of-00001-0123456789abcdef"], "train-00000-of-00001-0123456789abcdef", ()),
        (["train", "train_small"], "train", ("left out: train_small.parquet",)),
        (["train", "train2"], "train", ("left out: train2.parquet",)),
        (["train", "training-old"], "train", ("left out: training-old.parquet",)),
        (
            ["train-00000-of-00001", "train-00000-of-00001 (1)"],
            "train-00000-of-00001",
            ("left out: train-00000-of-00001 (1).parquet",),
        ),
        (["train_small"], "train_small", ("train_small.parquet is taken for the split train",)),
    ],
)
def test_a_whole_set_is_taken_and_the_rest_is_said(
    tmp_path: Path, train: list[str], first: str, notes: tuple[str, ...]
) -> None:
    make(tmp_path, *train, "test")
    data = load_data(tmp_path)
    assert (len(data.train), data.notes) == (3, notes)
    alone = make(tmp_path / "alone", "test")
    shutil.copy(tmp_path / f"{first}.parquet", alone / "train.parquet")
    same = load_data(alone).train.images(np.arange(3))
    assert np.array_equal(data.train.images(np.arange(3)), same)


@pytest.mark.parametrize(
    "names", [["train-1-of-2", "train-2-of-2"], ["TRAIN_0_of_2", "TRAIN_1_of_2"]]
)
def test_shards_in_other_spellings(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names, "Test")
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test), data.notes) == (6, 3, ())


@pytest.mark.parametrize("names", [["train_0", "train_1"], ["train1", "train2", "train3"]])
def test_numbered_files_are_joined_and_said(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names, "test")
    data = load_data(tmp_path)
    assert len(data.train) == 3 * len(names)
    (note,) = data.notes
    assert note.startswith(f"{len(names)} files are joined to the split train, and none says")


def test_ten_numbered_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    make(tmp_path, *(f"train_{i}" for i in range(11)), "test")
    data = load_data(tmp_path)
    make(tmp_path / "tenth", "test")
    labelled(tmp_path / "tenth" / "train.parquet", LABELS, first=100)
    tenth = load_data(tmp_path / "tenth").train.images(np.arange(3))
    assert np.array_equal(data.train.images(np.arange(30, 33)), tenth)


def test_the_hub_s_folders(tmp_path: Path) -> None:
    make(tmp_path / "a" / "plain_text", "train-00000-of-00001", "test-00000-of-00001")
    assert load_data(tmp_path / "a").notes == ()
    make(tmp_path / "b" / "default" / "train", "0000", "0001")
    make(tmp_path / "b" / "default" / "test", "0000")
    data = load_data(tmp_path / "b")
    assert (len(data.train), len(data.test)) == (6, 3)
    make(tmp_path / "a" / "augmented", "train-00000-of-00001", "test-00000-of-00001")
    assert "has Parquet files in augmented/, plain_text/; give the path of" in refused(
        tmp_path / "a"
    )
    make(tmp_path / "c", "train", "test")
    make(tmp_path / "c" / "data", "train", "test")
    assert "has Parquet files in itself, data/; give the path" in refused(tmp_path / "c")


def test_a_shard_by_its_path_is_read_with_its_siblings(tmp_path: Path) -> None:
    make(tmp_path, "train-00000-of-00002", "train-00001-of-00002", "test")
    assert len(load_data(tmp_path / "train-00001-of-00002.parquet").train) == 6
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    assert "lacks train-00000-of-00002" in refused(tmp_path / "train-00001-of-00002.parquet")


def test_a_file_by_its_path_is_read_alone(tmp_path: Path) -> None:
    make(tmp_path, "train", "train_small", "test")
    labelled(tmp_path / "train_small.parquet", [0, 1], first=70)
    data = load_data(tmp_path / "train_small.parquet")
    assert len(data.train) == 2 and data.classes == ("0", "1", "2")


def test_a_split_without_labels_is_passed_over(tmp_path: Path) -> None:
    """ImageNet on the hub: the labels of the test split are all -1."""
    make(tmp_path / "data", "train", "validation")
    labelled(tmp_path / "data" / "test.parquet", [-1, -1])
    data = load_data(tmp_path)
    assert data.test.labels.tolist() == LABELS
    assert data.notes == ("the split test has no labels and is left out",)
    for labels in ([None, None], [None, -1]):
        labelled(tmp_path / "data" / "test.parquet", arrow.array(labels, arrow.int64()))
        assert load_data(tmp_path).notes == data.notes
    labelled(tmp_path / "data" / "test.parquet", [0, -1])
    assert "test.parquet: row 1: label = -1: must be a class number" in refused(tmp_path)


def test_no_split_with_labels(tmp_path: Path) -> None:
    make(tmp_path, "train")
    labelled(tmp_path / "test.parquet", [-1, -1])
    assert "no image of the split test has a label; add a split that has" in refused(tmp_path)


def test_a_person_chooses_the_split(tmp_path: Path) -> None:
    make(tmp_path, "train", "test", "validation")
    labelled(tmp_path / "validation.parquet", [2, 1])
    data = load_data(tmp_path)
    chosen = load_data(f"{tmp_path}@validation")
    assert chosen.test.labels.tolist() == [2, 1]
    assert chosen.validation is None
    assert chosen.notes == ("1 of 3 classes have no test image: 0",)
    assert len(chosen.train) == 3 and chosen.name == data.name
    assert load_data(f"{tmp_path / 'train.parquet'}@validation").test.labels.tolist() == [2, 1]
    with pytest.raises(DataError, match=r"@eval: has no split 'eval'; it has test, train, validat"):
        load_data(f"{tmp_path}@eval")


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    make(tmp_path / "x@test", "train", "test")
    assert load_data(tmp_path / "x@test").name == "x@test"
    assert load_data(f"{tmp_path}/x@test@test").name == "x@test"


def test_validation_alone_can_be_evaluated(tmp_path: Path) -> None:
    make(tmp_path, "validation")
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (0, 3)
    assert data.notes == (f"{tmp_path} has no train*.parquet: it can be evaluated, not trained on",)
    with pytest.raises(DataError, match=r"has no train\*.parquet to train on"):
        data.train.images(np.arange(1))


def test_a_dataset_with_three_parts_has_them(tmp_path: Path) -> None:
    make(tmp_path, "train", "test", "validation", "valid")
    labelled(tmp_path / "validation.parquet", [2, 1, 0, 0], first=50)
    data = load_data(tmp_path)
    assert data.validation is not None and data.validation.labels.tolist() == [2, 1, 0, 0]
    assert data.test.labels.tolist() == LABELS
    ways = " or ".join(f"{tmp_path}@{name}" for name in ("test", "validation", "valid"))
    both = "the split validation is the validation part, and the split test the test part"
    assert data.notes == (f"{both}; valid is there, too (write {ways} for one of them alone)",)
    alone = load_data(f"{tmp_path}@validation")
    assert np.array_equal(data.validation.images(np.arange(2)), alone.test.images(np.arange(2)))


@pytest.mark.parametrize(("name", "left"), [("validation", [0, 1, 2]), ("test", [0, 2, 1, 1])])
def test_a_part_without_labels_leaves_the_other_to_test_on(
    tmp_path: Path, name: str, left: list[int]
) -> None:
    make(tmp_path, "train", "test")
    labelled(tmp_path / "validation.parquet", [0, 2, 1, 1], first=50)
    labelled(tmp_path / f"{name}.parquet", [-1, -1])
    data = load_data(tmp_path)
    assert (data.test.labels.tolist(), data.validation) == (left, None)
    assert data.notes == (f"the split {name} has no labels and is left out",)


def test_a_validation_part_has_the_training_files_classes(tmp_path: Path) -> None:
    for place, name in enumerate(("train", "test", "validation")):
        labelled(tmp_path / f"{name}.parquet", ["a", "b"], first=10 * place)
    labelled(tmp_path / "validation.parquet", ["b", "wolf"])
    assert "validation.parquet: row 1: 'wolf' is not a class of the training" in refused(tmp_path)
    labelled(tmp_path / "validation.parquet", [])
    assert "validation.parquet" in refused(tmp_path)
