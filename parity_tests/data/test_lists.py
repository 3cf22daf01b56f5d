"""Images by a list: CSV files in a folder, and pairs in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnet_spec
from resnet_spec.data import from_files, load_data
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six grey pictures, whose pixels are their number times ten, in `pictures/`."""
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        Image.new("L", (8, 8), 10 * i).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def lists(folder: Path) -> Path:
    write(folder, "train.csv", "path,label", *(f"pictures/{i}.png,{'ba'[i % 2]}" for i in range(4)))
    write(folder, "test.csv", "path,label", "pictures/4.png,a", "pictures/5.png,b")
    return folder


def test_a_folder_of_lists_is_a_dataset(images: Path) -> None:
    data = load_data(lists(images), size=8)
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [1, 0, 1, 0]
    assert data.test.labels.tolist() == [0, 1]
    found = data.train.images(np.array([3, 0]))
    assert found.shape == (2, 8, 8, 3)
    assert (found[0] == 30).all() and (found[1] == 0).all()
    assert data.name == images.name


def test_an_image_without_a_label_is_no_class_of_its_own(images: Path) -> None:
    write(lists(images), "test.csv", "path,label", "pictures/4.png,a", "pictures/5.png,-1")
    with pytest.raises(DataError, match=r"test\.csv:3: label = -1: is no class; leave images"):
        load_data(images)
    pairs = [(str(images / f"pictures/{i}.png"), i - 1) for i in range(3)]
    with pytest.raises(DataError, match=r"mine, train\[0\]: label = -1: is no class"):
        from_files("mine", pairs, pairs)


def test_it_is_the_same_wherever_it_lies(images: Path, tmp_path: Path) -> None:
    before = Fingerprint.of(load_data(lists(images)))
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("pictures", "train.csv", "test.csv"):
        (images / name).rename(moved / name)
    assert before.changes(Fingerprint.of(load_data(moved))) == []
    write(moved, "test.csv", "path,label", "pictures/3.png,a", "pictures/5.png,b")
    assert before.changes(Fingerprint.of(load_data(moved))) == [
        "other test images, or another order of them"
    ]


def test_columns_by_any_usual_name_in_any_order(images: Path) -> None:
    write(images, "train.csv", "id,Class,file_name", "7,x,pictures/0.png", "8,y,pictures/1.png", "")
    write(images, "val.csv", "filename, label", f"{images}/pictures/2.png, y")
    data = load_data(images)
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1], [1])


def test_numbers_are_in_the_order_of_numbers(images: Path) -> None:
    lines = [f"pictures/{i}.png,{label}" for i, label in enumerate((10, 9, 100))]
    write(images, "train.csv", "path,label", *lines)
    write(images, "test.csv", "path,label", *lines[:1])
    data = load_data(images)
    assert data.classes == ("9", "10", "100")
    assert data.train.labels.tolist() == [1, 0, 2]


def test_another_split_can_be_asked_for(images: Path) -> None:
    write(lists(images), "val.csv", "path,label", "pictures/3.png,b")
    assert load_data(f"{images}@val").test.labels.tolist() == [1]
    assert load_data(f"{images}@test").test.labels.tolist() == [0, 1]
    assert load_data(f"{images}@test").validation is None
    with pytest.raises(DataError, match="has no split 'eval'"):
        load_data(f"{images}@eval")


def test_folders_of_images_come_before_lists_of_them(images: Path) -> None:
    for split in ("train", "test"):
        (images / split / "only").mkdir(parents=True)
        Image.new("L", (8, 8)).save(images / split / "only" / "0.png")
    assert load_data(lists(images)).classes == ("only",)


def test_folders_of_splits_without_classes_are_named_by_lists(images: Path) -> None:
    for split in ("train", "val"):
        (images / split).mkdir()
        Image.new("L", (8, 8)).save(images / split / "0.png")
    assert load_data(lists(images)).classes == ("a", "b")


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ([], "train.csv: is empty; it must have the columns path and label"),
        (["pictures/0.png,a"], "train.csv: has no column path; its first line must be a header"),
        (["path,label,class", "a,b,c"], "train.csv: has the columns label and class, of which"),
        (["path,label"], "train.csv: names no image; give it a line for each, or remove it"),
        (["path,label", "pictures/0.png"], "train.csv:2: has 1 values, and the header has 2"),
        (["path,label", "pictures/0.png,"], "train.csv:2: has no label"),
        (["path,label", ",a"], "train.csv:2: has no path"),
        (["path,label", "pictures/0.png,a", "x.png,b", "y.png,b"], "train.csv:3: there is no file"),
        (["path,label", 'pictures/0.png,"a', "pictures/1.png,b"], "is no CSV file of UTF-8 text"),
        (["path,label", 'pictures/0.png,"a', 'b"'], r"train.csv:3: label = 'a\nb': must be a line"),
        (["path,label", f"pictures/0.png,{'a' * 1001}"], "must be a line of 1 to 1000 characters"),
        (
            ["path,label", "pictures/0.png,a", "pictures/1.png,b", "./pictures/0.png,b"],
            "pictures/0.png is 'a' before, and 'b' here; give it one label",
        ),
        (["path,label", "pictures/0.png,a"], "test.csv:3: 'b' is not a class of the data"),
    ],
)
def test_a_list_that_is_wrong_is_one_line(images: Path, train: list[str], line: str) -> None:
    lists(images)
    (images / "train.csv").write_text("".join(f"{it}\n" for it in train))
    with pytest.raises(DataError) as error:
        load_data(images)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_of_other_bytes_is_one_line(images: Path) -> None:
    (lists(images) / "train.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match=r"train\.csv: is no CSV file of UTF-8 text"):
        load_data(images)


def test_a_folder_with_one_list_is_evaluated_or_refused(images: Path) -> None:
    lists(images)
    (images / "train.csv").unlink()
    data = load_data(images)
    assert len(data.train) == 0
    assert "has no train.csv: it can be evaluated, not trained on" in " ".join(data.notes)
    lists(images)
    (images / "test.csv").unlink()
    with pytest.raises(DataError, match=r"has train\.csv and nothing to evaluate on; add test"):
        load_data(images)


def pairs(folder: Path, *labels: Any) -> list[tuple[Path, Any]]:
    return [(folder / "pictures" / f"{i}.png", label) for i, label in enumerate(labels)]


def test_pairs_in_python(images: Path) -> None:
    data = from_files("mine", pairs(images, "b", "a", "b"), pairs(images, "a"), size=8)
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [1, 0, 1]
    assert (data.train.images(np.array([2])) == 20).all()


def test_numbers_are_places_in_given_classes(images: Path) -> None:
    names = ["no", "yes"]
    data = from_files("mine", pairs(images, 1, 0, "yes", "1"), pairs(images, 0), classes=names)
    assert data.classes == ("no", "yes")
    assert data.train.labels.tolist() == [1, 0, 1, 1]
    numbered = from_files("mine", pairs(images, 3, 5, 3), pairs(images, 5))
    assert (numbered.classes, numbered.train.labels.tolist()) == (("3", "5"), [0, 1, 0])


def test_a_list_from_python(images: Path) -> None:
    lists(images)
    data = from_files("mine", images / "train.csv", str(images / "test.csv"), classes=["b", "a"])
    assert data.train.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (3, "mine, train: must be pairs (path, label) or a .csv file, and is int"),
        ([3], "mine, train[0]: must be a pair (path, label), and is int"),
        ([(3, 0)], "mine, train[0]: path must be a text or a Path, and is int"),
        ([("pictures/0.png", 0.5)], "mine, train[0]: label must be a name or a whole number"),
        ([("pictures/0.png", True)], "mine, train[0]: label must be a name or a whole number"),
        ([("pictures/0.png", "a\nb")], r"mine, train[0]: label = 'a\nb': must be a line"),
        ([("pictures/9.png", 0)], "mine, train[0]: there is no file"),
        ([("pictures/0.png", 2)], "mine, train[0]: 2 is no place in 2 classes"),
        (
            [("pictures/0.png", -1)],
            "mine, train[0]: label = -1: is no class; leave images",
        ),
        ([("pictures/0.png", "yess")], "'yess' is not a class of the data; did you mean 'yes'"),
        (
            [("pictures/0.png", 0)],
            "mine: the training list has no image of the class 'yes'; add one, or leave the class",
        ),
        ([], "mine: the training list names no image; give it a pair for each, or leave it out"),
    ],
)
def test_pairs_that_are_wrong_are_one_line(
    images: Path, monkeypatch: pytest.MonkeyPatch, train: Any, line: str
) -> None:
    monkeypatch.chdir(images)
    with pytest.raises(DataError) as error:
        from_files("mine", train, [("pictures/0.png", 0)], classes=["no", "yes"])
    assert line in str(error.value)


@pytest.mark.parametrize("size", [0, -1, 8.5, "8", True])
def test_a_size_that_is_none_is_one_line(images: Path, size: Any) -> None:
    with pytest.raises(DataError, match=f"data mine: size = '?{size}'?: must be a whole number"):
        from_files("mine", pairs(images, 0), pairs(images, 0), size=size)


def test_a_text_is_no_list_of_classes(images: Path) -> None:
    with pytest.raises(DataError, match="data mine: classes = 'ab': must be a list of names"):
        from_files("mine", pairs(images, 0, 1), pairs(images, 0), classes="ab")


def test_a_run_on_a_list(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lists(images))
    more = ["epochs=1", "batch=4", "stages[0].blocks=1"]
    summary = resnet_spec.train(
        "resnet20_cifar", "numpy", data=images, out="run", input_size=8, settings=more
    )
    assert summary.complete
