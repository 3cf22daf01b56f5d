"""Read the CIFAR batches, which are pickles, without running anything that a pickle can ask for.

Three fences: only opcodes that build plain values are let through (read by `pickletools`, which
executes nothing); the only names that a file may mention are the four that NumPy arrays are pickled
with; and those names stand for inert stand-ins here, so that not even NumPy's own constructors are
called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import DataError

_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM
    SETITEMS PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_MOST_OPCODES = 2_000_000
"""A CIFAR batch has about 60,000, the CIFAR-100 training file 300,000."""


def read_pickle(data: bytes, where: str) -> dict[str, object]:
    """Return the dict that `data` holds: plain values, and NumPy bytes as arrays uint8 [n, m].

    Raises DataError for anything else that a pickle can contain.
    """
    try:
        _scan(data)
        value: object = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply for a CIFAR batch") from None
    except Exception as error:  # A damaged pickle can raise nearly anything.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{where}: is not a CIFAR batch ({reason}); get it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: is not a CIFAR batch (holds no dict); get it again")
    return {_text(key): item for key, item in cast("dict[object, object]", value).items()}


def _scan(data: bytes) -> None:
    """Refuse opcodes that are not in `_PLAIN`, and memo numbers that would only take memory."""
    plain = frozenset(_PLAIN.split())
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in plain:
            raise pickle.UnpicklingError(f"it has the opcode {opcode.name}")
        is_memo = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if number >= _MOST_OPCODES or (is_memo and cast(int, argument) >= _MOST_OPCODES):
            raise pickle.UnpicklingError(f"it has more than {_MOST_OPCODES} opcodes")


class _Inert:
    """A stand-in: takes what a pickle gives it and does nothing."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Name:
    """A name that a pickle may call: makes stand-ins, and cannot be changed by the pickle."""

    __slots__ = ("_made",)

    def __init__(self, made: str) -> None:
        self._made = made

    def __call__(self, *arguments: object) -> object:
        if self._made == "bytes":  # Python 3 writes bytes as latin-1 text below protocol 3.
            text, encoding = arguments
            if not isinstance(text, str) or encoding not in (b"latin1", "latin1"):
                raise pickle.UnpicklingError("it encodes something other than bytes")
            return text.encode("latin1")
        return _DType(arguments[0]) if self._made == "dtype" else _Array()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _DType(_Inert):
    __slots__ = ("code",)

    def __init__(self, code: object) -> None:
        super().__init__()
        self.code = code


class _Array(_Inert):
    __slots__ = ()


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "array",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        """Return the stand-in for a known name."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Name(_NAMES[module, name])


def byte_rows(value: object, columns: int, where: str) -> NDArray[np.uint8]:
    """Return the array uint8 [n, columns] that a stand-in in a pickle's dict describes."""
    state = value.state if isinstance(value, _Array) else None
    match state:
        case (int(), (int(rows), int(wide)), _DType(code=b"u1" | "u1"), False | 0, bytes(raw)):
            if wide == columns and rows >= 0 and len(raw) == rows * columns:
                return np.frombuffer(raw, dtype=np.uint8).reshape(rows, columns)
        case _:
            pass
    raise DataError(f"{where}: data must be a uint8 array with {columns} columns; get it again")


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
