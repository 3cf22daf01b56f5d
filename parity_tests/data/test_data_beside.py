"""Images that are in two parts, and folders and lists beside the parts, are told of."""

from __future__ import annotations

from pathlib import Path

import pytest
from pets import COLOURS, paint

from resnet_spec.data import from_files, load_data

_SPLITS = "train, test, validation, val, valid, eval; rename what is one"


def write(home: Path, name: str, *numbers: int) -> None:
    lines = [f"pictures/{it}/{i:02}.png,{it}" for it in COLOURS for i in numbers]
    (home / name).write_text("\n".join(["path,label", *lines, ""]))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with pictures of three classes, six of each, and no list."""
    return paint(tmp_path / "pets", count=6, splits=("pictures",))


def test_parts_of_their_own_images_need_no_note(home: Path) -> None:
    for name, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4, 5))):
        write(home, f"{name}.csv", *numbers)
    (note,) = load_data(home).notes
    assert note.startswith("val.csv is the validation part")


def test_files_in_two_lists_are_told_with_their_number(home: Path) -> None:
    """By path, also where one is written in another way."""
    write(home, "train.csv", 0, 1, 2)
    write(home, "val.csv", 2, 3)
    write(home, "test.csv", 3, 4)
    test = home / "test.csv"
    test.write_text(test.read_text() + "./pictures/../pictures/cat/00.png,cat\n")
    first = home / "pictures" / "cat"
    shared, leak = "what is evaluated there has been trained on", "the best epoch is chosen by"
    assert load_data(home).notes[1:] == (
        "3 files are in the training part and in the validation part, as "
        f"{first / '02.png'}: {shared}",
        f"{first / '00.png'} is in the training part and in the test part: {shared}",
        f"3 files are in the validation part and in the test part, as {first / '03.png'}: {leak} "
        "images that it is tested on",
    )


def test_pairs_from_python_are_looked_at_alike(home: Path) -> None:
    pairs = [(str(home / "pictures" / it / "00.png"), it) for it in COLOURS]
    (note,) = from_files("pets", pairs, pairs).notes
    assert note.startswith("3 files are in the training part and in the test part, as ")


def test_folders_that_are_one_by_a_link_are_told(tmp_path: Path) -> None:
    home = paint(tmp_path / "pets", count=2)
    assert load_data(home).notes == ()
    (home / "val").rename(home / "test")
    (home / "val").symlink_to(home / "train")
    notes = load_data(home).notes
    place = home / "train" / "cat"
    told = f"3 folders of classes are in the training part and in the validation part, as {place}"
    assert notes[1:] == (f"{told}: what is evaluated there has been trained on",)


@pytest.mark.parametrize("name", ["dev", "holdout", "Devel"])
def test_folders_of_images_that_are_no_split_are_told(name: str, tmp_path: Path) -> None:
    """With folders of classes in them or with pictures; others are nobody's loss."""
    home = paint(tmp_path / "pets", count=2, splits=("train", "test", name))
    (home / "notes" / "deep").mkdir(parents=True)
    data = load_data(home)
    assert data.validation is None
    rule = f"passed over: the splits of {home} are called {_SPLITS}"
    assert data.notes == (f"{name}/ is {rule}",)
    (home / "extra").mkdir()
    (home / "train" / "cat" / "00.png").rename(home / "extra" / "0.png")
    both = ", ".join(sorted((f"{name}/", "extra/")))
    assert load_data(home).notes == (f"{both} are {rule}",)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_usual_names_of_a_validation_part_are_taken(name: str, tmp_path: Path) -> None:
    data = load_data(paint(tmp_path / "pets", count=2, splits=("train", "test", name)))
    assert data.validation is not None and len(data.validation) == 6


def test_lists_that_are_no_split_are_told(home: Path) -> None:
    write(home, "train.csv", 0, 1)
    write(home, "test.csv", 2)
    write(home, "dev.csv", 3)
    (home / "prices.csv").write_text("name,price\ncat,3\n")
    (home / "torn.csv").write_bytes(b"\xff\xfe\x00")
    rule = f"dev.csv is passed over: the splits of {home} are called {_SPLITS}"
    assert load_data(home).notes == (rule,)
