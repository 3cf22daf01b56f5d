"""What a reader makes of a file before any array is loaded: a tree with tensors at its leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resnet_spec.contract import Array


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that stands in a file. element: its type there (see `arrays.STORED`)."""

    element: str
    load: Callable[[], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object of a class that is not known here; kept as its name, never made or called."""

    name: str


@dataclass(slots=True, eq=False)
class Built:
    """An object that a pickle fills in after it has been put in its place."""

    name: str
    value: object = None
