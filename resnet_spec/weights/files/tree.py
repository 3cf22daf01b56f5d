"""What a reader makes of a file before any array is loaded: a tree with tensors at its leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from resnet_spec.contract import Array
from resnet_spec.weights.files.source import refused, shown


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that stands in a file. element: its type there (see `arrays.STORED`)."""

    element: str
    load: Callable[[], Array]


def check_nested(names: Iterable[str], path: Path) -> None:
    """Refuse names of which one would have to be a tensor and a node of the tree at once."""
    known = frozenset(names)
    for name in known:
        parts = name.split(".")
        outer = next((o for i in range(1, len(parts)) if (o := ".".join(parts[:i])) in known), None)
        if outer is not None or "" in parts:
            what = f"would have {shown(name)} inside a tensor" if outer else f"has {shown(name)}"
            raise refused(path, what, "rename it")


def as_dict(value: object) -> dict[Any, Any] | None:
    """Return `value` when it is a dict, else None."""
    return cast("dict[Any, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """Return `value` when it is a list, else None."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def as_tuple(value: object) -> tuple[Any, ...] | None:
    """Return `value` when it is a tuple, else None."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else None


def as_integers(value: object) -> tuple[int, ...] | None:
    """Return `value` when it is a list or tuple of integers, else None."""
    items = as_tuple(value)
    items = as_list(value) if items is None else items
    whole = items is not None and all(type(item) is int for item in items)
    return tuple(items) if items is not None and whole else None
