"""What the names in a pickle stand for is said by whoever reads it: this is how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class PickleRefused(Exception):
    """The pickle is damaged, or asks for something it does not get; the text says which."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Names(Protocol):
    """What the names in a pickle stand for."""

    def find(self, name: Global) -> object:
        """Return what the mere mention of `name` means, or raise PickleRefused."""
        ...

    def call(self, function: object, arguments: object) -> object:
        """Return what calling `function` means, or raise PickleRefused."""
        ...

    def make(self, kind: object) -> object:
        """Return a stand-in for a new object of the class `kind`, or raise PickleRefused."""
        ...

    def build(self, target: object, state: object) -> None:
        """Give `target` its state; targets that are not known ignore it, or raise PickleRefused."""
        ...

    def persistent(self, key: object) -> object:
        """Return the object outside of the pickle that `key` names, or raise PickleRefused."""
        ...
