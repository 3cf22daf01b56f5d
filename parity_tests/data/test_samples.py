"""Datasets of other libraries, in small: sequences of pairs and tables, with what those have."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from resnet_spec.data import from_samples
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.samples import SampleSplit
from resnet_spec.errors import DataError

PIXELS = np.arange(6 * 8 * 8 * 3, dtype=np.uint32).reshape(6, 8, 8, 3).astype(np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


class Pairs:
    """As torch's: a length, and (image, label) for a number."""

    def __init__(self, images: Any, labels: Any, **attributes: Any) -> None:
        self._images, self._labels = images, labels
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> Any:
        return self._images[place], self._labels[place]


class Names:
    names = ("cat", "dog", "cow")


class Tables(Pairs):
    """As Hugging Face's: tables, columns and features."""

    features: ClassVar = {"img": None, "label": Names()}

    def __getitem__(self, place: Any) -> Any:
        if place == "label":
            return self._labels
        return {"img": self._images[place], "label": self._labels[place]}


def arrays(count: int = 6) -> Pairs:
    return Pairs(PIXELS[:count], LABELS[:count])


def test_pairs_of_arrays() -> None:
    data = from_samples("mine", arrays(), arrays(3))
    assert (data.size, data.channels, data.classes) == (8, 3, ("0", "1", "2"))
    assert np.array_equal(data.train.images(np.arange(6)), PIXELS)
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.mean == pytest.approx(tuple(PIXELS.mean((0, 1, 2)) / 255))


def test_the_same_images_in_every_form_are_the_same_data() -> None:
    torch = pytest.importorskip("torch")
    pictures = [Image.fromarray(image) for image in PIXELS]
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in PIXELS]
    numbers = [torch.tensor(label) for label in LABELS]
    expected = Fingerprint.of(from_samples("mine", arrays(), arrays()))
    for images, labels in (
        (pictures, LABELS),
        (tensors, numbers),
        (list(PIXELS), np.array(LABELS)),
    ):
        part = Pairs(images, labels)
        assert expected.changes(Fingerprint.of(from_samples("mine", part, part))) == []


def test_a_table_with_features() -> None:
    part = Tables(PIXELS, LABELS)
    data = from_samples("mine", part, part, image="img")
    assert data.classes == ("cat", "dog", "cow")
    assert data.train.labels.tolist() == LABELS


def test_a_dataset_that_has_targets_and_classes_is_not_read_for_them() -> None:
    class Fails(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            assert place not in range(8, 11), "read for its label"
            return super().__getitem__(place)

    big = np.zeros((12, 100, 100, 3), np.uint8)
    part = Pairs(Fails(big), LABELS * 2, targets=LABELS * 2, classes=["a", "b", "c"])
    data = from_samples("mine", part, part)
    assert data.classes == ("a", "b", "c")
    changed = Pairs(big, LABELS, targets=[9] * 6, target_transform=str)
    assert from_samples("mine", changed, changed).train.labels.tolist() == LABELS


def test_large_images_are_read_when_they_are_needed() -> None:
    images = [np.full((100, 90 + i, 3), 10 * i, np.uint8) for i in range(6)]
    part = Pairs(images, LABELS)
    data = from_samples("mine", part, part, size=80)
    assert isinstance(data.train, SampleSplit)
    found = data.train.images(np.array([4, 1]))
    assert found.shape == (2, 80, 80, 3)
    assert (found[0] == 40).all() and (found[1] == 10).all()
    boxes = data.train.boxes(np.array([5]), np.full((1, 22), 0.5))
    assert boxes.shape == (1, 80, 80, 3) and (boxes == 50).all()
    other = Pairs([*images[:-1], images[0]], LABELS)
    changes = Fingerprint.of(data).changes(
        Fingerprint.of(from_samples("mine", other, other, size=80))
    )
    assert changes == [
        "other train images, or another order of them",
        "other test images, or another order of them",
    ]


def test_grey_images_stay_grey() -> None:
    part = Pairs([Image.new("L", (8, 8), i) for i in range(6)], LABELS)
    data = from_samples("mine", part, part)
    assert data.channels == 1
    assert data.train.images(np.array([5]))[0, 0, 0].tolist() == [5]


def test_colour_is_not_lost_behind_a_grey_image() -> None:
    grey, colour = Image.new("L", (8, 8), 7), Image.new("RGB", (8, 8), (1, 2, 3))
    data = from_samples("mine", [(grey, 0), (colour, 1)], [(grey, 0)])
    assert data.train.images(np.arange(2))[:, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]
    late = [(grey, 0)] * 8 + [(colour, 1)]
    with pytest.raises(DataError, match=r"train\[8\]: is in colour, and the first images are grey"):
        from_samples("mine", late, [(grey, 0)])


def test_labels_of_two_datasets_are_matched_by_the_names_of_their_classes() -> None:
    train = Pairs(PIXELS, LABELS, classes=["cat", "dog", "cow"])
    data = from_samples("mine", train, Pairs(PIXELS, LABELS, classes=["cow", "cat", "dog"]))
    assert data.classes == ("cat", "dog", "cow")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (LABELS, [2, 0, 1, 2, 0, 1])
    assert "matched by name" in data.notes[0]
    with pytest.raises(DataError, match="data mine, test: 'cats' is not a class of the training"):
        from_samples("mine", train, Pairs(PIXELS, LABELS, classes=["cats", "dog", "cow"]))


def test_a_part_of_a_dataset_has_its_classes() -> None:
    torch = pytest.importorskip("torch")
    whole = Pairs(PIXELS, LABELS, classes=["cat", "dog", "cow"])
    part = torch.utils.data.Subset(torch.utils.data.Subset(whole, [0, 1, 3, 4]), [1, 2])
    other = Pairs(PIXELS, LABELS, classes=["cow", "dog", "cat"])
    data = from_samples("mine", part, other)
    assert data.classes == ("cat", "dog", "cow")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 0], [2, 1, 0, 2, 1, 0])


def test_a_dataset_whose_targets_are_not_its_labels_is_refused() -> None:
    with pytest.raises(DataError, match=r"train\[5\]: its label is 2, and 0 in the column or targ"):
        from_samples("mine", Pairs(PIXELS, LABELS, targets=[0] * 6), arrays())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"size": 0}, "data mine: size = 0: must be a whole number from 1 on"),
        ({"size": "8"}, "data mine: size = '8': must be a whole number from 1 on"),
        ({"classes": "abc"}, "data mine: classes = 'abc': must be a list of names"),
        ({"classes": ["a", "b"]}, "data mine, train[2]: label = 2: must be 0 to 1"),
    ],
)
def test_what_is_given_beside_the_datasets_is_checked(given: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError) as error:
        from_samples("mine", arrays(), arrays(), **given)
    assert line in str(error.value)


def test_now_and_then_another_image_is_seen_to_be_random() -> None:
    class Random(Pairs):
        drawn = 0

        def __getitem__(self, place: int) -> Any:
            self.drawn += place == 5
            return np.roll(self._images[place], self.drawn, axis=1), self._labels[place]

    with pytest.raises(DataError, match="data mine, train: gives another image each time; leave"):
        from_samples("mine", Random(PIXELS, LABELS), arrays())


def test_a_dataset_without_a_length_is_one_line() -> None:
    class Endless(Pairs):
        def __len__(self) -> int:
            raise TypeError("no\nend")

    with pytest.raises(DataError, match=r"data mine, train: has no length \(no end\)"):
        from_samples("mine", Endless(PIXELS, LABELS), arrays())


def test_a_dataset_with_random_transforms_is_refused() -> None:
    class Random(Pairs):
        drawn = 0

        def __getitem__(self, place: int) -> Any:
            self.drawn += 1
            return np.roll(self._images[place], self.drawn, axis=1), self._labels[place]

    with pytest.raises(DataError, match="data mine, train: gives another image each time; leave"):
        from_samples("mine", Random(PIXELS, LABELS), arrays())


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (iter([]), "must be a map-style dataset, and list_iterator has no __len__"),
        ([], "data mine, train: holds no images"),
        ([3], "data mine, train[0] = int: must be (image, label), or a table with these"),
        ([{"img": PIXELS[0], "label": 0}], "train[0]: has no 'image'; did you mean 'img'?"),
        ([(PIXELS[0].astype(np.float32), 0)], "image = float32 [8, 8, 3]: must be uint8; leave"),
        ([(np.zeros((8, 8, 2), np.uint8), 0)], "image = [8, 8, 2]: must be [H, W] or [H, W, C]"),
        ([(np.zeros((8, 9, 3), np.uint8), 0)], "the first image has 9 x 8 pixels; give size"),
        (
            [(PIXELS[0], 0), (PIXELS[1][:5], 1), (PIXELS[2], 2)],
            "train[1] = 8 x 5 pixels: the first image to train on has 8 x 8; give size",
        ),
        ([(PIXELS[0], -1)], "data mine, train[0]: label = -1: must be 0..999999; leave out what"),
        ([(PIXELS[0], 10**30)], "data mine, train[0]: label = 10000"),
        ([(PIXELS[0], 10**9)], "data mine, train[0]: label = 1000000000: must be 0..999999"),
        ([(PIXELS[0], 0.5)], "data mine, train[0]: label = 0.5: must be a whole number"),
        ([(PIXELS[0], "cat")], "label = cat: must be a whole number; give each name its place in"),
        ([(PIXELS[0], 0), (PIXELS[0], [1])], "train[1]: label = [1]: must be a whole number"),
        ([(Image.new("I;16", (8, 8)), 0)], "train[0]: has mode I;16; convert it to 8 bits"),
        (Pairs(PIXELS, LABELS, targets=[0]), "data mine, train: has 6 samples and 1 labels"),
        (Pairs([PIXELS[0]], [0, 1]), "data mine, train[1]: cannot be read (list index out of"),
    ],
)
def test_what_is_no_dataset_is_one_line(part: Any, line: str) -> None:
    with pytest.raises(DataError) as error:
        from_samples("mine", part, arrays())
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_class_that_nobody_trains_on_is_refused_or_told(part: str) -> None:
    """As of folders and lists: numbers alone are those of the images to train on."""
    few = Pairs(PIXELS[:4], [0, 1, 0, 1])
    more: dict[str, Any] = {"test": arrays(2), part: arrays(3)}
    with pytest.raises(DataError) as caught:
        from_samples("mine", few, **more)
    told = f"data mine, {part}[2]: label = 2: must be 0 to 1, a class's number; where the images"
    assert str(caught.value).startswith(told)
    data = from_samples("mine", few, **more, classes=["a", "b", "c"])
    assert data.classes == ("a", "b", "c") and data.notes[0] == (
        "1 of 3 classes have no training image: c"
    )


def test_a_gap_among_the_numbers_is_told() -> None:
    data = from_samples("mine", Pairs(PIXELS[:2], [0, 2]), arrays(3))
    assert (data.classes, data.notes) == (
        ("0", "1", "2"),
        ("1 of 3 classes have no training image: 1",),
    )
