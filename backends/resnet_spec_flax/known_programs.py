"""A session's programs, by the structure of the modules and by what else is closed over.

A program has in it, as constants, whatever a module holds that is neither parameter nor statistic:
random streams, and arrays of layers that a user has put in. Once they have changed it is another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

import jax
import numpy as np

T = TypeVar("T")


class KnownPrograms(Generic[T]):
    """The last program of each structure.

    graphdef: of modules, as `nnx.split` gives it. others: a tree of what else they hold.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[list[Any], T]] = {}

    def __iter__(self) -> Iterator[T]:
        return (program for _, program in self._known.values())

    def of(self, graphdef: Hashable, others: Any) -> T | None:
        """Return the program of these; None where there is none."""
        held, program = self._known.get(graphdef, (None, None))
        return program if held is not None and _are_same(held, jax.tree.leaves(others)) else None

    def keep(self, graphdef: Hashable, others: Any, program: T) -> T:
        """Keep the program of these, and return it."""
        # What is on the host a user can change in place.
        held = [_copied(leaf) for leaf in jax.tree.leaves(others)]
        self._known[graphdef] = held, program
        return program


def _copied(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.array(leaf)


def _are_same(held: list[Any], found: list[Any]) -> bool:
    return len(held) == len(found) and all(map(_is_same, held, found))


def _is_same(held: Any, found: Any) -> bool:
    if isinstance(held, jax.Array) or isinstance(found, jax.Array):
        return held is found
    one, other = np.asarray(held), np.asarray(found)
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )
