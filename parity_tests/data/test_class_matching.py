"""Classes of data and of a network: matched by name, refused with the difference, or by consent."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec.data.class_matching import match_classes
from resnet_spec.data.dataset import ArraySplit, Dataset
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.imagenet_names import IMAGENET
from resnet_spec.data.imagenet_wnids import WNIDS
from resnet_spec.data.relabelled import relabelled
from resnet_spec.errors import DataError

PETS = ("cat", "dog", "fox")


def order(data: tuple[str, ...], network: tuple[str, ...], ignore: bool = False) -> tuple[int, ...]:
    return match_classes(data, network, count=len(network), ignore=ignore).order


def refusal(data: tuple[str, ...], network: tuple[str, ...], count: int = 0) -> str:
    with pytest.raises(DataError) as caught:
        match_classes(data, network, count=count or len(network), where="--data = d")
    return str(caught.value)


def test_the_same_names_need_no_note() -> None:
    matched = match_classes(PETS, PETS, count=3)
    assert (matched.order, matched.names, matched.notes) == ((0, 1, 2), PETS, ())


def test_another_order_is_mapped_and_said() -> None:
    matched = match_classes(("fox", "cat", "dog"), PETS, count=3)
    assert matched.order == (2, 0, 1)
    assert matched.names == PETS
    assert matched.notes == (
        "the network has the data's classes in another order; they are mapped by name",
    )


def test_some_of_the_networks_classes_are_mapped_and_said() -> None:
    matched = match_classes(("fox", "cat"), PETS, count=3)
    assert matched.order == (2, 0)
    assert matched.notes == (
        "the data has 2 of the network's 3 classes; labels are mapped by name",
    )


def test_other_names_are_refused_with_the_difference() -> None:
    assert refusal(("dog", "tabby"), ("cat", "dog")) == (
        "--data = d: its classes are not the network's: cat, dog -> dog, tabby; give data with the "
        "network's classes, or take labels by position with --ignore-classes"
    )
    many = tuple(f"class {i}" for i in range(20))
    assert "classes class 3 -> new;" in refusal((*many[:3], *many[4:], "new"), many)


def test_more_classes_than_the_network_has_are_refused_with_or_without_consent() -> None:
    said = refusal((*PETS, "owl"), PETS)
    assert said == (
        "--data = d: has 4 classes, and the network was made for 3; owl: not among the network's"
    )
    with pytest.raises(DataError, match="has 4 classes"):
        match_classes((*PETS, "owl"), PETS, count=3, ignore=True)


def test_fewer_classes_are_refused_where_one_is_not_the_networks() -> None:
    assert "has 2 classes, and the network was made for 3; owl: not" in refusal(
        ("cat", "owl"), PETS
    )
    assert "has 2 classes, and the network was made for 3" in refusal(("cat", "dog"), (), 3)


def test_with_consent_labels_are_taken_by_position_and_that_is_said() -> None:
    matched = match_classes(("dog", "tabby"), ("cat", "dog"), count=2, ignore=True)
    assert (matched.order, matched.names) == ((0, 1), ("cat", "dog"))
    assert matched.notes == (
        "labels are taken by position, whatever the classes' names (--ignore-classes): "
        "cat, dog -> dog, tabby",
    )
    assert order(("dog", "cat"), ("cat", "dog"), ignore=True) == (0, 1)
    assert match_classes(PETS, PETS, count=3, ignore=True).notes == ()
    assert match_classes(("a", "b"), (), count=3, ignore=True).names == ("a", "b", "2")


def test_a_network_that_names_no_classes_is_matched_by_position_and_that_is_said() -> None:
    matched = match_classes(PETS, (), count=3)
    assert (matched.order, matched.names) == ((0, 1, 2), PETS)
    assert matched.notes == ("the weights do not name their classes; labels are taken by position",)


def test_numbers_on_one_side_are_no_names() -> None:
    matched = match_classes(("0", "1", "2"), PETS, count=3)
    assert (matched.order, matched.names) == ((0, 1, 2), PETS)
    assert "the data numbers its classes" in matched.notes[0]
    matched = match_classes(PETS, ("0", "1", "2"), count=3)
    assert (matched.order, matched.names) == ((0, 1, 2), PETS)
    assert "the weights number their classes" in matched.notes[0]
    assert "the network was made for 3" in refusal(("0", "1"), PETS)


def test_numbers_in_the_order_of_text_keep_their_meaning() -> None:
    text = tuple(sorted(str(i) for i in range(12)))
    real = tuple("abcdefghijkl")
    assert text[2] == "10"
    assert order(text, tuple(str(i) for i in range(12)))[2] == 10
    assert order(text, real)[2] == 10
    matched = match_classes(real, text, count=12)
    assert matched.order[10] == 2 and matched.names[2] == "k"
    assert order(("00", "02", "01"), ("0", "1", "2")) == (0, 2, 1)


@pytest.mark.parametrize("name", ["egyptian_cat", "EGYPTIAN-CAT", " Egyptian  cat "])
def test_other_ways_to_write_a_name_are_the_name_and_that_is_said(name: str) -> None:
    matched = match_classes(("dog", name), ("Egyptian cat", "dog"), count=2)
    assert matched.order == (1, 0)
    assert f"{name} is taken for Egyptian cat" in matched.notes[0]


def test_accents_are_the_same_however_the_file_system_stores_them() -> None:
    assert order(("caf\u00e9", "bar"), ("bar", "cafe\u0301")) == (1, 0)


def test_names_that_differ_in_case_alone_are_two_classes() -> None:
    assert order(("cardigan", "Cardigan"), ("Cardigan", "cardigan")) == (1, 0)
    assert "Cardigan, cardigan -> CARDIGAN, dog" in refusal(
        ("CARDIGAN", "dog"), ("Cardigan", "cardigan")
    )


def test_a_name_twice_is_no_name() -> None:
    assert "its classes are not" in refusal(("cat", "cat"), ("cat", "dog"))
    assert match_classes(("cat", "cat"), ("cat", "cat"), count=2).notes == ()


def test_wordnet_identifiers_are_imagenets_classes() -> None:
    assert len(set(WNIDS)) == 1000 and list(WNIDS) == sorted(WNIDS)
    matched = match_classes(WNIDS, IMAGENET, count=1000)
    assert matched.order == tuple(range(1000)) and len(matched.notes) == 1
    assert order(WNIDS[::-1], IMAGENET) == tuple(range(999, -1, -1))
    # Ten well-known ones: tench, English springer, cassette player, chain saw, church, ...
    ten = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079")
    assert order(ten, IMAGENET) == (0, 217, 482, 491, 497)
    assert order(("tench", "church"), WNIDS) == (0, 497)
    assert "made for 1000" in refusal((*ten, "n99999999"), IMAGENET)


def test_synsets_are_imagenets_classes() -> None:
    synsets = tuple(f"{name.split(' (')[0]}, and more" for name in IMAGENET)
    assert order(synsets, IMAGENET) == tuple(range(1000))
    assert order(WNIDS, synsets) == tuple(range(1000))
    assert order(("goldfish, Carassius auratus", "tench, Tinca tinca"), IMAGENET) == (1, 0)


def test_a_dataset_is_given_the_networks_labels() -> None:
    pixels = np.arange(4 * 3, dtype=np.uint8).reshape(4, 1, 1, 3)
    split = ArraySplit(pixels, np.array([0, 1, -1, 1]), 1)
    half = ((0.5,) * 3,) * 2
    data = Dataset("pets", ("fox", "cat"), 1, 3, *half, train=split, test=split)
    found = relabelled(data, match_classes(data.classes, PETS, count=3))
    assert found.classes == PETS
    assert found.test.labels.tolist() == [2, 0, -1, 0]
    assert found.test.images(np.array([1])).tolist() == split.images(np.array([1])).tolist()
    assert found.train.boxes(np.array([0]), np.zeros((1, 4))).shape == (1, 1, 1, 3)
    prints = [Fingerprint.of(it).splits["test"] for it in (data, found)]
    assert prints[0].digest != prints[1].digest and prints[1].histogram == (2, 0, 1)


def test_digits_are_names_and_other_numbers_are_not() -> None:
    numbers, clothes = tuple("012"), ("shirt", "coat", "bag")

    def notes(data: tuple[str, ...], network: tuple[str, ...], *of: str) -> tuple[str, ...]:
        return match_classes(data, network, count=3, datasets=(of[0], of[1])).notes

    assert notes(numbers, numbers, "mnist", "digits") == ()
    assert notes(numbers, numbers, "shards", "shards") == ()
    assert "taken by number" in notes(numbers, numbers, "shards", "mnist")[0]
    assert "the data numbers" in notes(numbers, clothes, "shards", "fashion_mnist")[0]
    for data, network in ((numbers, clothes), (clothes, numbers)):
        with pytest.raises(DataError, match="its classes are not the network's"):
            notes(data, network, "mnist", "mnist")


@pytest.mark.parametrize("names", [("-1", "0"), ("-0", "-1"), ("9" * 5000, "0")])
def test_numbers_that_do_not_count_classes_are_names(names: tuple[str, ...]) -> None:
    for data, network in ((names, ("cat", "dog")), (("cat", "dog"), names)):
        with pytest.raises(DataError, match="its classes are not the network's"):
            match_classes(data, network, count=2)


def test_a_minus_is_no_sign_to_leave_out() -> None:
    with pytest.raises(DataError, match="not the network's"):
        match_classes(("-1", "2"), ("1", "2"), count=2)
    assert match_classes(("1", "-01"), ("-1", "1"), count=2).order == (1, 0)


def test_numbers_in_other_writing_count_classes() -> None:
    assert match_classes(("_1", "_0"), ("cat", "dog"), count=2).order == (1, 0)
    assert match_classes(("cat", "dog"), ("_1", "_0"), count=2).order == (1, 0)
