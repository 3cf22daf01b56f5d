"""From the bytes of a file to arrays: views where possible, and never more than the file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array
from resnet_spec.errors import CheckpointError
from resnet_spec.weights.files.source import Origin, shown

STORED: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(code)
    for name, code in {
        "float64": "<f8",
        "float32": "<f4",
        "float16": "<f2",
        "bfloat16": "<u2",  # Without a type of its own in NumPy; widened by `settled`.
        "int64": "<i8",
        "int32": "<i4",
        "int16": "<i2",
        "int8": "i1",
        "uint64": "<u8",
        "uint32": "<u4",
        "uint16": "<u2",
        "uint8": "u1",
        "bool": "?",
    }.items()
}
"""Element type -> how it stands in a file. All formats that are read here are little-endian."""

HALVES = frozenset({"float16", "bfloat16"})
_MOST_AXES = 32


def count(shape: Sequence[int], source: Origin, name: str) -> int:
    """Return how many elements `shape` has. Raises CheckpointError for an impossible shape."""
    if len(shape) > _MOST_AXES or any(n < 0 for n in shape) or max(shape, default=0) >= 2**48:
        text = shown(str(list(shape[:8])))
        raise source.refused(f"{shown(name)} has the impossible shape {text}", "get it again")
    return math.prod(shape)


def array(raw: memoryview, element: str, shape: Sequence[int], source: Origin, name: str) -> Array:
    """Return the row-major array of `element`s and `shape` that fills `raw` exactly."""
    size = count(shape, source, name) * STORED[element].itemsize
    if size != len(raw):
        text = shown(str(list(shape)))
        raise source.refused(
            f"{shown(name)} has {len(raw)} bytes where its shape {text} takes {size}",
            "the file is damaged; get it again",
        )
    return settled(elements(raw, element).reshape(tuple(shape)), element, source)


def elements(raw: memoryview, element: str) -> Array:
    """Return a flat view of `raw`, as it is stored."""
    dtype = STORED[element]
    return np.frombuffer(raw, dtype=dtype) if len(raw) else np.empty(0, dtype)


def settled(view: Array, element: str, source: Origin) -> Array:
    """Return `view` C-contiguous and native, half precision widened to float32.

    A view that is all that already is returned as it is; anything else is copied once. Formats that
    do not align their arrays give views that are not: whoever lifts them copies them once.
    """
    if element in HALVES:
        source.budget.take(4 * view.size)
        return _widened(view, element)
    flags = view.flags
    if flags.c_contiguous and flags.writeable and view.dtype.isnative:
        return view
    source.budget.take(view.nbytes)
    return np.array(view, dtype=view.dtype.newbyteorder("="), order="C")


def _widened(view: Array, element: str) -> NDArray[np.float32]:
    if element == "float16":
        return np.array(view, dtype=np.float32, order="C")
    bits = np.empty(view.shape, dtype=np.uint32)
    np.left_shift(view, np.uint32(16), out=bits, dtype=np.uint32)
    return bits.view(np.float32)


def element_of(value: Array, known: Sequence[str], name: str, kind: str) -> str:
    """Return the element type of an array to write, one of `known`. Raises CheckpointError."""
    element = "bool" if value.dtype.kind == "b" else value.dtype.name
    if element not in known:
        raise CheckpointError(
            f"{shown(name)} = {element}: cannot be written to {kind}; convert it to float32"
        )
    return element


def plain(value: Array) -> Array:
    """Return an array C-contiguous and little-endian, as the writers take it; copied if need be."""
    return np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")


def raw_bytes(value: Array) -> memoryview:
    """Return the bytes of a `plain` array."""
    return memoryview(cast(Any, value.reshape(-1).view(np.uint8)))
