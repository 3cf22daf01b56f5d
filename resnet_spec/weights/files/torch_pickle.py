"""The one pickle that is written here: a state dict of contiguous tensors, as torch writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from resnet_spec.contract import Array

STORAGE_NAMES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
_EMPTY_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def state_dict_pickle(
    tensors: Mapping[str, Array], elements: Mapping[str, str], views: bool = False
) -> bytes:
    """Return the pickle of {name: tensor}; the n-th tensor fills the storage called "n".

    views: as the old format has it, where a storage may be a view of another (none is).
    """
    items = [
        _text(name) + _tensor(str(number), value.shape, elements[name], views)
        for number, (name, value) in enumerate(tensors.items())
    ]
    return b"\x80\x02" + _EMPTY_ORDERED_DICT + b"(" + b"".join(items) + b"u."


def _tensor(key: str, shape: Sequence[int], element: str, views: bool) -> bytes:
    """Return a call of `_rebuild_tensor_v2(storage, offset, shape, stride, ...)`."""
    storage = f"ctorch\n{STORAGE_NAMES[element]}\n".encode()
    described = _text("storage") + storage + _text(key) + _text("cpu") + _integer(math.prod(shape))
    described += b"N" if views else b""
    stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (b"(" + described + b"tQ")
        + _integer(0)
        + (_integers(shape) + _integers(stride))
        + (b"\x89" + _EMPTY_ORDERED_DICT)
        + b"tR"
    )


def _integers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(_integer(value) for value in values) + b"t"


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x09" + value.to_bytes(9, "little")


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw
