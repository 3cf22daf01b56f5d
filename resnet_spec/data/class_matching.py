"""Which class of a network each class of a dataset is: by name, never by count alone.

What is assumed on the way is a note; what cannot be told is refused, unless a person takes the
labels by position.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resnet_spec.data.fingerprint import class_change
from resnet_spec.data.imagenet_names import imagenet_names
from resnet_spec.errors import DataError

IGNORE = "--ignore-classes"
"""The option that takes labels by position, whatever the names."""

Names = tuple[str, ...]
_OF_DIGITS = ("digits", "mnist")
"""Datasets whose numbers are the names of their classes."""
_FEW = 8


@dataclass(frozen=True)
class Matched:
    """The classes of a dataset among a network's.

    order: the network's class of each of the dataset's. names: of the network's classes. notes:
    what was assumed, one line each.
    """

    order: tuple[int, ...]
    names: Names
    notes: Names = ()

    @property
    def is_identity(self) -> bool:
        """Whether every label is the network's class as it stands."""
        return self.order == tuple(range(len(self.order)))


def match_classes(
    data: Sequence[str],
    network: Sequence[str],
    *,
    count: int,
    where: str = "data",
    ignore: bool = False,
    datasets: tuple[str, str] = ("", ""),
) -> Matched:
    """Return which class of a network of `count` classes each class of a dataset is.

    data, network: the names, in the order of labels and of logits; () for a network that does not
        say. A dataset may have fewer classes than the network, by name.
    where: how the data was named, for errors. ignore: take labels by position, whatever the names.
    datasets: the names of the dataset, and of the one that the network was trained on.

    Raises DataError, with the difference, where the names are not the network's.
    """
    ours, theirs = tuple(data), tuple(network)
    theirs = theirs if len(theirs) == count else ()
    if len(ours) > count or (len(ours) < count and not theirs and not ignore):
        raise DataError(f"{where}: {_counts(ours, count)}{_new(ours, theirs)}")
    if ours == theirs:
        return Matched(tuple(range(count)), theirs, _of_equal(ours, datasets))
    if ignore:
        return _by_position(ours, theirs, count)
    if not theirs:
        note = "the weights do not name their classes; labels are taken by position"
        return Matched(tuple(range(count)), ours, (note,))
    is_bare = [_is_bare(names, of) for names, of in zip((ours, theirs), datasets, strict=True)]
    if len(ours) == count and any(is_bare) and is_numbered(ours) != is_numbered(theirs):
        return _numbered(ours, theirs)
    return _by_name(ours, theirs, where)


def is_numbered(names: Sequence[str]) -> bool:
    """Whether the names are the numbers 0, 1, ... in any order, and so say nothing."""
    keys = [_key(name) for name in names]
    return sorted(keys) == sorted(str(i) for i in range(len(names)))


def _is_bare(names: Names, dataset: str) -> bool:
    """Whether the numbers of a dataset stand for names that nobody gave."""
    return is_numbered(names) and dataset not in _OF_DIGITS


def _of_equal(names: Names, datasets: tuple[str, str]) -> Names:
    """Return a note where equal numbers of different datasets may mean different classes."""
    if datasets[0] == datasets[1] or not any(_is_bare(names, of) for of in datasets):
        return ()
    note = "data and weights number their classes and do not name them; labels are taken by number"
    return (note,)


def _counts(ours: Names, count: int) -> str:
    return f"has {len(ours)} classes, and the network was made for {count}"


def _new(ours: Names, theirs: Names) -> str:
    """Return in a clause which classes the network has not; "" where its own are not known."""
    new = [name for name in ours if name not in theirs]
    return f"; {_listed(new)}: not among the network's" if theirs and new else ""


def _by_position(ours: Names, theirs: Names, count: int) -> Matched:
    change = "the weights do not name theirs"
    if theirs:
        change = differing(theirs, ours)
    names = theirs or (*ours, *(str(i) for i in range(len(ours), count)))
    note = f"labels are taken by position, whatever the classes' names ({IGNORE}): {change}"
    return Matched(tuple(range(len(ours))), names, (note,))


def _numbered(ours: Names, theirs: Names) -> Matched:
    """Match where one side only numbers its classes: number i is the other's class i."""
    if is_numbered(ours):
        note = "the data numbers its classes and does not name them; number i is taken for the"
        return Matched(tuple(_numbers(ours)), theirs, (f"{note} network's class i",))
    numbers = _numbers(theirs)
    order = tuple(numbers.index(i) for i in range(len(ours)))
    names = tuple(ours[number] for number in numbers)
    note = "the weights number their classes and do not name them; number i is taken for the"
    return Matched(order, names, (f"{note} data's class i",))


def _by_name(ours: Names, theirs: Names, where: str) -> Matched:
    notes: list[str] = []
    found = _places(ours, theirs)
    if found is None and (imagenet_names(ours) or imagenet_names(theirs)):
        notes.append("class names are ImageNet's: WordNet identifiers and synsets are one to it")
        found = _places(imagenet_names(ours) or ours, imagenet_names(theirs) or theirs)
    if found is None:
        raise DataError(f"{where}: {_difference(ours, theirs)}; {_REMEDY}")
    if found.alike:
        at = found.alike[0]
        pair = f"{ours[at]} is taken for {theirs[found.order[at]]}"
        more = f", and {len(found.alike) - 1} more so" if len(found.alike) > 1 else ""
        notes.append(f"class names are compared without case, spaces and signs: {pair}{more}")
    if len(ours) < len(theirs):
        share = f"{len(ours)} of the network's {len(theirs)} classes"
        notes.append(f"the data has {share}; labels are mapped by name")
    elif list(found.order) != sorted(found.order):
        notes.append("the network has the data's classes in another order; they are mapped by name")
    return Matched(found.order, theirs, tuple(notes))


_REMEDY = f"give data with the network's classes, or take labels by position with {IGNORE}"


class _Places(NamedTuple):
    """The network's class of each name; alike: which names are only nearly the network's."""

    order: tuple[int, ...]
    alike: tuple[int, ...]


def _places(ours: Names, theirs: Names) -> _Places | None:
    """Return where the network has each name; None where it lacks one, or two are one to it."""
    exact, near = _unique(theirs), _unique([_key(name) for name in theirs])
    found = [exact.get(name, near.get(_key(name))) for name in ours]
    order = tuple(place for place in found if place is not None)
    if len(set(order)) != len(ours):
        return None
    return _Places(order, tuple(i for i, name in enumerate(ours) if name not in exact))


def _unique(names: Sequence[str]) -> dict[str, int]:
    """Return the places of the names that are there once."""
    counts = Counter(names)
    return {name: i for i, name in enumerate(names) if counts[name] == 1}


def _key(name: str) -> str:
    """Return what a name has in common with other ways to write it; 007 is 7, and -7 is not."""
    text = unicodedata.normalize("NFC", name).casefold().strip()
    if not _INTEGER.fullmatch(text):
        text = " ".join(text.replace("_", " ").replace("-", " ").split())
    return str(int(text)) if _INTEGER.fullmatch(text) else text


_INTEGER = re.compile(r"-?[0-9]{1,18}")


def _numbers(names: Names) -> list[int]:
    """Return the numbers that names are; see `is_numbered`."""
    return [int(_key(name)) for name in names]


def _difference(ours: Names, theirs: Names) -> str:
    if len(ours) < len(theirs):
        return _counts(ours, len(theirs)) + _new(ours, theirs)
    return f"its classes are not the network's: {differing(theirs, ours)}"


def differing(before: Names, now: Names) -> str:
    """Return how two tuples of names differ: both in full where they are short."""
    if len(before) <= _FEW and len(now) <= _FEW:
        return f"{', '.join(before)} -> {', '.join(now)}"
    return class_change(before, now)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
