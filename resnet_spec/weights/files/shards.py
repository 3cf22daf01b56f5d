"""Weights in several files, with an index that says which tensor is in which of them.

`model.safetensors.index.json` or `pytorch_model.bin.index.json`, as the hub has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.tree import as_dict

_LARGEST_INDEX = 64 << 20
_MOST_SHARDS = 1000
_Read = Callable[[Path], tuple[str, Source, object]]


def is_index(source: Source) -> bool:
    """Whether the file is an index, by its one field that counts."""
    if bytes(source.data[:64]).lstrip()[:1] != b"{" or len(source.data) > _LARGEST_INDEX:
        return False
    return b'"weight_map"' in bytes(source.data)


def read_shards(index: Source, read: _Read) -> tuple[str, dict[str, object]]:
    """Return the shards' kind and all tensors. read: from a path to kind, file and tree.

    Raises CheckpointError for a shard that is missing, lies elsewhere, or holds other tensors than
    the index says.
    """
    named = _weight_map(index)
    kinds: set[str] = set()
    tensors: dict[str, object] = {}
    files = sorted(set(named.values()))
    for name in files:
        if not (index.path.parent / name).is_file():
            raise index.refused(f"names {shown(name)}, which is not in its folder", "get it, too")
    for name in files:
        kind, _, tree = read(index.path.parent / name)
        kinds.add(kind)
        found = as_dict(tree) or {}
        listed = {tensor for tensor, shard in named.items() if shard == name}
        lacking, more = sorted(listed - found.keys()), [it for it in found if it not in listed]
        if lacking or more:
            first = shown(str((lacking or more)[0]))
            fault = f"lacks {first}" if lacking else f"holds {first}"
            rule = f"{shown(name)} {fault}, and the index says otherwise"
            raise index.refused(rule, "get all of the files again")
        tensors |= found
    if len(kinds) > 1:
        raise index.refused("names files of several kinds", "get all of the files again")
    index.notes.append(f"read from {len(files)} files, as {index.path.name} says")
    return kinds.pop(), tensors


def _weight_map(index: Source) -> dict[str, str]:
    """Return {tensor: file}, the files surely in the folder of the index."""
    damaged = index.refused("is a damaged index of weights", "get it again")
    try:
        fields: object = json.loads(bytes(index.data), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise damaged from None
    named = as_dict((as_dict(fields) or {}).get("weight_map"))
    if not named:
        raise damaged
    for file in named.values():
        if not isinstance(file, str) or not file.isprintable() or len(file) > 255:
            raise damaged
        if not file or Path(file).name != file or "\\" in file or file.endswith(".json"):
            raise index.refused(f"names a file elsewhere, {shown(file)}", "do not use it")
    if len(set(named.values())) > _MOST_SHARDS:
        raise damaged
    return named


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
