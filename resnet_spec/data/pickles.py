"""Read the CIFAR batches, which are pickles, without running anything that a pickle can ask for.

The machine of `files` runs nothing by itself. Here fewer opcodes are let through, those that build
plain values, and the only names that a file may mention are the four that NumPy arrays are pickled
with; they stand for inert stand-ins, so that not even NumPy's own constructors are called.
"""

from __future__ import annotations

import io
from typing import cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import DataError
from resnet_spec.files.encodings import shown
from resnet_spec.files.pickle_machine import read_pickle as read_any_pickle
from resnet_spec.files.pickle_names import Global, PickleRefused
from resnet_spec.files.stand_ins import Built

_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM
    SETITEMS PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_NAMES = {
    "numpy.core.multiarray._reconstruct": "array",
    "numpy._core.multiarray._reconstruct": "array",
    "numpy.ndarray": "array",
    "numpy.dtype": "dtype",
    "_codecs.encode": "bytes",
}


def read_pickle(data: bytes, where: str) -> dict[str, object]:
    """Return the dict that `data` holds: plain values, and stand-ins for NumPy's arrays of bytes.

    Python 2's strings are bytes, and `byte_rows` makes arrays of the stand-ins. Raises DataError
    for anything else that a pickle can contain.
    """
    try:
        value = read_any_pickle(io.BytesIO(data), _CifarNames(), _PLAIN.split(), strings=bytes)
    except PickleRefused as error:
        reason = shown(str(error), 200)
        raise DataError(f"{where}: is not a CIFAR batch ({reason}); get it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: is not a CIFAR batch (holds no dict); get it again")
    return {_text(key): item for key, item in cast("dict[object, object]", value).items()}


class _CifarNames:
    """The names that a batch may mention; see `pickle_names.Names`."""

    def find(self, name: Global) -> Global:
        if str(name) not in _NAMES:
            raise PickleRefused(f"it asks for {name}")
        return name

    def call(self, function: object, arguments: object) -> object:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise PickleRefused(f"it calls a {type(function).__name__}")
        given = cast("tuple[object, ...]", arguments)
        match _NAMES[str(function)], given:
            case "array", _:
                return Built("array")
            case "dtype", (code, *_):
                return Built("dtype", code)
            case "bytes", (str(text), b"latin1" | "latin1"):
                return _encoded(text)
            case _:
                raise PickleRefused(f"it calls {function} as nobody does")

    def make(self, kind: object) -> object:
        raise PickleRefused("it makes an object")

    def build(self, target: object, state: object) -> None:
        if isinstance(target, Global):
            raise PickleRefused("it changes a function")
        if not isinstance(target, Built):
            raise PickleRefused(f"it gives a state to a {type(target).__name__}")
        if target.name == "array":
            target.value = state

    def persistent(self, key: object) -> object:
        raise PickleRefused("it asks for what stands outside of it")


def _encoded(text: str) -> bytes:
    """Return bytes that Python 3 wrote as text, as it does below protocol 3."""
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise PickleRefused("it encodes something other than bytes") from None


def byte_rows(value: object, columns: int, where: str) -> NDArray[np.uint8]:
    """Return the array uint8 [n, columns] that a stand-in in a pickle's dict describes."""
    state = value.value if isinstance(value, Built) and value.name == "array" else None
    match state:
        case (int(), (int(rows), int(wide)), Built("dtype", b"u1" | "u1"), False | 0, bytes(raw)):
            if wide == columns and rows >= 0 and len(raw) == rows * columns:
                return np.frombuffer(raw, dtype=np.uint8).reshape(rows, columns)
        case _:
            pass
    raise DataError(f"{where}: data must be a uint8 array with {columns} columns; get it again")


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
