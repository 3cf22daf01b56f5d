"""HDF5, as far as weights need it: groups, some attributes, and arrays inside the file.

The structure is read by a process of its own (see `hdf5_child`), which can be stopped; the arrays
are then views of the map, but for those that are compressed.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from resnet_spec.errors import CheckpointError
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.arrays import STORED, array
from resnet_spec.weights.files.source import Source, refused, shown
from resnet_spec.weights.files.tree import Tensor, as_dict, as_integers, as_list

MAGIC = b"\x89HDF\r\n\x1a\n"
_CODES = {dtype.str[1:]: name for name, dtype in STORED.items() if name != "bfloat16"}
_SECONDS = 10.0
_SLOWEST = 10 << 20
"""Bytes that are surely read in a second, unpacked where need be."""
_SPARE = 16 << 20
_MOST_PACKING = 64


@dataclass(slots=True)
class Node:
    """A group or a dataset. leaf: None for a group."""

    attributes: dict[str, list[str]]
    children: dict[str, Node] = field(default_factory=dict["str", "Node"])
    leaf: Tensor | Opaque | None = None


def read_hdf5(source: Source, begin: int = 0, size: int | None = None) -> Node:
    """Return the root of the HDF5 file that stands in `source` at `begin`.

    Raises CheckpointError for a damaged file, and for one that has data in other files.
    """
    if importlib.util.find_spec("h5py") is None:
        install = "run: pip install 'resnet-spec[weights]'"
        raise refused(source.path, "needs h5py, not installed", install)
    size = len(source.data) if size is None else size
    most = _MOST_PACKING * size + _SPARE
    status, output, complaint = run_child(source.path, begin, size, most)
    if status == 3:
        raise source.refused(complaint, "do not use this file")
    if status:
        raise _damaged(source)
    view = memoryview(output)
    end = 8 + int.from_bytes(view[:8], "little")
    try:
        entries = as_list(json.loads(bytes(view[8:end]))) or []
    except ValueError:
        raise _damaged(source) from None
    return _tree(entries, source.data[begin : begin + size], view[end:], source)


def run_child(path: Path, begin: int, size: int, most: int) -> tuple[int, bytes, str]:
    """Run `hdf5_child`; return its exit status, its output and its one line on stderr."""
    script = str(Path(__file__).with_name("hdf5_child.py"))
    numbers = [str(number) for number in (begin, size, most)]
    command = [sys.executable, "-P", script, str(path.absolute()), *numbers]
    seconds = _SECONDS + size / _SLOWEST
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return 1, b"", ""
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def _tree(entries: list[Any], data: memoryview, packed: memoryview, source: Source) -> Node:
    """Return the root, out of the entries in the order of a walk."""
    root = Node({})
    at = 0
    for entry in entries:
        described = as_dict(entry) or {}
        path = [str(part) for part in as_list(described.get("path")) or ()]
        node = Node(as_dict(described.get("attributes")) or {})
        if "dtype" in described:
            size = int(described.get("size", 0))
            offset = described.get("offset")
            raw = packed[at : at + size] if offset is None else data[offset : offset + size]
            at += size if offset is None else 0
            node.leaf = _leaf(described, raw, source, "/".join(path))
        if not path:
            root = node
            continue
        parent = root
        for part in path[:-1]:
            parent = parent.children[part]
        parent.children[path[-1]] = node
    return root


def _leaf(described: dict[str, Any], raw: memoryview, source: Source, name: str) -> Tensor | Opaque:
    element = _CODES.get(described["dtype"])
    shape = as_integers(described.get("shape"))
    if element is None or shape is None:
        return Opaque(f"numpy.ndarray of {shown(str(described['dtype']))}")
    return Tensor(element, partial(array, raw, element, shape, source, name))


def _damaged(source: Source) -> CheckpointError:
    return source.refused("is truncated or a damaged HDF5 file", "get it again")
