"""Flax's msgpack files: nested maps with arrays as extension type 1, large ones in chunks.

The format is that of `flax.serialization.to_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.arrays import STORED, array, count, element_of, raw_bytes
from resnet_spec.weights.files.source import Source, needed, shown
from resnet_spec.weights.files.tree import Tensor, check_nested

_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
_CHUNK = 1 << 30
_MOST_ITEMS = 4096
_DEEPEST = 64


def is_msgpack(source: Source) -> bool:
    """Whether the file begins with a map that is not empty."""
    first = source.data[0]
    return 0x81 <= first <= 0x8F or first in (0xDE, 0xDF)


def read_msgpack(source: Source) -> object:
    """Return the tree. Every array is copied once, out of the map."""
    msgpack = needed("msgpack", source.path)
    try:
        tree: object = msgpack.unpackb(
            source.data,
            raw=False,
            strict_map_key=False,
            ext_hook=partial(_extension, source, msgpack),
            object_pairs_hook=_once,
            # The unpacker reserves the memory of a list before it sees the items.
            max_array_len=_MOST_ITEMS,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        raise source.refused("is truncated or damaged", "get it again") from None
    return _joined(tree, "", source, 0)


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def write_msgpack(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write the tensors as nested maps: a name is split at its dots."""
    msgpack = needed("msgpack", path)
    check_nested(tensors, path)
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        element = element_of(value, tuple(STORED), name, ".msgpack")
        *outer, last = name.split(".")
        node = tree
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = _packed(value, element, msgpack)
    with path.open("wb") as file:
        file.write(msgpack.packb(tree, use_bin_type=True))


def _packed(value: Array, element: str, msgpack: Any) -> object:
    if value.nbytes <= _CHUNK:
        return _extended(value, value.shape, element, msgpack)
    step = _CHUNK // value.itemsize
    flat = value.reshape(-1)
    parts = [flat[start : start + step] for start in range(0, flat.size, step)]
    return {
        _CHUNKED: True,
        "shape": {str(axis): size for axis, size in enumerate(value.shape)},
        "chunks": {
            str(number): _extended(part, part.shape, element, msgpack)
            for number, part in enumerate(parts)
        },
    }


def _extended(value: Array, shape: tuple[int, ...], element: str, msgpack: Any) -> object:
    content = msgpack.packb((shape, element, bytes(raw_bytes(value))), use_bin_type=True)
    return msgpack.ExtType(_NDARRAY, content)


def _extension(source: Source, msgpack: Any, code: int, data: bytes) -> object:
    if code not in (_NDARRAY, _SCALAR):
        return Opaque("complex" if code == _COMPLEX else "extension")
    shape, element, raw = _described(msgpack, data)
    element = "bfloat16" if element == "V2" else element  # As flax.serialization reads it.
    if element not in STORED:
        return Opaque(f"numpy.ndarray of {shown(element)}")
    source.budget.take(len(raw))
    # A copy that may be written to; the message's own bytes are then given free.
    found = array(memoryview(bytearray(raw)), element, shape, source, "an array")
    return Tensor(element, lambda: found)


def _described(msgpack: Any, data: bytes) -> tuple[list[int], str, memoryview]:
    """Return shape, element type and bytes of an array, which stay where they are."""
    unpacker = msgpack.Unpacker(raw=False, max_array_len=64, max_buffer_size=512)
    unpacker.feed(data[:512])
    if unpacker.read_array_header() != 3:
        raise ValueError
    shape, element = unpacker.unpack(), unpacker.unpack()
    if not isinstance(shape, list) or not isinstance(element, str):
        raise ValueError
    sizes = cast("list[Any]", shape)
    at = cast(int, unpacker.tell())
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(data[at]) if at < len(data) else None
    if width is None or not all(type(size) is int for size in sizes):
        raise ValueError
    size = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    raw = memoryview(data)[at + 1 + width :]
    if len(raw) != size:
        raise ValueError
    return sizes, element, raw


def _joined(node: object, name: str, source: Source, depth: int) -> object:
    """Return the tree with its chunked arrays put together."""
    if not isinstance(node, dict):
        return node
    tree = cast("dict[object, object]", node)
    if depth > _DEEPEST:
        raise source.refused("is nested too deeply for weights", "get it again")
    if _CHUNKED in tree:
        return _chunked(tree, name, source)
    return {key: _joined(value, str(key), source, depth + 1) for key, value in tree.items()}


def _chunked(tree: dict[object, object], name: str, source: Source) -> Tensor:
    damaged = source.refused(f"{shown(name)} stands in damaged chunks", "get it again")
    sizes, chunks = (_in_order(tree.get(key), damaged) for key in ("shape", "chunks"))
    if not chunks or not all(isinstance(chunk, Tensor) for chunk in chunks):
        raise damaged
    if not all(type(size) is int for size in sizes):
        raise damaged
    shape = cast("list[int]", sizes)
    parts = cast("list[Tensor]", chunks)

    def load() -> Array:
        arrays = [part.load() for part in parts]
        if sum(part.size for part in arrays) != count(shape, source, name):
            raise damaged
        source.budget.take(sum(part.nbytes for part in arrays))
        return np.concatenate([part.reshape(-1) for part in arrays]).reshape(shape)

    return Tensor(parts[0].element, load)


def _in_order(value: object, damaged: Exception) -> list[object]:
    """Return the values of {"0": ..., "1": ...}."""
    if not isinstance(value, dict):
        raise damaged
    found = cast("dict[object, object]", value)
    if [str(key) for key in found] != [str(number) for number in range(len(found))]:
        raise damaged
    return list(found.values())
