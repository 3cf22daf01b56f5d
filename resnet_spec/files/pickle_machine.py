"""Interpret a pickle without running it: CIFAR's batches and torch's files are both read here.

`pickletools` knows how the argument of each opcode is written, and this acts on the opcodes. Only
plain containers, numbers and strings are made. A name that a pickle mentions becomes a `Global`,
which is a pair of strings; what a call of one means is for the caller's `Names` to say, from a
closed list. Nothing is ever imported, looked up or called on the pickle's behalf.

This is no `pickle.Unpickler` with a `find_class` of its own, for that is not safe by itself: it
takes memory for any number under which a pickle keeps a value, hashes keys of nested tuples for
ever, and sets attributes of whatever `find_class` returned.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable, Collection
from typing import Any, Protocol, cast

from resnet_spec.files.pickle_names import Global, Names, PickleRefused
from resnet_spec.files.stand_ins import Built, Opaque

_MOST_OPCODES = 2_000_000
"""A ResNet-152 with its optimiser has about 60,000, the training file of CIFAR-100 300,000."""
_TOO_MANY = f"its pickle has more than {_MOST_OPCODES} opcodes"
_DAMAGED = "its pickle is damaged"


class Stream(Protocol):
    """A file that holds a pickle; reading stops behind its STOP."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...

    def readline(self) -> bytes:
        """Return the bytes up to the next line feed."""
        ...


_Action = Callable[[Any], object]
"""What an opcode does, given its argument, which is None where it has none."""
_Step = tuple[str, Callable[[Any], object] | None, _Action | None]
"""An opcode's name, what reads its argument, and what it does where it is allowed."""


def read_pickle(
    stream: Stream,
    names: Names,
    opcodes: Collection[str] | None = None,
    strings: type[str] | type[bytes] = str,
) -> object:
    """Return the value of the pickle at the stream's position. Raises PickleRefused.

    opcodes: the only ones that may stand in it, by their names in `pickletools`; None for all that
    the machine knows. strings: what the strings of Python 2 become, which were bytes; as text, each
    byte is the character of its number.
    """
    machine = _Machine(names)
    known = {**machine.values(), **machine.containers(), **machine.objects()}
    allowed = known if opcodes is None else {name: known[name] for name in opcodes}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # A decoder warns of escapes that no honest pickle has.
        return _run(stream, machine, _steps(allowed, strings))


def _steps(actions: dict[str, _Action], strings: type[str] | type[bytes]) -> dict[bytes, _Step]:
    """Return {the byte of an opcode: its step}."""
    readers = {it.name: it.arg.reader for it in pickletools.opcodes if it.arg is not None}
    readers |= _READERS_OF_BYTES if strings is bytes else {}
    return {
        it.code.encode("latin1"): (it.name, readers.get(it.name), actions.get(it.name))
        for it in pickletools.opcodes
    }


def _run(stream: Stream, machine: _Machine, steps: dict[bytes, _Step]) -> object:
    try:
        for _ in range(_MOST_OPCODES):
            code = stream.read(1)
            if code not in steps:
                raise PickleRefused(f"{_DAMAGED}: {_no_opcode(code)}")
            name, reader, act = steps[code]
            if act is None:
                raise PickleRefused(f"its pickle has the opcode {name}")
            act(None if reader is None else _argument(reader, stream))
            if code == b".":
                return machine.pop()
    except IndexError:
        raise PickleRefused("its pickle takes from an empty stack") from None
    raise PickleRefused(_TOO_MANY)


def _argument(reader: Callable[[Any], object], stream: Stream) -> object:
    try:
        return reader(stream)
    except (ValueError, OverflowError, struct.error, EOFError, Warning) as error:
        raise PickleRefused(f"{_DAMAGED}: {error}") from None


def _no_opcode(code: bytes) -> str:
    return f"there is no opcode 0x{code.hex()}" if code else "it ends too early"


def _bytes_of_line(stream: Any) -> bytes:
    return cast(str, pickletools.stringnl.reader(stream)).encode("latin1")


_READERS_OF_BYTES: dict[str, Callable[[Any], object]] = {
    "STRING": _bytes_of_line,
    "BINSTRING": pickletools.bytes4.reader,
    "SHORT_BINSTRING": pickletools.bytes1.reader,
}


class _Mark:
    """Stands on the stack where a sequence begins."""


_MARK = _Mark()

_VALUES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 FLOAT BINFLOAT
"""


class _Machine:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def values(self) -> dict[str, _Action]:
        """Return what the opcodes do that put a value on the stack, keep one, or take one."""
        stack, push = self._stack, self._stack.append
        return {
            **dict.fromkeys(_VALUES.split(), push),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _: None),
            "NONE": push,
            "NEWTRUE": lambda _: push(True),
            "NEWFALSE": lambda _: push(False),
            "MARK": lambda _: push(_MARK),
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "POP": lambda _: stack.pop(),
            "POP_MARK": lambda _: self._to_mark(),
            "DUP": lambda _: push(stack[-1]),
        }

    def containers(self) -> dict[str, _Action]:
        """Return what the opcodes do that make and fill containers."""
        push, take = self._stack.append, self._take
        return {
            "EMPTY_DICT": lambda _: push({}),
            "EMPTY_LIST": lambda _: push([]),
            "EMPTY_SET": lambda _: push(Opaque("set")),
            "EMPTY_TUPLE": lambda _: push(()),
            "TUPLE1": lambda _: push(tuple(take(1))),
            "TUPLE2": lambda _: push(tuple(take(2))),
            "TUPLE3": lambda _: push(tuple(take(3))),
            "TUPLE": lambda _: push(tuple(self._to_mark())),
            "LIST": lambda _: push(self._to_mark()),
            "DICT": lambda _: self._dict(self._to_mark()),
            "FROZENSET": lambda _: push(_frozen_set(self._to_mark())),
            "SETITEM": lambda _: self._set_items(take(2)),
            "SETITEMS": lambda _: self._set_items(self._to_mark()),
            "APPEND": lambda _: self._append(take(1)),
            "APPENDS": lambda _: self._append(self._to_mark()),
            "ADDITEMS": lambda _: self._append(self._to_mark()),
        }

    def objects(self) -> dict[str, _Action]:
        """Return what the opcodes do that mention names: what `Names` says."""
        push, take, names = self._stack.append, self._take, self._names
        return {
            "GLOBAL": lambda name: push(names.find(_global(*name.split(" ", 1)))),
            "STACK_GLOBAL": lambda _: push(names.find(_global(*take(2)))),
            "REDUCE": lambda _: push(names.call(*take(2))),
            "NEWOBJ": lambda _: push(names.make(take(2)[0])),
            "NEWOBJ_EX": lambda _: push(names.make(take(3)[0])),
            "INST": lambda name: self._instance(
                names.find(_global(*name.split(" ", 1))), self._to_mark()
            ),
            "OBJ": lambda _: self._object(self._to_mark()),
            "BUILD": lambda _: self._build(self.pop()),
            "BINPERSID": lambda _: push(names.persistent(self.pop())),
        }

    def _put(self, number: int) -> None:
        if number >= _MOST_OPCODES:
            raise PickleRefused(_TOO_MANY)
        self._memo[number] = self._stack[-1]

    def _get(self, number: int) -> None:
        if number not in self._memo:
            raise PickleRefused("its pickle uses a value that it never kept")
        self._stack.append(self._memo[number])

    def _dict(self, items: list[object]) -> None:
        self._stack.append({})
        self._set_items(items)

    def _object(self, taken: list[object]) -> None:
        self._instance(taken[0], taken[1:])

    def _build(self, state: object) -> None:
        self._names.build(self._stack[-1], state)

    def _instance(self, kind: object, arguments: list[object]) -> None:
        names = self._names
        self._stack.append(names.call(kind, tuple(arguments)) if arguments else names.make(kind))

    def pop(self) -> object:
        """Take the topmost value."""
        value = self._stack.pop()
        if value is _MARK:
            raise PickleRefused(_DAMAGED)
        return value

    def _take(self, number: int) -> list[object]:
        if not number:
            return []
        if len(self._stack) < number:
            raise IndexError
        taken = self._stack[-number:]
        del self._stack[-number:]
        if _MARK in taken:
            raise PickleRefused(_DAMAGED)
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
            raise PickleRefused(_DAMAGED)
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


def _frozen_set(_: list[object]) -> Opaque:
    return Opaque("frozenset")


def _global(module: object, name: object = None) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleRefused(_DAMAGED)
    return Global(module, name)


def _key(key: object) -> object:
    """Return `key` as a dict takes it: hashing a nested tuple could take for ever."""
    return key if isinstance(key, str | int | float | bytes | None) else Opaque("key")
