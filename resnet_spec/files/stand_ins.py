"""What a reader of a stranger's file puts where the file asks for an object of a class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object of a class that is not known here; kept as its name, never made or called."""

    name: str


@dataclass(slots=True, eq=False)
class Built:
    """An object that a pickle fills in after it has been put in its place."""

    name: str
    value: object = None
