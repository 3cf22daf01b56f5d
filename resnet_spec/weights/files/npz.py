"""NumPy's `.npz`: a zip archive of `.npy` members, plain or compressed; no pickled arrays."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.weights.files.arrays import STORED, array, count, element_of, raw_bytes, settled
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.tree import Opaque, Tensor
from resnet_spec.weights.files.zip_members import Member, content, start
from resnet_spec.weights.files.zip_writing import opened_member

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{'descr': '([<>|=])([a-zA-Z]\d+)', 'fortran_order': (True|False), "
    r"'shape': \(([\dL, ]*)\), ?\} *\n?"
)
_LONGEST_HEADER = 10_000
_CODES = {dtype.str[1:]: name for name, dtype in STORED.items() if name != "bfloat16"}


def is_npz(members: Mapping[str, Member]) -> bool:
    """Whether an archive holds arrays alone."""
    return bool(members) and all(name.endswith(".npy") for name in members)


def read_npz(source: Source, members: Mapping[str, Member]) -> object:
    """Return {name: tensor}; arrays that are not compressed are views of the map."""
    source.packed(len(source.data))
    return {name.removesuffix(".npy"): _leaf(member, source) for name, member in members.items()}


def write_npz(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write the arrays uncompressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in tensors.items():
            element_of(value, tuple(STORED), name, ".npz")
            with opened_member(archive, f"{name}.npy", value.nbytes + 1024) as file:
                np.lib.format.write_array(file, value, allow_pickle=False)


def _leaf(member: Member, source: Source) -> object:
    """Return the tensor of a member, whose header alone is read now."""
    name = member.name
    damaged = source.refused(f"its member {shown(name)} is damaged", "get it again")
    head = start(member, source, _LONGEST_HEADER + 12)
    if head[:6] != _MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise damaged
    width = 2 if head[6] == 1 else 4
    size = int.from_bytes(head[8 : 8 + width], "little")
    begin = 8 + width + size
    if size > _LONGEST_HEADER or begin > len(head):
        raise damaged
    text = head[8 + width : begin].decode("latin1")
    found = _HEADER.fullmatch(text)
    if found is None:
        if "'O'" in text or "|O" in text:
            raise source.refused(f"{shown(name)} is a pickled object; refused", "save arrays alone")
        raise source.refused(f"{shown(name)} is of a type that no weights have", "remove it")
    order, code, by_column, axes = found.groups()
    element = _CODES.get(code)
    if element is None:
        return Opaque(f"numpy.ndarray of {code}")
    try:
        shape = [int(axis.rstrip("L")) for axis in axes.replace(",", " ").split()]
    except ValueError:
        raise damaged from None
    is_big = order == ">" and STORED[element].itemsize > 1
    layout = _Layout(begin, element, shape, by_column == "True", is_big)
    return Tensor(element, partial(_load, member, layout, source))


class _Layout(NamedTuple):
    """How an array stands in its member, behind the header."""

    begin: int
    element: str
    shape: list[int]
    by_column: bool
    is_big_endian: bool


def _load(member: Member, layout: _Layout, source: Source) -> Array:
    element, shape = layout.element, layout.shape
    size = count(shape, source, member.name) * STORED[element].itemsize
    if not member.is_stored and size != member.size - layout.begin:
        raise source.refused(f"its member {shown(member.name)} is damaged", "get it again")
    body = content(member, source)[layout.begin :]
    if layout.is_big_endian:
        source.budget.take(size)
        dtype = STORED[element]
        body = raw_bytes(np.frombuffer(body, dtype.newbyteorder(">")).astype(dtype))
    found = array(body, element, shape[::-1] if layout.by_column else shape, source, member.name)
    return settled(found.T, "float32", source) if layout.by_column else found
