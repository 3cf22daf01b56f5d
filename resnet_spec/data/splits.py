"""Which part of a dataset is trained on and which is evaluated, where names alone say so."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.errors import DataError

TRAIN = "train"
NAMES = (TRAIN, "test", "validation", "val", "valid", "eval")
"""What a split can be called; docs/data.md says which is taken where several are there."""

EVALUATED = ("val", "validation", "valid", "test", "eval")
"""Of folders and lists, the first of these in this order that is there is evaluated."""


def split_of(name: str) -> str | None:
    """Return the split that a file's `name` begins with, the longest where several fit.

    Capitals do not count: some write `Train`.
    """
    fitting = [split for split in NAMES if name.lower().startswith(split)]
    return max(fitting, key=len) if fitting else None


def others_note(taken: str, others: Sequence[str], place: object) -> tuple[str, ...]:
    """Return a note that `taken` is evaluated on, and that it could have been another."""
    if not others:
        return ()
    rest = ", ".join(others)
    are = "are" if len(others) > 1 else "is"
    return (
        f"evaluation is on {taken}; {rest} {are} there, too (write {place}@{others[0]} for that)",
    )


def no_such_split(place: object, asked: str, known: Sequence[str]) -> DataError:
    """Return the error of a split that was asked for and is not there."""
    has = ", ".join(known) or "none"
    return DataError(f"{place}@{asked}: has no split '{asked}'; it has {has}")
