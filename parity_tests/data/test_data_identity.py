"""What a dataset is does not depend on where it lies, and does on every image, label and place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_spec.data import data_place, load_data
from resnet_spec.data.encoded import EncodedSplit, content_of
from resnet_spec.data.fingerprint import Fingerprint, Identified
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.errors import DataError
from resnet_spec.showing.part import First


def make(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (root / split / name / "sub").mkdir(parents=True)
            for i in range(3):
                pixels = np.full((9, 9, 3), 40 * i, np.uint8)
                inner = "sub" if i == 2 else "."
                Image.fromarray(pixels).save(root / split / name / inner / f"{i}.png")
    return root


def print_of(path: Path | str) -> Fingerprint:
    return Fingerprint.of(load_data(path))


@pytest.mark.parametrize("ending", ["", "/", "/."])
def test_a_folder_that_moved_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    before = print_of(make(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    assert before.changes(print_of(f"{tmp_path / 'elsewhere'}{ending}")) == []
    monkeypatch.chdir(tmp_path)
    assert before.changes(print_of("elsewhere")) == []
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert before.changes(print_of(".")) == []
    monkeypatch.chdir(tmp_path / "elsewhere" / "val")
    assert print_of(".").splits["test"] == before.splits["test"]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "added": (lambda p: shutil.copy(p / "ant/0.png", p / "ant/9.png"), "6 -> 7 train images"),
    "removed": (lambda p: (p / "bee/1.png").unlink(), "6 -> 5 train images"),
    "renamed": (
        lambda p: (p / "bee/1.png").rename(p / "bee/7.png"),
        "other train images, or another order of them",
    ),
    "moved": (
        lambda p: (p / "bee/sub/2.png").rename(p / "bee/2.png"),
        "other train images, or another order of them",
    ),
    "relabelled": (
        lambda p: (p / "bee/1.png").rename(p / "ant/x.png"),
        "other numbers of train images per class",
    ),
    "of another size under the same name": (
        lambda p: (p / "bee/1.png").write_bytes((p / "bee/1.png").read_bytes() + b"\0"),
        "other train images, or another order of them",
    ),
    "exchanged": (
        lambda p: (
            (p / "bee/1.png").rename(p / "ant/x.png"),
            (p / "ant/0.png").rename(p / "bee/y.png"),
        ),
        "other train images, or another order of them",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changed_is_another(tmp_path: Path, change: str) -> None:
    act, expected = CHANGES[change]
    before = print_of(make(tmp_path))
    act(tmp_path / "train")
    assert before.changes(print_of(tmp_path)) == [expected]


def test_content_of_files_opens_none(tmp_path: Path) -> None:
    names = [f"/no/where/a/{i}.png" for i in range(1000)]
    split = EncodedSplit(names, np.zeros(1000, np.int64), 9, 3, str, root="/no/where")
    moved = [name.replace("/no/where", "/else") for name in names]
    assert list(split.content()) == list(content_of(moved, "/else/"))
    assert next(iter(split.content())) == b"a/0.png\n"


def test_content_of_a_file_is_its_name_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"12345")
    (tmp_path / "0.png").chmod(0)  # It need not be opened.
    assert list(content_of([str(tmp_path / "0.png")], str(tmp_path))) == [b"0.png\x005\n"]


def test_names_that_are_no_text_have_content() -> None:
    name = b"/x/\xff.png".decode("utf-8", "surrogateescape")
    assert list(content_of([name], "/x")) == [b"\xff.png\n"]


def test_encoded_bytes_are_their_digests() -> None:
    one, two = content_of([b"a", b"b"])
    assert one != two and len(one) == len(two) == 16
    assert b"".join(content_of([b"ab", b""])) != b"".join(content_of([b"a", b"b"]))


def test_every_split_says_what_it_is() -> None:
    digits = load_data("digits")
    for split in (digits.train, load_synthetic().train, First(digits.train, 5)):
        assert isinstance(split, Identified) and list(split.content())
    ours, other = load_synthetic(), load_synthetic(size=16)
    assert Fingerprint.of(ours) == Fingerprint.of(load_synthetic())
    assert Fingerprint.of(ours).splits["train"] != Fingerprint.of(other).splits["train"]
    assert Fingerprint.of(ours).splits["train"] != Fingerprint.of(ours).splits["test"]
    first, more = (list(First(digits.train, count).content()) for count in (5, 6))
    assert first != more


def test_small_parquet_is_what_its_files_hold(tmp_path: Path) -> None:
    """Another Pillow may decode a JPEG to other pixels, and the data is still the same."""
    parquet = pytest.importorskip("parquet_files", reason="pyarrow is not installed")
    images = [parquet.encoded(seed, kind="JPEG") for seed in range(4)]

    def put(home: Path, images: list[bytes], labels: list[int]) -> Fingerprint:
        parquet.write(home / "train.parquet", image=parquet.structs(images), label=labels)
        parquet.labelled(home / "test.parquet", [0, 1])
        return print_of(home)

    before = put(tmp_path / "a", images, [0, 1, 0, 1])
    assert before.changes(put(tmp_path / "b", images, [0, 1, 0, 1])) == []
    swapped = [images[2], images[1], images[0], images[3]]
    others = "other train images, or another order of them"
    assert before.changes(put(tmp_path / "b", swapped, [0, 1, 0, 1])) == [others]
    assert before.changes(put(tmp_path / "b", images, [1, 0, 0, 1])) == [others]
    assert before.changes(put(tmp_path / "b", images[:3], [0, 1, 0])) == ["4 -> 3 train images"]
    split = load_data(tmp_path / "a").train
    assert isinstance(split, Identified)
    assert b"".join(bytes(it) for it in split.content()) == b"".join(content_of(images))


def test_a_place_is_found_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    assert data_place("digits") == "digits"
    assert data_place("x") == data_place(Path("x")) == str(tmp_path / "x")
    assert data_place("x@val") == f"{tmp_path / 'x'}@val"
    assert data_place(Path("digits")) == data_place("./digits") == str(tmp_path / "digits")
    place = data_place("x@val")
    monkeypatch.chdir("/")
    assert len(load_data(place).test) == 6


def test_a_relative_place_that_is_not_there_says_relative_to_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load_data("photos/insects")
    assert str(caught.value).startswith(
        "data = photos/insects: is neither a dataset nor a path that exists below "
        f"{tmp_path}; choose from"
    )
    with pytest.raises(DataError, match="cannot be looked for"):
        load_data("x" * 5000)
    with pytest.raises(DataError, match=r"is neither a dataset nor a path|cannot be looked for"):
        load_data("a\0b")
