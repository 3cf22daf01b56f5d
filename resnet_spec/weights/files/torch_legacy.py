"""torch's files before 1.6: five pickles one behind the other, then the storages."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from resnet_spec.contract import Array
from resnet_spec.files.pickle_machine import read_pickle
from resnet_spec.files.pickle_names import PickleRefused
from resnet_spec.weights.files.arrays import element_of, raw_bytes
from resnet_spec.weights.files.source import Source
from resnet_spec.weights.files.torch_names import TorchNames, refusal
from resnet_spec.weights.files.torch_pickle import STORAGE_NAMES, state_dict_pickle
from resnet_spec.weights.files.torch_types import storage_itemsize

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = b"\x80\x02M\xe9\x03."


def read_torch_legacy(source: Source) -> object:
    """Return the tree of a file that an old `torch.save` wrote; tensors are views of the map."""
    storages: dict[str, memoryview] = {}
    names = TorchNames(source, storages)
    stream = _Pickles(source.data)
    try:
        read_pickle(stream, names)
        version = read_pickle(stream, names)
        system = read_pickle(stream, names)
        tree = read_pickle(stream, names)
        keys = read_pickle(stream, names)
    except PickleRefused as error:
        raise refusal(error, source) from None
    if version != 1001:
        raise source.refused("is of an unknown version of torch's old format", "save it again")
    if not isinstance(system, dict) or cast("dict[object, object]", system).get(
        "little_endian"
    ) not in (True, 1):
        raise source.refused("is not little-endian", "save it on a little-endian machine")
    _find_storages(source, keys, stream.tell(), names, storages)
    return tree


def write_torch_legacy(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a state dict in the old format, which every version of torch reads."""
    known = tuple(STORAGE_NAMES)
    kinds = {name: element_of(value, known, name, ".th") for name, value in tensors.items()}
    keys = b"".join(b"X" + len(k).to_bytes(4, "little") + k for k in _keys(len(tensors)))
    system = b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u."
    with path.open("wb") as file:
        file.write(MAGIC + _PROTOCOL + system + state_dict_pickle(tensors, kinds, views=True))
        file.write(b"\x80\x02](" + keys + b"e.")
        for value in tensors.values():
            file.write(value.size.to_bytes(8, "little"))
            file.write(raw_bytes(value))


def _keys(number: int) -> list[bytes]:
    return [str(index).encode() for index in range(number)]


def _find_storages(
    source: Source,
    keys: object,
    at: int,
    names: TorchNames,
    storages: dict[str, memoryview],
) -> None:
    """Find the storages behind the pickles: for each key a number of elements, then those."""
    damaged = source.refused("is truncated or damaged", "get it again")
    if not isinstance(keys, list):
        raise damaged
    for key in cast("list[object]", keys):
        described = names.used.get(str(key)) if isinstance(key, str | int) else None
        if described is None or str(key) in storages:
            raise damaged
        size = int.from_bytes(source.data[at : at + 8], "little", signed=True)
        end = at + 8 + size * storage_itemsize(described.element)
        if size < 0 or end > len(source.data) or at + 8 > len(source.data):
            raise damaged
        storages[str(key)] = source.data[at + 8 : end]
        at = end


class _Pickles(io.RawIOBase):
    """The file as the pickle's decoder wants it, without a copy of the storages behind."""

    _LONGEST_LINE = 1 << 16

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        found = bytes(self._data[self._at : self._at + max(size, 0)])
        self._at += len(found)
        return found

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line; none in a pickle of tensors is long."""
        ahead = bytes(self._data[self._at : self._at + self._LONGEST_LINE])
        line = ahead[: ahead.find(b"\n") + 1] or ahead
        self._at += len(line)
        return line
