"""NumPy's `.npz`: a zip archive of `.npy` members, plain or compressed; no pickled arrays."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from resnet_spec.contract import Array
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.arrays import STORED, array, count, element_of, raw_bytes, settled
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.tree import Tensor
from resnet_spec.weights.files.zip_members import Member, content, start
from resnet_spec.weights.files.zip_writing import opened_member

_LONGEST_HEADER = 10_000
_READERS = {
    1: npy.read_array_header_1_0,
    2: npy.read_array_header_2_0,
    3: npy.read_array_header_2_0,  # Differs in the names of fields, and no weights have fields.
}
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
                npy.write_array(file, value, allow_pickle=False)


def _leaf(member: Member, source: Source) -> object:
    """Return the tensor of a member, whose header alone is read now."""
    name = member.name
    head = start(member, source, _LONGEST_HEADER + 12)
    try:
        begin, shape, by_column, dtype = _header(head[: head.find(b"\n", 12) + 1] or head)
    except Exception:  # A damaged header can raise nearly anything.
        raise source.refused(f"its member {shown(name)} is damaged", "get it again") from None
    if dtype.hasobject:
        raise source.refused(f"{shown(name)} is a pickled object; refused", "save arrays alone")
    if dtype.fields or dtype.subdtype or dtype.kind in "mM":
        raise source.refused(f"{shown(name)} is of a type that no weights have", "remove it")
    element = _CODES.get(dtype.str[1:])
    if element is None:
        return Opaque(f"numpy.ndarray of {dtype.str[1:]}")
    layout = _Layout(begin, element, list(shape), by_column, dtype.str[0] == ">")
    return Tensor(element, partial(_load, member, layout, source))


@lru_cache(256)  # A network of 800 arrays has 30 shapes, and reading one takes 60 us.
def _header(head: bytes) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Return where the data begin, the shape, whether columns come first, and the type."""
    file = io.BytesIO(head)
    version, _ = npy.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of what Python 2 wrote, and reads it.
        shape, by_column, dtype = _READERS[version](file, max_header_size=_LONGEST_HEADER)
    return file.tell(), shape, by_column, dtype


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
