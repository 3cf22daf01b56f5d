"""Which part of a dataset is trained on and which is evaluated, where names alone say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from resnet_spec.errors import DataError

TRAIN, TEST = "train", "test"
VALIDATION = ("val", "validation", "valid")
"""Which of them are for validation where `TEST` is there, too; alone they are what is tested on."""
NAMES = (TRAIN, TEST, "validation", "val", "valid", "eval")
"""What a split can be called; docs/data.md says which is taken where several are there."""

EVALUATED = (*VALIDATION, TEST, "eval")
"""Of folders and lists, the first of these in this order that is there is evaluated."""


class Parts(NamedTuple):
    """Which split is the test part, and which is for validation; None: none is."""

    test: str
    validation: str | None = None


def split_of(name: str) -> str | None:
    """Return the split that a file's `name` begins with, the longest where several fit.

    Capitals do not count: some write `Train`.
    """
    fitting = [split for split in NAMES if name.lower().startswith(split)]
    return max(fitting, key=len) if fitting else None


def parts_of(names: Sequence[str], *, trains: bool) -> Parts:
    """Return what the splits `names` are for, the first of which is preferred.

    trains: whether there is a part to train on; without one nothing is to be validated.
    """
    validation = [name for name in names if name in VALIDATION]
    if trains and validation and TEST in names:
        return Parts(TEST, validation[0])
    return Parts(names[0])


def parts_note(
    parts: Parts, names: Sequence[str], told: Callable[[str], str], place: object
) -> tuple[str, ...]:
    """Return a note on what each of the splits `names` is used for; () where there is one.

    told: what a split is called where it lies. place: of the data, to write another choice.
    """
    rest = [name for name in names if name not in parts]
    are = f"; {', '.join(rest)} {'are' if len(rest) > 1 else 'is'} there, too" if rest else ""
    if parts.validation is not None:
        ways = " or ".join(f"{place}@{name}" for name in (parts.test, parts.validation, *rest))
        both = (
            f"{told(parts.validation)} is the validation part, and {told(parts.test)} the test part"
        )
        return (f"{both}{are} (write {ways} for one of them alone)",)
    if not rest:
        return ()
    return (f"evaluation is on {told(parts.test)}{are} (write {place}@{rest[0]} for that)",)


def no_such_split(place: object, asked: str, known: Sequence[str]) -> DataError:
    """Return the error of a split that was asked for and is not there."""
    has = ", ".join(known) or "none"
    return DataError(f"{place}@{asked}: has no split '{asked}'; it has {has}")
