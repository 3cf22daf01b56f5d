"""The safetensors format: eight bytes of length, a JSON header, and the tensors' bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from resnet_spec.contract import Array
from resnet_spec.errors import CheckpointError
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.arrays import STORED, array, element_of
from resnet_spec.weights.files.mindspore_ckpt import is_no_weight
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.tree import Tensor, as_dict, as_integers

_ELEMENTS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_LARGEST_HEADER = 100_000_000


def is_safetensors(source: Source) -> bool:
    """Whether the file begins as the format does."""
    size = _header_size(source)
    return 2 <= size <= len(source.data) - 8 and bytes(source.data[8:9]) == b"{"


def read_safetensors(source: Source) -> object:
    """Return {name: tensor}; the tensors are views of the map, the metadata is not kept."""
    header = _header(source)
    tensors = _tensors(source, header)
    if _text(header, "format") == "ms":  # MindSpore keeps its optimiser among the weights.
        return {n: Opaque("slot") if is_no_weight(n) else leaf for n, leaf in tensors.items()}
    return tensors


def _tensors(source: Source, header: dict[str, Any]) -> dict[str, Tensor]:
    body = source.data[8 + _header_size(source) :]
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    tensors = {name: _tensor(name, entry, body, source) for name, entry in entries.items()}
    _check_places(entries, len(body), source)
    return tensors


def _check_places(entries: Mapping[str, Any], size: int, source: Source) -> None:
    """Refuse tensors that overlap, and bytes that are of none: the format has neither."""
    places = sorted((*_pair(entry["data_offsets"]), name) for name, entry in entries.items())
    at = 0
    for begin, end, name in places:
        if begin != at:
            fault = "leaves a gap before" if begin > at else "has another tensor in the bytes of"
            raise source.refused(f"{fault} {shown(name)}", "the file is damaged; get it again")
        at = end
    if entries and at != size:
        raise source.refused(
            f"goes on for {size - at} bytes behind its tensors", "the file is damaged; get it again"
        )


def safetensors_metadata(path: Path, key: str) -> str | None:
    """Return the metadata's text under `key`; None without it, or for a file of another kind."""
    try:
        source = Source(path)
        return _text(_header(source), key) if is_safetensors(source) else None
    except CheckpointError:
        return None


def _text(header: dict[str, Any], key: str) -> str | None:
    text = (as_dict(header.get("__metadata__")) or {}).get(key)
    return text if isinstance(text, str) else None


def mapped_safetensors(path: Path, key: str) -> tuple[str | None, dict[str, Array]]:
    """Return the metadata's text under `key`, and all arrays as private views of a map of the file.

    Without the key it is None, and no array is looked at. Raises CheckpointError for a file that
    cannot be read or has a damaged header.
    """
    source = Source(path)
    if not is_safetensors(source):
        raise source.refused("is not a sound safetensors file", "get it again")
    header = _header(source)
    text = _text(header, key)
    if text is None:
        return None, {}
    return text, {name: leaf.load() for name, leaf in _tensors(source, header).items()}


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write the tensors. Other libraries ask for the metadata's `format`; it says "pt"."""
    from safetensors import numpy as safetensors

    known = tuple(_ELEMENTS.values())
    for name, value in tensors.items():
        element_of(value, known, name, ".safetensors")
    cast(Any, safetensors).save_file(dict(tensors), path, metadata={"format": "pt"})


def _header_size(source: Source) -> int:
    return int.from_bytes(source.data[:8], "little")


def _header(source: Source) -> dict[str, Any]:
    size = _header_size(source)
    damaged = source.refused("has a damaged safetensors header", "get it again")
    if size > _LARGEST_HEADER:
        raise damaged

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name twice")
        return found

    try:
        header: object = json.loads(bytes(source.data[8 : 8 + size]), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(header, dict):
        raise damaged
    return cast("dict[str, Any]", header)


def _tensor(name: str, entry: object, body: memoryview, source: Source) -> Tensor:
    described = as_dict(entry) or {}
    dtype, shape = described.get("dtype"), as_integers(described.get("shape"))
    begin, end = _pair(described.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or not 0 <= begin <= end:
        raise source.refused(f"describes {shown(name)} wrongly", "get it again")
    if end > len(body):
        raise source.refused(f"ends before {shown(name)} does", "it is cut short; get it again")
    if dtype not in _ELEMENTS:
        raise source.refused(
            f"{shown(name)} is of the type {shown(dtype)}", "save it as float32 first"
        )
    element = _ELEMENTS[dtype]
    return Tensor(element, partial(array, body[begin:end], element, shape, source, name))


def _pair(value: object) -> tuple[int, int]:
    found = as_integers(value) or ()
    return (found[0], found[1]) if len(found) == 2 else (0, -1)


assert set(_ELEMENTS.values()) == STORED.keys()
