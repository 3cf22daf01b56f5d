"""Image folders as people have them: what is read, what is left out, and which split counts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from data_refusals import refused
from PIL import Image

from resnet_spec.data import load_data
from resnet_spec.errors import DataError

CLASSES = ("ant", "bee")


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    grey = path.suffix.lower() in (".pgm", ".pbm")
    image.convert("1" if path.suffix == ".pbm" else "L").save(path) if grey else image.save(path)
    return path


def make(root: Path, *splits: str, classes: tuple[str, ...] = CLASSES, count: int = 2) -> Path:
    for split in splits:
        for name in classes:
            for i in range(count):
                picture(root / split / name / f"{i}.png", i)
    return root


SUFFIXES = (
    *("jpg", "jpeg", "JPG", "jfif", "jpe", "png", "PNG", "webp"),
    *("bmp", "tif", "tiff", "gif", "ppm", "pgm", "pbm", "pnm"),
)


def test_every_usual_format_is_read(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    for place, suffix in enumerate(SUFFIXES):
        known = "jpg" if suffix == "jpe" else suffix  # Pillow does not save under that name.
        saved = picture(tmp_path / "train" / "ant" / f"x{place}.{known}")
        saved.rename(saved.with_suffix(f".{suffix}"))
    data = load_data(tmp_path, size=9)
    assert np.bincount(data.train.labels).tolist() == [2 + len(SUFFIXES), 2]
    assert data.notes == ()
    images = data.train.images(np.arange(len(data.train)))
    assert images.shape == (4 + len(SUFFIXES), 9, 9, 3)


def test_sub_folders_are_read_in_torchvision_s_order(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    for name in ("b/1.png", "b/0.png", "a/9.png", "a/c/0.png", "b-2/0.png"):
        picture(tmp_path / "train" / "ant" / name)
    data = load_data(tmp_path, size=9)
    home = tmp_path / "train" / "ant"
    expected = [
        str(Path(root) / name)
        for root, _, names in sorted(os.walk(home, followlinks=True))
        for name in sorted(names)
    ]
    assert list(data.train.sources)[:7] == expected  # pyright: ignore[reportAttributeAccessIssue]
    assert data.notes == ()


def test_what_is_not_read_is_counted_in_one_note(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    for name in ("train/ant/a.heic", "train/ant/deep/b.heic", "val/bee/x.txt", "train/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    picture(tmp_path / "train" / "stray.png")
    (tmp_path / "train" / "ant" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (note,) = load_data(tmp_path).notes
    assert note == (
        f"left out in {tmp_path}: 5 files (2 .heic, 1 .txt, 1 without an ending, 1 images outside "
        "the folders of classes) and 1 links to nothing or to folders read already"
    )


def test_what_systems_leave_is_skipped_without_a_word(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    for name in (
        *(
            "train/.DS_Store",
            "train/ant/._0.png",
            "train/ant/Thumbs.db",
            "train/__MACOSX/ant/0.png",
        ),
        *("train/.ipynb_checkpoints/0-checkpoint.png", "train/ant/.ipynb_checkpoints/0.png"),
        *("val/@eaDir/x.png", "val/bee/desktop.ini"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    data = load_data(tmp_path)
    assert (data.classes, len(data.train), data.notes) == (CLASSES, 4, ())


def test_links_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    home = tmp_path / "train" / "ant"
    (home / "up").symlink_to(tmp_path / "train")
    (home / "self").symlink_to(home)
    (home / "snake").symlink_to(home / "snake")
    picture(tmp_path / "elsewhere" / "deep" / "9.png")
    (home / "more").symlink_to(tmp_path / "elsewhere")
    data = load_data(tmp_path)
    # Its own two, those of the linked folder, and by way of `up` those of bee.
    assert np.bincount(data.train.labels).tolist() == [5, 2]
    assert "links to nothing or to folders read already" in data.notes[-1]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_damaged_files_are_one_line_with_the_path(tmp_path: Path, content: bytes | None) -> None:
    make(tmp_path, "train", "val")
    broken = tmp_path / "val" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60] if content is None else content)
    data = load_data(tmp_path, size=9)
    with pytest.raises(DataError, match=r"val/bee/1.png: is not a whole JPEG, PNG, ") as caught:
        data.test.images(np.arange(4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "taken", "others"),
    [
        (("val", "valid"), "val", "valid"),
        (("eval", "validation"), "validation", "eval"),
        (("eval", "test"), "test", "eval"),
        (("valid",), "valid", ""),
        (("eval",), "eval", ""),
    ],
)
def test_which_split_is_evaluated(
    tmp_path: Path, splits: tuple[str, ...], taken: str, others: str
) -> None:
    make(tmp_path, "train", *splits)
    make(tmp_path, taken, count=3)
    data = load_data(tmp_path)
    assert len(data.test) == 6
    said = f"evaluation is on {taken}/; {others} is there, too (write {tmp_path}@{others} for that)"
    assert data.notes == ((said,) if others else ())
    if others:
        assert len(load_data(f"{tmp_path}@{others}").test) == 4
        assert load_data(f"{tmp_path}@{others}").notes == ()


def test_a_flat_test_folder_is_left_out(tmp_path: Path) -> None:
    """Kaggle's: images to predict, without classes."""
    make(tmp_path, "train", "eval")
    picture(tmp_path / "test" / "1.png")
    data = load_data(tmp_path)
    assert len(data.test) == 4
    assert data.notes == ("test/ has no folders of classes and is left out",)
    with pytest.raises(DataError, match="test: has no folder; it must have one for each class"):
        load_data(f"{tmp_path}@test")


def test_validation_alone_is_evaluated(tmp_path: Path) -> None:
    make(tmp_path, "val")
    data = load_data(tmp_path)
    assert (data.classes, len(data.train), len(data.test)) == (CLASSES, 0, 4)
    assert data.train.labels.shape == (0,)
    assert data.notes == (f"{tmp_path} has no train/: it can be evaluated, not trained on",)
    with pytest.raises(DataError, match="has no train/ to train on"):
        data.train.images(np.arange(1))


def test_a_folder_of_classes_is_evaluated(tmp_path: Path) -> None:
    make(tmp_path, "photos")
    data = load_data(tmp_path / "photos")
    assert (data.name, data.classes, len(data.test)) == ("photos", CLASSES, 4)
    assert "all its images are evaluated, and none trained on" in data.notes[0]
    with pytest.raises(DataError, match="part it to train on it"):
        data.train.boxes(np.arange(1), np.zeros((1, 22)))


def test_a_folder_of_datasets_is_no_folder_of_classes(tmp_path: Path) -> None:
    make(tmp_path / "one", "train", "val")
    make(tmp_path / "two", "train", "val")
    assert "holds no dataset" in refused(tmp_path)
    make(tmp_path / "x", "seg_train/seg_train", "seg_test/seg_test")
    assert "holds no dataset" in refused(tmp_path / "x")
    make(tmp_path / "y", "docs")
    (tmp_path / "y" / "docs" / "src").mkdir()
    assert "holds no dataset" in refused(tmp_path / "y" / "docs")


def test_splits_are_called_training_and_testing_too(tmp_path: Path) -> None:
    data = load_data(make(tmp_path, "Training", "testing"), size=9)
    assert (len(data.train), len(data.test), data.notes) == (4, 4, ())
    make(tmp_path, "train")
    assert "has Training/ and train/; rename one" in refused(tmp_path)


def test_a_dataset_further_inside_is_pointed_to(tmp_path: Path) -> None:
    inner = make(tmp_path / "pets-v1" / "pets", "train", "val")
    for place in (tmp_path, tmp_path / "pets-v1"):
        assert f"{place}: holds no dataset, but {inner} does; give that path" in refused(place)


def test_test_images_without_folders_of_classes_are_told(tmp_path: Path) -> None:
    make(tmp_path, "train")
    picture(tmp_path / "val" / "images" / "0.png")
    assert refused(tmp_path).startswith(
        f"{tmp_path / 'val'}: holds its images in images/, not in folders of classes; move each"
    )


def test_training_images_alone_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "train")
    text = refused(tmp_path)
    assert text.endswith(
        "has train/ and nothing to evaluate on; add one of val/, validation/, valid/, test/, eval/"
    )


def test_capitals_and_two_spellings(tmp_path: Path) -> None:
    make(tmp_path, "Train", "Test")
    assert (len(load_data(tmp_path).train), load_data(tmp_path).notes) == (4, ())
    make(tmp_path, "train")
    assert "has Train/ and train/; rename one" in refused(tmp_path)


def test_numbers_as_names_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    names = tuple(str(i) for i in range(11))
    make(tmp_path, "train", "val", classes=names, count=1)
    data = load_data(tmp_path)
    assert data.classes == names and data.train.labels.tolist() == list(range(11))
    assert data.notes == (
        "classes have numbers for names and are in the order of these (0, 1, 2, 3, 4 and 6 more), "
        "not as text (0, 1, 10, 2, 3 and 6 more), which is torchvision's order",
    )


def test_classes_without_test_images_are_said(tmp_path: Path) -> None:
    make(tmp_path, "train", classes=("ant", "bee", "cat"))
    make(tmp_path, "val", classes=("bee",))
    (tmp_path / "val" / "cat").mkdir()
    data = load_data(tmp_path)
    assert data.test.labels.tolist() == [1, 1]
    assert data.notes == ("2 of 3 classes have no test image: ant, cat",)


def test_two_datasets_in_one_place_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    (tmp_path / "train.parquet").write_bytes(b"")
    assert "holds Parquet files and folders of images; give the path of one" in refused(tmp_path)


def test_a_split_cannot_be_chosen_where_there_is_one(tmp_path: Path) -> None:
    make(tmp_path, "photos")
    with pytest.raises(DataError, match="photos@val: has no split 'val'; it has none"):
        load_data(f"{tmp_path / 'photos'}@val")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    make(tmp_path, "train", "val")
    (tmp_path / "train" / "ant").chmod(0)
    assert "train/ant: cannot be read (Permission denied)" in refused(tmp_path)
    (tmp_path / "train" / "ant").chmod(0o700)
