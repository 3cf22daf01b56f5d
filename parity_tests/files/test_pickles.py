"""Pickles that mean harm: whoever reads one runs nothing, takes no memory, and says it in a line.

One machine reads them for two users, and each row of the tables here is given to both.
"""

from __future__ import annotations

import io
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from resnet_spec.data.pickles import byte_rows
from resnet_spec.data.pickles import read_pickle as read_batch
from resnet_spec.errors import CheckpointError, DataError
from resnet_spec.files import pickle_machine
from resnet_spec.files.pickle_machine import read_pickle
from resnet_spec.files.pickle_names import Names, PickleRefused
from resnet_spec.files.stand_ins import Built
from resnet_spec.weights import read_weights
from resnet_spec.weights.files.torch_pickle import state_dict_pickle

Reader = Callable[[bytes], object]
ROWS = np.arange(8, dtype=np.uint8).reshape(2, 4)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


def of_batch(content: bytes) -> object:
    """Return the dict in a batch of CIFAR, or the one line that refuses it."""
    try:
        return read_batch(content, "batch")
    except DataError as error:
        return str(error).removeprefix("batch: is not a CIFAR batch ")


def of_weights(content: bytes) -> object:
    """Return the tensors in a file of torch, or the one line that refuses it."""
    path = Path("w.pth")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", WEIGHTS["w"].tobytes())
    try:
        return dict(read_weights(path).tensors)
    except CheckpointError as error:
        return str(error).removeprefix(f"{path}: ")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


TOUCH = text("touch ran")
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
HARMFUL = {
    "a call": (b"cos\nsystem\n" + TOUCH + b"\x85R", "os.system", "os.system"),
    "a mention": (b"cos\nsystem\n", "os.system", "os.system"),
    "a mention by strings": (text("os") + text("system") + b"\x93", "os.system", "os.system"),
    "a mention within": (text("os") + text("path.os.system") + b"\x93", "path.os", "path.os"),
    "an old instance": (b"(" + TOUCH + b"ios\nsystem\n", "opcode INST", "os.system"),
    "an old object": (b"(cos\nsystem\n" + TOUCH + b"o", "os.system", "os.system"),
    "a new object": (b"cnumpy\nndarray\n)\x81", "opcode NEWOBJ", "numpy.ndarray instead"),
    "a newer object": (b"cnumpy\nndarray\n)}\x92", "opcode NEWOBJ_EX", "numpy.ndarray instead"),
    "code": (b"cbuiltins\neval\n" + TOUCH + b"\x85R", "builtins.eval", "builtins.eval"),
    "attributes": (b"cbuiltins\ngetattr\n", "builtins.getattr", "builtins.getattr"),
    "another's function": (b"cmodels\nbuild\n)R", "models.build", "asks to run models.build"),
    "a call of text": (text("x") + b")R", "calls a str", "asks to call a str"),
    "a call of an object": (ARRAY + b")R", "calls a Built", "asks to call a numpy.ndarray"),
    "a call with no tuple": (b"cnumpy\ndtype\n]R", "calls a Global", "pickle is damaged"),
    "a type with no code": (b"cnumpy\ndtype\n)R", "as nobody does", "not described as torch"),
    "text for bytes": (
        b"c_codecs\nencode\n" + text("\u20ac") + text("latin1") + b"\x86R",
        "encodes something other",
        "pickle is damaged",
    ),
    "another encoding": (
        b"c_codecs\nencode\n" + text("a") + text("zip") + b"\x86R",
        "as nobody does",
        "pickle is damaged",
    ),
    "a changed function": (b"cnumpy\ndtype\n}b", "changes a function", "holds a Global"),
    "a changed dict": (b"}}b", "gives a state to a dict", "holds no tensors"),
    "registered": (b"\x82\x01", "opcode EXT1", "opcode EXT1"),
    "registered, 2": (b"\x83\x01\x00", "opcode EXT2", "opcode EXT2"),
    "registered, 4": (b"\x84\x01\x00\x00\x00", "opcode EXT4", "opcode EXT4"),
    "outside": (text("x") + b"Q", "opcode BINPERSID", "a storage that is not described"),
    "outside, by line": (b"Px\n", "opcode PERSID", "opcode PERSID"),
    "a buffer": (b"\x97", "opcode NEXT_BUFFER", "opcode NEXT_BUFFER"),
    "a line that steers": (b"c\x1b[2J\nx\n", r"asks for \\x1b\[2J.x", "holds a Global"),
}
HUGE = (1 << 62).to_bytes(8, "little")
MISSHAPEN = {
    "nothing": (b"", "empty stack", "empty stack"),
    "a mark": (b"(", "damaged", "damaged"),
    "no mark": (b"}u", "empty stack", "empty stack"),
    "half an item": (b"}(Nu", "damaged", "damaged"),
    "no list": (b"}Na", "no list", "no list"),
    "no dict": (b"]NNs", "no dict", "no dict"),
    "a name of a number": (b"K\x01" + text("a") + b"\x93", "damaged", "damaged"),
    "a name that is a number": (text("a") + b"K\x01\x93", "damaged", "damaged"),
    "no opcode": (b"\xff", "no opcode 0xff", "no opcode 0xff"),
    "no number": (b"Ix\n", "invalid literal", "invalid literal"),
    "no quotes": (b"Sx\n", "no string quotes", "no string quotes"),
    "an escape that warns": (b"S'\\8'\n", "damaged", "damaged"),
    "never kept": (b"h\x05", "never kept", "never kept"),
    "kept from nothing": (b"q\x00", "empty stack", "empty stack"),
    "kept far away": (b"}r\xff\xff\xff\x7f", "2000000 opcodes", "2000000 opcodes"),
    "kept far away, by line": (b"}p99999999999\n", "2000000 opcodes", "2000000 opcodes"),
    "a list in itself": (b"]q\x00h\x00a", "holds no dict", "holds a list"),
    "bytes of 2 GB": (b"T\xff\xff\xff\x7f", "expected 2147483647", "expected 2147483647"),
    "bytes of 4 GB": (b"B\xff\xff\xff\xff", "expected 4294967295", "expected 4294967295"),
    "bytes of fewer than none": (b"T\xff\xff\xff\xff", "expected 4294967295", "count < 0"),
    "bytes of 4 EB": (b"\x8e" + HUGE, "opcode BINBYTES8", f"expected {1 << 62} bytes"),
    "text of 4 EB": (b"\x8d" + HUGE, "opcode BINUNICODE8", f"expected {1 << 62} bytes"),
    "an array of 4 EB": (b"\x96" + HUGE, "opcode BYTEARRAY8", f"expected {1 << 62} bytes"),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f", "opcode LONG4", "not enough data"),
    "a number of fewer than none": (b"\x8b\xff\xff\xff\xff", "opcode LONG4", "< 0"),
    "a number of 255 bytes": (b"\x8a\xff1", "not enough data", "not enough data"),
    "a number of 100,000 digits": (b"L" + b"9" * 100_000 + b"L\n", "limit", "limit"),
    "a frame of 4 EB": (b"\x95" + HUGE, "empty stack", "empty stack"),
    "lists in lists": (b"]" * 50_000 + b"a" * 49_999, "holds no dict", "holds a list"),
    "tuples in tuples": (b")" + b"\x85" * 50_000, "holds no dict", "holds a tuple"),
    "a doubling tuple": (b")" + b"q\x00h\x00\x86" * 200, "holds no dict", "holds a tuple"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_would_run_is_refused_by_its_name(name: str) -> None:
    opcodes, batch, weights = HARMFUL[name]
    check(of_batch, opcodes, batch)
    check(of_weights, opcodes, weights)
    assert [path.name for path in Path().iterdir()] == ["w.pth"]


@pytest.mark.parametrize("name", MISSHAPEN)
def test_what_makes_no_sense_is_refused_in_time_and_memory(name: str) -> None:
    opcodes, batch, weights = MISSHAPEN[name]
    check(of_batch, opcodes, batch)
    check(of_weights, opcodes, weights)


def check(reader: Reader, opcodes: bytes, reason: str) -> None:
    """Check that `reader` refuses a pickle for a reason, and quickly, without memory for it."""
    content = b"\x80\x02" + opcodes + b"."
    reader(content)  # What is imported takes time and memory only once.
    tracemalloc.start()
    started = time.perf_counter()
    try:
        line = reader(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(line, str), line
    assert line.isprintable() and len(line) < 300
    with pytest.raises(Exception, match=reason):
        raise Exception(line)
    assert peak < 2_000_000 + 200 * len(content)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("reader", [of_batch, of_weights])
def test_a_pickle_without_an_end_is_given_up(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_machine, "_MOST_OPCODES", 2003)
    assert "opcodes" not in str(reader(b"\x80\x02}" + b"N0" * 1000 + b"."))
    assert "its pickle has more than" in str(reader(b"\x80\x02}" + b"N0" * 1000 + b"}."))


def test_a_key_that_would_be_hashed_for_ever_is_not() -> None:
    key = b")q\x01" + b"h\x01h\x01\x86q\x01" * 60
    assert list(read_batch(b"\x80\x02}(" + key + b"K\x01u.", "batch").values()) == [1]
    assert "holds no tensors" in str(of_weights(b"\x80\x02}(" + key + b"K\x01u."))


def test_a_state_that_brings_methods_is_kept_and_never_called() -> None:
    state = b"}(" + text("__setstate__") + b"cnumpy\ndtype\n" + text("__class__") + b"Nu"
    content = b"\x80\x02}" + text("data") + ARRAY + state + b"b}bs."
    data = read_batch(content, "batch")["data"]
    assert isinstance(data, Built) and data.value == {} and not hasattr(data, "__dict__")
    with pytest.raises(DataError, match="data must be a uint8 array with 4 columns"):
        byte_rows(data, 4, "batch")
    assert of_weights(content) == (
        "data is a numpy.ndarray, not a plain tensor; save it as a dense tensor"
    )


NOBODY = cast(Names, None)
"""For a pickle that mentions no names, nobody is asked."""


def test_only_the_opcodes_that_are_asked_for_are_let_through() -> None:
    content = pickle.dumps([1.5], 2)
    assert read_pickle(io.BytesIO(content), NOBODY) == [1.5]
    allowed = ["PROTO", "EMPTY_LIST", "BINPUT", "APPEND", "STOP"]
    with pytest.raises(PickleRefused, match="its pickle has the opcode BINFLOAT"):
        read_pickle(io.BytesIO(content), NOBODY, allowed)
    assert read_pickle(io.BytesIO(content), NOBODY, [*allowed, "BINFLOAT"]) == [1.5]


@pytest.mark.parametrize("opcodes", [b"U\x02\xe4a", b"T\x02\x00\x00\x00\xe4a"])
def test_strings_of_python_2_are_text_or_bytes(opcodes: bytes) -> None:
    content = b"\x80\x02" + opcodes + b"."
    assert read_pickle(io.BytesIO(content), NOBODY) == "\xe4a"
    assert read_pickle(io.BytesIO(content), NOBODY, strings=bytes) == b"\xe4a"


HONEST: dict[str, tuple[Reader, bytes]] = {
    **{
        f"batch, protocol {protocol}": (of_batch, pickle.dumps({"data": ROWS, "l": [1]}, protocol))
        for protocol in (0, 2, 4)
    },
    **{
        f"arrays, protocol {protocol}": (of_weights, pickle.dumps(WEIGHTS, protocol))
        for protocol in (0, 2, 4)
    },
    "state dict": (of_weights, state_dict_pickle(WEIGHTS, {"w": "float32"})),
}


@pytest.mark.parametrize("name", HONEST)
def test_a_file_that_ends_anywhere_is_refused(name: str) -> None:
    reader, content = HONEST[name]
    assert isinstance(reader(content), dict)
    for size in range(len(content)):
        assert isinstance(reader(content[:size]), str), size


@pytest.mark.parametrize("name", HONEST)
def test_a_byte_that_is_another_is_read_or_refused_in_a_line(name: str) -> None:
    reader, content = HONEST[name]
    outcomes = {type(reader(bytes(changed))) for changed in changes(content)}
    assert outcomes == {dict, str}


def changes(content: bytes) -> list[bytearray]:
    """Return `content` with each byte changed in turn, in four ways."""
    found: list[bytearray] = []
    for at, byte in enumerate(content):
        for value in {byte ^ 1, byte ^ 128, ord("R"), ord("b")} - {byte}:
            found.append(bytearray(content))
            found[-1][at] = value
    return found
