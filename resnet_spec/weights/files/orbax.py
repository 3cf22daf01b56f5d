"""Orbax's folders, read and written through tensorstore, which Orbax itself stands on.

`_METADATA` lists the leaves with their paths; each is a zarr array called by its path joined with
dots, all of them in one OCDBT store, or each in a folder of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.arrays import STORED, count, element_of, settled
from resnet_spec.weights.files.source import Origin, needed, shown, unreadable
from resnet_spec.weights.files.tree import Tensor, as_dict, as_list, check_nested

_METADATA = "_METADATA"
ORBAX_FILES = (_METADATA,)
"""What tells a folder of this kind from any other."""
_LARGEST_METADATA = 64 << 20
_MOST_FILES = 100_000
_DICT_KEY = 2


def read_orbax(folder: Path) -> tuple[Origin, object]:
    """Return the folder as an origin, and its tree; nothing is loaded yet."""
    try:
        size = _size(folder)
        listing = folder / _METADATA
        found = listing.is_file()
        text = listing.read_bytes() if found and listing.stat().st_size < _LARGEST_METADATA else b""
    except OSError as error:
        raise unreadable(folder, error) from None
    origin = Origin(folder, size)
    origin.packed(size)
    if not found:
        raise origin.refused(
            "is a folder without Orbax's _METADATA",
            "name a weight file",
        )
    try:
        described: object = json.loads(text)
    except (ValueError, RecursionError):
        described = None
    return origin, _tree(described, origin)


def write_orbax(folder: Path, tensors: Mapping[str, Array]) -> None:
    """Write a folder that Orbax restores as nested dicts: a name is split at its dots."""
    store = needed("tensorstore", folder, "flax")
    check_nested(tensors, folder)
    leaves: dict[str, object] = {}
    for name, value in tensors.items():
        element_of(value, tuple(STORED), name, "Orbax")
        spec = _spec(folder, name, ocdbt=True, zarr3=False)
        options = {"create": True, "dtype": value.dtype.name, "shape": list(value.shape)}
        store.open(spec, **options).result().write(value).result()
        path = name.split(".")
        keys = [{"key": part, "key_type": _DICT_KEY} for part in path]
        kind = {"value_type": "np.ndarray", "skip_deserialize": False}
        leaves[str(tuple(path))] = {"key_metadata": keys, "value_metadata": kind}
    metadata = {"tree_metadata": leaves, "use_ocdbt": True, "use_zarr3": False}
    (folder / _METADATA).write_text(json.dumps(metadata), encoding="utf-8")


def _size(folder: Path) -> int:
    """Return the bytes of all files below `folder`; links are not followed."""
    total = 0
    for number, (place, _, names) in enumerate(os.walk(folder)):
        if number + len(names) > _MOST_FILES:
            break
        total += sum((Path(place) / name).lstat().st_size for name in names)
    return total


def _tree(described: object, origin: Origin) -> object:
    damaged = origin.refused("has a damaged _METADATA", "get it again")
    flags = as_dict(described) or {}
    leaves = as_dict(flags.get("tree_metadata"))
    if leaves is None:
        raise damaged
    ocdbt, zarr3 = (bool(flags.get(key, False)) for key in ("use_ocdbt", "use_zarr3"))
    tree: dict[object, object] = {}
    for leaf in leaves.values():
        entry = as_dict(leaf) or {}
        path = [_key(key) for key in as_list(entry.get("key_metadata")) or ()]
        kind = (as_dict(entry.get("value_metadata")) or {}).get("value_type")
        if not path or None in path or len(path) > 32:
            raise damaged
        node = tree
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                raise damaged
            node = cast("dict[object, object]", inner)
        name = ".".join(cast("list[str]", path))
        plain = kind in ("np.ndarray", "jax.Array", "scalar")
        tensor = Tensor("unknown", partial(_load, origin, name, ocdbt, zarr3))
        node[path[-1]] = tensor if plain else Opaque(shown(str(kind)))
    return tree


def _key(entry: object) -> str | None:
    match entry:
        case {"key": str() | int() as key}:
            return str(key)
        case _:
            return None


def _load(origin: Origin, name: str, ocdbt: bool, zarr3: bool) -> Array:
    store = needed("tensorstore", origin.path, "flax")
    try:
        opened = store.open(_spec(origin.path, name, ocdbt, zarr3), open=True, read=True).result()
        element = opened.dtype.name
        if element not in STORED:
            raise origin.refused(f"{shown(name)} is of the type {shown(element)}")
        size = count(opened.shape, origin, name) * STORED[element].itemsize
        origin.budget.take(size)
        found = opened.read().result()
    except (ValueError, OSError, KeyError, TypeError, RuntimeError):
        raise origin.refused(f"lacks {shown(name)}, or it is damaged", "get it again") from None
    half = element in ("bfloat16", "float16")
    return settled(np.asarray(found, np.float32 if half else found.dtype), "float32", origin)


def _spec(folder: Path, name: str, ocdbt: bool, zarr3: bool) -> dict[str, Any]:
    base = {"driver": "file", "path": f"{folder.resolve()}/"}
    inside = {"driver": "file", "path": f"{folder.resolve()}/{name}/"}
    place = {"driver": "ocdbt", "base": base, "path": name} if ocdbt else inside
    if zarr3:  # Leaves out what is all zeros.
        return {"driver": "zarr3", "kvstore": place}
    return {"driver": "zarr", "kvstore": place, "fill_missing_data_reads": False}
