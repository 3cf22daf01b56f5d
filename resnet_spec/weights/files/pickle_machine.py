"""Interpret a pickle without running it: `pickletools` decodes the opcodes, this acts on them.

Only plain containers, numbers and strings are made. A name that a pickle mentions becomes a
`Global`, which is a pair of strings; what a call of one means is for the caller's `Names` to say,
from a closed list. Nothing is ever imported, looked up or called on the pickle's behalf.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

from resnet_spec.weights.files.tree import Built, Opaque

_MOST_OPCODES = 2_000_000
"""A ResNet-152 with its optimiser has about 60,000."""


class PickleRefused(Exception):
    """The pickle is damaged, or asks for something it does not get; the text says which."""


class Stream(Protocol):
    """A file that holds a pickle; reading stops behind its STOP."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...

    def readline(self) -> bytes:
        """Return the bytes up to the next line feed."""
        ...


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Names(Protocol):
    """What the names in a pickle stand for."""

    def find(self, name: Global) -> object:
        """Return what the mere mention of `name` means, or raise PickleRefused."""
        ...

    def call(self, function: object, arguments: object) -> object:
        """Return what calling `function` means, or raise PickleRefused."""
        ...

    def make(self, kind: object) -> object:
        """Return a stand-in for a new object of the class `kind`, or raise PickleRefused."""
        ...

    def build(self, target: object, state: object) -> None:
        """Give `target` its state; targets that are not known ignore it."""
        ...

    def persistent(self, key: object) -> object:
        """Return the object outside of the pickle that `key` names, or raise PickleRefused."""
        ...


def read_pickle(stream: Stream, names: Names) -> object:
    """Return the value of the pickle at the stream's position. Raises PickleRefused."""
    machine = _Machine(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # A decoder warns of escapes that no honest pickle has.
        return _run(stream, machine)


def _run(stream: Stream, machine: _Machine) -> object:
    try:
        for number, (opcode, argument) in enumerate(_opcodes(stream)):
            if number >= _MOST_OPCODES:
                raise PickleRefused(f"its pickle has more than {_MOST_OPCODES} opcodes")
            machine.step(opcode, argument)
        return machine.pop()
    except IndexError:
        raise PickleRefused("its pickle takes from an empty stack") from None


def _opcodes(stream: Stream) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(cast(Any, stream)):
            yield opcode.name, argument
    except (ValueError, OverflowError, struct.error, EOFError, Warning):
        raise PickleRefused("its pickle is damaged") from None


class _Mark:
    """Stands on the stack where a sequence begins."""


_MARK = _Mark()

_VALUES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 FLOAT BINFLOAT
"""
_PUSH = frozenset(_VALUES.split())
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class _Machine:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Act on one opcode. Raises PickleRefused or IndexError."""
        if opcode in _PUSH:
            self._stack.append(argument)
        elif opcode in _PUTS:
            self._memo[argument] = self._stack[-1]
        elif opcode in _GETS:
            if argument not in self._memo:
                raise PickleRefused("its pickle uses a value that it never kept")
            self._stack.append(self._memo[argument])
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _SHORT_TUPLES:
            self._stack.append(tuple(self._take(_SHORT_TUPLES[opcode])))
        else:
            self._structure(opcode, argument)

    def _structure(self, opcode: str, argument: Any) -> None:
        """Act on the opcodes that make and fill containers and objects."""
        match opcode:
            case "MARK":
                self._stack.append(_MARK)
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_SET":
                self._stack.append(Opaque("set"))
            case "SETITEM":
                self._set_items(self._take(2))
            case "SETITEMS":
                self._set_items(self._to_mark())
            case "APPEND":
                self._append(self._take(1))
            case "APPENDS" | "ADDITEMS":
                self._append(self._to_mark())
            case "TUPLE":
                self._stack.append(tuple(self._to_mark()))
            case "LIST":
                self._stack.append(self._to_mark())
            case "DICT":
                items = self._to_mark()
                self._stack.append({})
                self._set_items(items)
            case "FROZENSET":
                self._to_mark()
                self._stack.append(Opaque("frozenset"))
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                self._stack.append(self._stack[-1])
            case _:
                self._objects(opcode, argument)

    def _objects(self, opcode: str, argument: Any) -> None:
        """Act on the opcodes that mention names, and hand their meaning to `Names`."""
        names = self._names
        match opcode:
            case "GLOBAL":
                self._stack.append(names.find(_global(*argument.split(" ", 1))))
            case "STACK_GLOBAL":
                self._stack.append(names.find(_global(*self._take(2))))
            case "REDUCE":
                self._stack.append(names.call(*self._take(2)))
            case "NEWOBJ":
                self._stack.append(names.make(self._take(2)[0]))
            case "NEWOBJ_EX":
                self._stack.append(names.make(self._take(3)[0]))
            case "INST":
                self._instance(names.find(_global(*argument.split(" ", 1))), self._to_mark())
            case "OBJ":
                taken = self._to_mark()
                self._instance(taken[0], taken[1:])
            case "BUILD":
                state = self.pop()
                names.build(self._stack[-1], state)
            case "BINPERSID":
                self._stack.append(names.persistent(self.pop()))
            case _:
                raise PickleRefused(f"its pickle has the opcode {opcode}")

    def _instance(self, kind: object, arguments: list[object]) -> None:
        names = self._names
        self._stack.append(names.call(kind, tuple(arguments)) if arguments else names.make(kind))

    def pop(self) -> object:
        """Take the topmost value."""
        value = self._stack.pop()
        if value is _MARK:
            raise PickleRefused("its pickle is damaged")
        return value

    def _take(self, number: int) -> list[object]:
        if not number:
            return []
        if len(self._stack) < number:
            raise IndexError
        taken = self._stack[-number:]
        del self._stack[-number:]
        if _MARK in taken:
            raise PickleRefused("its pickle is damaged")
        return taken

    def _to_mark(self) -> list[object]:
        stack = self._stack
        start = len(stack) - 1
        while stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise IndexError
        taken = stack[start + 1 :]
        del stack[start:]
        return taken

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if len(items) % 2:
            raise PickleRefused("its pickle is damaged")
        if isinstance(target, dict):
            plain = cast("dict[object, object]", target)
            for key, value in zip(items[::2], items[1::2], strict=True):
                plain[_key(key)] = value
        elif not isinstance(target, Opaque | Built):
            raise PickleRefused("its pickle sets items on something that is no dict")

    def _append(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            cast("list[object]", target).extend(items)
        elif not isinstance(target, Opaque | Built):
            raise PickleRefused("its pickle appends to something that is no list")


def _global(module: object, name: object = None) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleRefused("its pickle is damaged")
    return Global(module, name)


def _key(key: object) -> object:
    """Return `key` as a dict takes it: hashing a nested tuple could take for ever."""
    return key if isinstance(key, str | int | float | bytes | None) else Opaque("key")
