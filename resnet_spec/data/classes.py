"""The order of class names, which is one however they are stored, and labels mapped by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import DataError, did_you_mean, problem

Labels = NDArray[np.int64]
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_FEW = 5


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in their order: by number where all are integers, else by their characters."""
    plain = sorted(names)
    return tuple(sorted(plain, key=int) if _are_numbers(plain) else plain)


def checked_classes(classes: Any, where: str) -> tuple[str, ...]:
    """Return names of classes as a person gave them; a text is no list of letters here."""
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise DataError(problem(f"{where}: classes", repr(classes), "must be a list of names"))
    return tuple(str(name) for name in cast("Iterable[object]", classes))


def order_notes(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note where `names`, which are in their order, stand in another one as text."""
    if list(names) == sorted(names):
        return ()
    return (
        f"classes have numbers for names and are in the order of these ({few(names)}), not as text "
        f"({few(sorted(names))}), which is torchvision's order",
    )


def few(names: Sequence[str], most: int = _FEW) -> str:
    """Return the first names with commas, and how many more there are."""
    text = ", ".join(names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def check_unique(names: Sequence[str], where: str) -> None:
    """Raise DataError where two classes have one name: they could not be told apart."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: names the class {name!r} twice; give each its own name")
        seen.add(name)


def places_in(names: Sequence[str], known: Sequence[str], where: str, of: str) -> Labels:
    """Return the label in `known` of each of `names`, which are those of `where`.

    of: whose the known ones are. Raises DataError for a name that is not known.
    """
    places = {name: place for place, name in enumerate(known)}
    for name in names:
        if name not in places:
            hint = did_you_mean(name, known) or f"it has {few(known)}"
            raise DataError(f"{where}: {name!r} is not a class of {of}; {hint}")
    return np.array([places[name] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Ordered:
    """Class names in their order, and the label that each label as it was stored becomes."""

    names: tuple[str, ...]
    places: Labels
    notes: tuple[str, ...]

    @classmethod
    def of(cls, stored: Sequence[str]) -> Ordered:
        """Return names as a file numbers them; where all are integers, in numeric order."""
        names = sorted_names(stored) if _are_numbers(stored) else tuple(stored)
        places = places_in(stored, names, "classes", "themselves")
        notes = (
            f"classes have numbers for names and are in the order of these ({few(names)}), not in "
            f"the file's ({few(stored)})",
        )
        return cls(names, places, () if names == tuple(stored) else notes)


NO_LABELS: Labels = np.empty(0, np.int64)


def absent_notes(
    classes: Sequence[str], train: Labels, test: Labels, validation: Labels = NO_LABELS
) -> tuple[str, ...]:
    """Return a note for each split that has images, and of some classes none; and on one class."""
    notes = [f"all images are of one class, {classes[0]}"] if len(classes) == 1 else []
    for name, labels in (("training", train), ("validation", validation), ("test", test)):
        counts = np.bincount(labels, minlength=len(classes))
        pairs = zip(classes, counts.tolist(), strict=True)
        absent = [name for name, count in pairs if not count]
        if len(labels) and absent:
            what = f"{len(absent)} of {len(classes)} classes"
            notes.append(f"{what} have no {name} image: {few(absent)}")
    return tuple(notes)


def _are_numbers(names: Sequence[str]) -> bool:
    return bool(names) and all(_INTEGER.fullmatch(name) for name in names)
