"""Which column of Parquet files is the label, and labels that mean one class in every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_refusals import refused
from parquet_files import arrow, encoded, labelled, structs, write

from resnet_spec.data import load_data
from resnet_spec.data.classes import Ordered, sorted_names

IMAGES = structs([encoded(seed) for seed in range(4)])
LABELS = [0, 1, 2, 0]
IDS = [7, 8, 9, 10]
TEN = [str(i) for i in range(11)]


def make(home: Path, names: dict[str, list[str]] | None = None, **columns: Any) -> Path:
    for split in ("train", "test"):
        write(home / f"{split}.parquet", names, image=IMAGES, **columns)
    return home


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image_id": IDS, "label": LABELS}, None),
        ({"image_id": IDS, "width": IDS, "target": LABELS}, None),
        ({"cell": LABELS, "id": IDS}, {"cell": ["a", "b", "c"]}),
        ({"label": IDS, "cell": LABELS}, {"cell": ["a", "b", "c"]}),
        ({"coarse_label": IDS, "fine_label": LABELS}, None),
        ({"coarse_label": IDS, "fine_label": LABELS}, {"fine_label": ["a", "b", "c"]}),
        ({"label": LABELS, "class": ["x"] * 4}, None),
    ],
)
def test_the_label_is_found_by_name_or_metadata(
    tmp_path: Path, columns: dict[str, Any], said: dict[str, list[str]] | None
) -> None:
    data = load_data(make(tmp_path, said, **columns))
    assert data.train.labels.tolist() == LABELS
    assert data.classes == (("a", "b", "c") if said else ("0", "1", "2"))


def test_what_is_left_out_beside_the_label_is_said(tmp_path: Path) -> None:
    data = load_data(make(tmp_path, label=LABELS, target=IDS))
    assert data.notes == ("labels are those of the column label; target is left out",)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image_id": IDS}, None),
        ({"id": IDS, "width": IDS}, None),
        ({"caption": ["a", "b", "c", "d"]}, None),
        ({"one": LABELS, "two": LABELS}, {"one": ["a", "b", "c"], "two": ["d", "e", "f"]}),
    ],
)
def test_no_column_is_a_label_by_being_the_only_one(
    tmp_path: Path, columns: dict[str, Any], said: dict[str, list[str]] | None
) -> None:
    text = refused(make(tmp_path, said, **columns))
    assert "name it label; it has image (struct" in text
    assert ("several columns hold labels" if said else "no column holds labels") in text


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path / "train-00000-of-00002.parquet", LABELS)
    write(tmp_path / "train-00001-of-00002.parquet", image=IMAGES, target=LABELS)
    labelled(tmp_path / "test.parquet", LABELS)
    assert (
        "train-00001-of-00002.parquet: column label is missing, and train-00000-of-00002.parquet "
        "has int64; make them one"
    ) in refused(tmp_path)
    labelled(tmp_path / "train-00001-of-00002.parquet", ["a", "b"])
    assert "column label is string, and train-00000-of-00002.parquet has int64" in refused(tmp_path)


def test_another_order_of_the_same_classes_is_mapped_by_name(tmp_path: Path) -> None:
    labelled(tmp_path / "train.parquet", [0, 1, 2], ["ant", "bee", "cat"])
    labelled(tmp_path / "test.parquet", [0, 1, 2, 0], ["cat", "ant", "bee"])
    data = load_data(tmp_path)
    assert data.classes == ("ant", "bee", "cat")
    assert data.train.labels.tolist() == [0, 1, 2] and data.test.labels.tolist() == [2, 0, 1, 2]
    (note,) = data.notes
    assert note == (
        "test.parquet has the classes in another order than train.parquet (cat, ant, bee; ant, "
        "bee, cat); its labels are mapped by name"
    )


def test_shards_of_one_split_are_mapped_to_the_first(tmp_path: Path) -> None:
    labelled(tmp_path / "train-00000-of-00002.parquet", [0, 1], ["ant", "bee"])
    labelled(tmp_path / "train-00001-of-00002.parquet", [0, 1], ["bee", "ant"])
    labelled(tmp_path / "test.parquet", [1], ["ant", "bee"])
    data = load_data(tmp_path)
    assert data.train.labels.tolist() == [0, 1, 1, 0] and data.test.labels.tolist() == [1]
    assert "train-00001-of-00002.parquet has the classes in another order" in data.notes[0]


@pytest.mark.parametrize("part", ["train-00001-of-00002", "test"])
def test_other_classes_are_refused(tmp_path: Path, part: str) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test"):
        names = ["ant", "bees"] if name == part else ["ant", "bee"]
        labelled(tmp_path / f"{name}.parquet", [0, 1], names)
    text = refused(tmp_path)
    assert f"{part}.parquet: 'bees' is not a class of" in text and "did you mean 'bee'?" in text


def test_fewer_classes_in_the_test_file_are_mapped(tmp_path: Path) -> None:
    labelled(tmp_path / "train.parquet", [0, 1, 2], ["ant", "bee", "cat"])
    labelled(tmp_path / "test.parquet", [0, 1], ["bee", "cat"])
    data = load_data(tmp_path)
    assert data.test.labels.tolist() == [1, 2]
    assert data.notes[-1] == "1 of 3 classes have no test image: ant"


def test_a_file_that_names_no_classes_is_said(tmp_path: Path) -> None:
    labelled(tmp_path / "train.parquet", [0, 1], ["ant", "bee"])
    labelled(tmp_path / "test.parquet", [1, 0])
    data = load_data(tmp_path)
    assert data.classes == ("ant", "bee") and data.test.labels.tolist() == [1, 0]
    assert data.notes == ("test.parquet names no classes, and is read with train.parquet's",)
    labelled(tmp_path / "test.parquet", [2, 0])
    assert "test.parquet: train.parquet names 2 classes, and there is a label 2" in refused(
        tmp_path
    )


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):
        labelled(tmp_path / f"{name}.parquet", [0, 1], ["ant", "ant"])
    assert "train.parquet: names the class 'ant' twice; give each its own name" in refused(tmp_path)


def test_another_column_of_images_is_said(tmp_path: Path) -> None:
    data = load_data(make(tmp_path, label=LABELS, mask=IMAGES))
    assert data.notes == ("images are those of the column image; mask is left out",)


def test_one_class_is_said(tmp_path: Path) -> None:
    assert load_data(make(tmp_path, label=[0] * 4)).notes == ("all images are of one class, 0",)


def test_views_as_other_writers_leave_them(tmp_path: Path) -> None:
    if not hasattr(arrow, "string_view"):
        pytest.skip("this pyarrow has no views")
    images = arrow.array([encoded(seed) for seed in range(4)], arrow.binary_view())
    for name in ("train", "test"):
        labels = arrow.array(["b", "a", "b", "a"], arrow.string_view())
        write(tmp_path / f"{name}.parquet", image=images, label=labels)
    assert load_data(tmp_path).train.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_labels_that_are_texts(tmp_path: Path, kind: str) -> None:
    def texts(values: list[str]) -> Any:
        found = arrow.array(values, arrow.large_string() if kind == "large_string" else None)
        return found.dictionary_encode() if kind == "dictionary" else found

    labelled(tmp_path / "train.parquet", texts(["cat", "ant", "bee", "ant"]))
    labelled(tmp_path / "test.parquet", texts(["bee", "cat", "ant"]))
    data = load_data(tmp_path)
    assert data.classes == ("ant", "bee", "cat") and data.notes == ()
    assert data.train.labels.tolist() == [2, 0, 1, 0] and data.test.labels.tolist() == [1, 2, 0]
    labelled(tmp_path / "test.parquet", texts(["bee", "cats"]))
    text = refused(tmp_path)
    assert "test.parquet: row 1: 'cats' is not a class of the training files; did you" in text
    labelled(tmp_path / "test.parquet", texts(["bee", ""]))
    assert "test.parquet: row 1: label = '': must be a class's name" in refused(tmp_path)


def test_numbers_as_names_have_one_order_however_they_are_stored(tmp_path: Path) -> None:
    """As texts, as a ClassLabel in the order of text, and as folders of paths."""
    as_text = sorted(TEN)
    for name in ("train", "test"):
        labelled(tmp_path / "a" / f"{name}.parquet", TEN)
        labelled(tmp_path / "b" / f"{name}.parquet", [as_text.index(text) for text in TEN], as_text)
        paths = [f"x/{text}/{i}.png" for i, text in enumerate(TEN)]
        images = structs([encoded(i) for i in range(11)], paths)
        labels = [as_text.index(text) for text in TEN]
        write(tmp_path / "c" / f"{name}.parquet", image=images, label=labels)
    for place in "abc":
        data = load_data(tmp_path / place)
        assert data.classes == tuple(TEN), place
        assert data.train.labels.tolist() == data.test.labels.tolist() == list(range(11)), place
        (note,) = data.notes
        assert "have numbers for names and are in the order of these (0, 1, 2, 3, 4" in note


def test_the_order_of_names() -> None:
    assert sorted_names(["10", "2", "1"]) == ("1", "2", "10")
    assert sorted_names(["10", "2", "x"]) == ("10", "2", "x")
    assert sorted_names(["3", "-1", "01", "1"]) == ("-1", "01", "1", "3")
    order = Ordered.of(["b", "a"])
    assert (order.names, order.places.tolist(), order.notes) == (("b", "a"), [0, 1], ())
    assert Ordered.of(["2", "10", "1"]).places.tolist() == [1, 2, 0]


def test_classes_by_the_folders_of_paths_are_mapped_or_refused(tmp_path: Path) -> None:
    def put(name: str, labels: list[int], folders: list[str]) -> None:
        paths = [f"{name}/{folder}/{i}.png" for i, folder in enumerate(folders)]
        images = structs([encoded(i) for i in range(len(labels))], paths)
        write(tmp_path / f"{name}.parquet", image=images, label=labels)

    put("train", [0, 1, 2], ["ant", "bee", "cat"])
    put("test", [0, 1, 2], ["ant", "bee", "cat"])
    assert load_data(tmp_path).notes == ()
    put("test", [0, 1, 2], ["cat", "ant", "bee"])
    data = load_data(tmp_path)
    assert data.test.labels.tolist() == [2, 0, 1]
    assert "test.parquet numbers the classes otherwise" in data.notes[0]
    put("test", [0, 0, 1], ["cat", "ant", "bee"])
    assert "test.parquet: row 0: label 0 lies in cat/ here, and in ant/ elsewhere" in refused(
        tmp_path
    )
    put("test", [0, 1, 2], ["bee", "bee", "cat"])
    assert "test.parquet: two labels lie in one folder" in refused(tmp_path)
    put("test", [1, 1, 2], ["all", "all", "all"])
    assert load_data(tmp_path).test.labels.tolist() == [1, 1, 2]


def test_a_class_without_images_is_said(tmp_path: Path) -> None:
    """Labels that begin with 1 make a class 0 that no image has."""
    for name in ("train", "test"):
        labelled(tmp_path / f"{name}.parquet", [1, 2, 3])
    data = load_data(tmp_path)
    assert data.notes == (
        "1 of 4 classes have no training image: 0",
        "1 of 4 classes have no test image: 0",
    )
    assert np.array_equal(data.train.labels, [1, 2, 3])
