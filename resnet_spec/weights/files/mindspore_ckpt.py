"""MindSpore's `.ckpt`: a protocol buffer, read and written by hand.

    message Checkpoint { repeated Value value = 1; }
    message Value { string tag = 1; TensorProto tensor = 2; MapTensorProto maptensor = 3; }
    message TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes content = 3; }

A tensor above 512 MiB stands in slices: values that follow each other under one tag. A file may end
in the text "crc_num" and the CRC of what is before it.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from resnet_spec.contract import Array
from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files import protobuf
from resnet_spec.weights.files.arrays import array, element_of, raw_bytes
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.tree import Tensor

_ELEMENTS = {
    "Float64": "float64",
    "Float32": "float32",
    "Float16": "float16",
    "BFloat16": "bfloat16",
    "Int64": "int64",
    "Int32": "int32",
    "Int16": "int16",
    "Int8": "int8",
    "UInt64": "uint64",
    "UInt32": "uint32",
    "UInt16": "uint16",
    "UInt8": "uint8",
    "Bool": "bool",
}
_TYPES = {element: name for name, element in _ELEMENTS.items()}
_SLICE = 512 << 20
_CRC, _CRC_SIZE = b"crc_num", 10
_SLOTS = frozenset(["moments", "moment1", "moment2", "accum", "stat", "velocity", "momentum"])
_STEPS = """
    learning_rate epoch_num step_num global_step epoch step beta1_power beta2_power weight_decay
    current_iterator_step last_overflow_iterator_step scale_sense loss_scale momentum append_dict
"""


@dataclass(frozen=True, slots=True)
class _Value:
    tag: str
    dims: tuple[int, ...]
    kind: str
    content: memoryview


def is_mindspore(source: Source) -> bool:
    """Whether the file begins with a value that has a tag."""
    try:
        if source.data[0] != 0x0A:
            return False
        size, at = protobuf.varint(source.data, 1)
        return size > 2 and at < len(source.data) and source.data[at] == 0x0A
    except protobuf.Malformed:
        return False


def read_mindspore(source: Source) -> object:
    """Return {tag: tensor}; the tensors are views of the map, those in slices are joined."""
    slices: dict[str, list[_Value]] = {}
    last = ""
    try:
        for number, message in protobuf.fields(_checked(source)):
            if number != 1 or isinstance(message, int):
                raise protobuf.Malformed
            value = _value(message)
            if value.tag in slices and value.tag != last:
                raise source.refused(f"has two tensors named {shown(value.tag)}", "get it again")
            slices.setdefault(value.tag, []).append(value)
            last = value.tag
    except (protobuf.Malformed, UnicodeDecodeError):
        raise source.refused("is truncated or damaged", "get it again") from None
    return {tag: _leaf(tag, values, source) for tag, values in slices.items()}


def is_no_weight(tag: str) -> bool:
    """Whether a tag is of the optimiser or of the training loop."""
    return tag.partition(".")[0] in _SLOTS or tag in _STEPS.split()


def write_mindspore(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a file that `mindspore.load_checkpoint` reads."""
    kinds = {n: _TYPES[element_of(v, tuple(_TYPES), n, ".ckpt")] for n, v in tensors.items()}
    with path.open("wb") as file:
        for name, value in tensors.items():
            content = raw_bytes(value)
            for start in range(0, max(len(content), 1), _SLICE):
                part = content[start : start + _SLICE]
                file.write(_before(name, value.shape, kinds[name], len(part)))
                file.write(part)


def _checked(source: Source) -> memoryview:
    """Return the message, without the CRC behind it where there is one."""
    data, tail = source.data, len(_CRC) + _CRC_SIZE
    if len(data) <= tail or bytes(data[-tail:-_CRC_SIZE]) != _CRC:
        return data
    message = data[:-tail]
    if binascii.crc32(message) != int.from_bytes(data[-_CRC_SIZE:], "big"):
        raise source.refused("does not have the CRC that it names", "get it again")
    return message


def _value(message: memoryview) -> _Value:
    tag, tensor = None, None
    for number, field in protobuf.fields(message):
        if number == 1 and not isinstance(field, int):
            tag = str(field, "utf-8")
        elif number == 2 and not isinstance(field, int):
            tensor = field
        elif number != 3:
            raise protobuf.Malformed
    if tag is None:
        raise protobuf.Malformed
    if tensor is None:  # A map of keys to rows, for embeddings.
        return _Value(tag, (), "map", memoryview(b""))
    dims: list[int] = []
    kind, content = None, None
    for number, field in protobuf.fields(tensor):
        if number == 1:
            dims += [field] if isinstance(field, int) else _packed(field)
        elif number == 2 and not isinstance(field, int):
            kind = str(field, "utf-8")
        elif number == 3 and not isinstance(field, int):
            content = field
        else:
            raise protobuf.Malformed
    if kind is None or content is None or len(dims) > 64:
        raise protobuf.Malformed
    return _Value(tag, tuple(dims), kind, content)


def _packed(data: memoryview) -> list[int]:
    found: list[int] = []
    at = 0
    while at < len(data):
        value, at = protobuf.varint(data, at)
        found.append(value)
    return found


def _leaf(tag: str, values: list[_Value], source: Source) -> object:
    kind = values[0].kind
    if is_no_weight(tag) or kind in ("str", "map"):
        return Opaque(kind)
    if kind not in _ELEMENTS:
        raise source.refused(f"{shown(tag)} is of the type {shown(kind)}", "save it as float32")
    if any(v.kind != kind or v.dims != values[0].dims for v in values):
        raise source.refused(f"{shown(tag)} stands in slices that disagree", "get it again")
    return Tensor(_ELEMENTS[kind], partial(_joined, tag, values, source))


def _joined(tag: str, values: list[_Value], source: Source) -> Array:
    content, dims = values[0].content, values[0].dims
    if len(values) > 1:
        source.budget.take(sum(len(value.content) for value in values))
        content = memoryview(bytearray().join(value.content for value in values))
    # A scalar is written with the dims [0].
    shape = () if dims == (0,) and len(content) else dims
    return array(content, _ELEMENTS[values[0].kind], shape, source, tag)


def _before(name: str, shape: tuple[int, ...], kind: str, size: int) -> bytes:
    """Return all that stands before the content of one value."""
    tag, type_name = name.encode(), kind.encode()
    dims = b"".join(b"\x08" + protobuf.encoded(n) for n in (shape or (0,)))
    tensor = dims + protobuf.key(2, len(type_name)) + type_name + protobuf.key(3, size)
    value = protobuf.key(1, len(tag)) + tag + protobuf.key(2, len(tensor) + size) + tensor
    return protobuf.key(1, len(value) + size) + value
