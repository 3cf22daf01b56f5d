"""The types of elements that torch's files name, by storage and by dtype."""

from __future__ import annotations

from resnet_spec.files.pickle_names import Global
from resnet_spec.weights.files.arrays import STORED

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
OTHER_STORAGES = {
    "ComplexHalfStorage": 4,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}
"""Storages that no weights are made of -> bytes of an element."""
_ELEMENTS = {
    **{name: name for name in STORED},
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}


def element_of(dtype: object) -> str | None:
    """Return the element type of `torch.DTYPE`; None for one that no weights have."""
    if not isinstance(dtype, Global) or dtype.module != "torch":
        return None
    return _ELEMENTS.get(dtype.name)


def storage_itemsize(element: str) -> int:
    """Return the bytes that an element of a storage takes (see `torch_tensors.Storage`)."""
    known = STORED.get(element)
    return OTHER_STORAGES[element.rpartition(".")[2]] if known is None else known.itemsize
