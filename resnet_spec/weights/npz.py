"""NumPy's `.npz`: a zip archive of `.npy` members, plain or compressed; no pickled arrays."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.weights.arrays import STORED, array, count, element_of, settled
from resnet_spec.weights.source import Source, shown
from resnet_spec.weights.tree import Opaque, Tensor
from resnet_spec.weights.zip_members import Member
from resnet_spec.weights.zip_writing import opened_member

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{'descr': '([<>|=])([a-zA-Z]\d+)', 'fortran_order': (True|False), "
    r"'shape': \(([\dL, ]*)\), ?\} *\n?"
)
_LONGEST_HEADER = 10_000
_MOST_DEFLATION = 1032
"""No deflated byte stands for more."""
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
    if not member.stored and member.size > _MOST_DEFLATION * len(member.raw) + 1024:
        raise damaged
    start = _start(member, damaged)
    if start[:6] != _MAGIC or len(start) < 12 or start[6] not in (1, 2, 3):
        raise damaged
    width = 2 if start[6] == 1 else 4
    size = int.from_bytes(start[8 : 8 + width], "little")
    begin = 8 + width + size
    if size > _LONGEST_HEADER or begin > len(start):
        raise damaged
    text = start[8 + width : begin].decode("latin1")
    found = _HEADER.fullmatch(text)
    if found is None:
        if "'O'" in text or "|O" in text:
            raise source.refused(f"{shown(name)} is a pickled object; refused", "save arrays alone")
        raise source.refused(f"{shown(name)} is of a type that no weights have", "remove it")
    order, code, by_column, axes = found.groups()
    element = _CODES.get(code)
    if element is None or (order == ">" and STORED[element].itemsize > 1):
        return Opaque(f"numpy.ndarray of {code}")
    try:
        shape = [int(axis.rstrip("L")) for axis in axes.replace(",", " ").split()]
    except ValueError:
        raise damaged from None
    return Tensor(
        element, partial(_load, member, begin, element, shape, by_column == "True", source)
    )


def _start(member: Member, damaged: Exception) -> bytes:
    if member.stored:
        return bytes(member.raw[: _LONGEST_HEADER + 12])
    try:
        return zlib.decompressobj(-15).decompress(member.raw, _LONGEST_HEADER + 12)
    except zlib.error:
        raise damaged from None


def _load(
    member: Member, begin: int, element: str, shape: list[int], by_column: bool, source: Source
) -> Array:
    body = member.raw[begin:] if member.stored else _unpacked(member, source)[begin:]
    axes = shape[::-1] if by_column else shape
    size = count(shape, source, member.name) * STORED[element].itemsize
    if not member.stored and size != member.size - begin:
        raise source.refused(f"its member {shown(member.name)} is damaged", "get it again")
    found = array(body, element, axes, source, member.name)
    return settled(found.T, "float32", source) if by_column else found


def _unpacked(member: Member, source: Source) -> memoryview:
    """Return a compressed member's bytes, unpacked in pieces into their final place."""
    source.budget.take(member.size)
    out = bytearray(member.size)
    unpacker, at, left = zlib.decompressobj(-15), 0, member.raw
    damaged = source.refused(f"its member {shown(member.name)} is damaged", "get it again")
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(left, 1 << 20)
            left = unpacker.unconsumed_tail
            if at + len(piece) > len(out) or not (piece or left or unpacker.eof):
                raise damaged
            out[at : at + len(piece)] = piece
            at += len(piece)
    except zlib.error:
        raise damaged from None
    if at != len(out):
        raise damaged
    return memoryview(out)
