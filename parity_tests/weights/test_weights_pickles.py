"""Files of torch hold pickles: none of their code runs, and what is plain data is still read."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights
from resnet_spec.weights.files.torch_legacy import MAGIC
from resnet_spec.weights.files.torch_pickle import state_dict_pickle

VALUES = {"conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
STATE = state_dict_pickle(VALUES, {"conv1.weight": "float32"})[2:-1]
"""The pickle of a state dict without its first and last opcodes, to stand inside another."""


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def inner(value: object, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol)[2:-1]


def zipped(path: Path, content: bytes, data: bytes = VALUES["conv1.weight"].tobytes()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", data)
    return path


def beside(path: Path, extra: bytes) -> Path:
    """Write a checkpoint whose dict holds `extra` beside the state dict."""
    return zipped(path, b"\x80\x02}(" + text("extra") + extra + text("state_dict") + STATE + b"u.")


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


class Attack:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_by_name(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = pickle.dumps({"a": Attack(os.system, f"touch {marker}")}, protocol)
    path = zipped(tmp_path / "x.pth", content)
    assert refusal(path) == f"asks to run {os.name}.system; refused, do not use this file"
    assert not marker.exists()
    legacy = tmp_path / "x.th"
    legacy.write_bytes(MAGIC + pickle.dumps(1001, 2) + content)
    assert "system; refused" in refusal(legacy)
    assert not marker.exists()


@pytest.mark.parametrize(
    "attack",
    [
        Attack(eval, "open('ran', 'w')"),
        Attack(exec, "open('ran', 'w')"),
        Attack(open, "ran", "w"),
        Attack(getattr, "x", "y"),
        Attack(subprocess.Popen, ["touch", "ran"]),
        Attack(os.remove, "conftest.py"),
        Attack(pickle.loads, b"."),
        Attack(__import__, "os"),
        Attack(sys.exit, 1),
        Attack(compile, "1", "a", "eval"),
    ],
    ids=lambda attack: f"{attack.call[0].__module__}.{attack.call[0].__name__}",
)
def test_what_could_run_code_is_refused_by_name(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(beside(tmp_path / "x.pth", inner(attack)))
    assert line.startswith("asks to run ") and line.endswith("; refused, do not use this file")
    assert attack.call[0].__name__ in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_old_ways_to_call_are_refused_too(tmp_path: Path) -> None:
    instance = b"(" + text("touch ran") + b"ios\nsystem\n"
    called = b"(cos\nsystem\n" + text("touch ran") + b"o"
    unknown = b"cmodels\nbuild\n(" + text("x") + b"tR"
    registered = b"\x82\x01"
    for extra, line in [
        (instance, "asks to run os.system; refused, do not use this file"),
        (called, "asks to run os.system; refused, do not use this file"),
        (unknown, "asks to run models.build; refused, do not use this file"),
        (registered, "its pickle has the opcode EXT1; get it again"),
        (b"Pname\n", "its pickle has the opcode PERSID; get it again"),
        (text("x") + b")R", "asks to call a str; refused"),
    ]:
        assert refusal(beside(tmp_path / "x.pth", extra)) == line


class Config:
    """A class that no reader knows."""

    def __init__(self) -> None:
        self.depth = 20


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_arguments_of_a_run_do_not_hide_the_weights(protocol: int, tmp_path: Path) -> None:
    extra = [
        argparse.Namespace(lr=0.1, seen={1}, nested=Config()),
        Config(),
        datetime.datetime(2020, 1, 1),
        Path("a"),
        collections.Counter("aa"),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        types.SimpleNamespace(a=1),
        complex(1, 2),
        np.arange(3),
        np.float64(1),
        b"bytes",
        10**30,
        frozenset({1}),
        {(1, 2): 3},
    ]
    raw = pickle.dumps(extra, protocol)
    content = raw[2:-1] if protocol < 4 else raw[11:-1]
    file = read_weights(beside(tmp_path / "x.pth", content))
    assert file.tensors["conv1.weight"].tobytes() == VALUES["conv1.weight"].tobytes()
    assert file.notes == ("taken from 'state_dict'", "left out: extra")


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_paths_are_left_out_whichever_python_wrote_them(module: str, tmp_path: Path) -> None:
    content = f"c{module}\nPosixPath\n(Va\ntR".encode()
    file = read_weights(beside(tmp_path / "x.pth", content))
    assert file.notes == ("taken from 'state_dict'", "left out: extra")


def test_arrays_of_numpy_among_the_weights_are_read(tmp_path: Path) -> None:
    values = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    }
    found = read_weights(zipped(tmp_path / "x.pth", pickle.dumps(values, 2))).tensors
    for name, value in values.items():
        assert found[name].dtype == value.dtype and (found[name] == value).all()
    content = pickle.dumps({"a": np.array([1, None])}, 2)
    assert "a is a numpy.ndarray" in refusal(zipped(tmp_path / "y.pth", content))


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    line = refusal(tmp_path / "x.pth")
    assert line == (
        "holds an object of the class torch.nn.modules.linear.Linear instead of named tensors; "
        "save the network's state_dict"
    )


def test_tensors_that_are_not_dense_are_refused_by_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    assert refusal(tmp_path / "x.pth").startswith("w is a torch._utils._rebuild_sparse_tensor")


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((2, 3), (3, 1), 1),
        ((7,), (1,), 0),
        ((2, 3), (3, -1), 3),
        ((2,), (2**40,), 0),
        ((1,), (1,), -1),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch.save({"w": torch.arange(6.0)}, path)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("x/data.pkl")
    described = b"K\x00K\x06\x85q\x08K\x01\x85q\x09"
    assert described in content, "torch writes its pickle differently"
    replaced = inner(offset) + inner(shape) + inner(stride)
    changed = content.replace(described, replaced)
    line = refusal(zipped(path, changed, bytes(24)))
    assert line == "has a tensor that reaches outside its storage 0; get it again"


def test_a_tensor_cannot_grow_out_of_nothing(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "x.pth")
    assert "asks for more than" in refusal(tmp_path / "x.pth")


def test_pickles_that_would_take_for_ever_do_not(tmp_path: Path) -> None:
    laughs = b"]" + b"q\x00h\x00h\x00\x86" * 200  # A tuple of itself twice, two hundred times.
    cycle = b"}q\x00" + text("a") + b"h\x00s"
    for content in (b"\x80\x02" + laughs + b".", b"\x80\x02" + cycle + b"."):
        assert refusal(zipped(tmp_path / "x.pth", content))
    key = b"}(" + b")q\x01" + b"h\x01h\x01\x86q\x01" * 60 + b"K\x01u"
    file = read_weights(beside(tmp_path / "y.pth", key))
    assert list(file.tensors) == ["conv1.weight"]


@pytest.mark.parametrize(
    "opcodes", [b"0", b"S'\\u'\n", b"s", b"h\x05", b"t", b"(R", b"u", b"e", b"b", b"\x93"]
)
def test_a_pickle_that_makes_no_sense_is_refused(opcodes: bytes, tmp_path: Path) -> None:
    assert "its pickle" in refusal(zipped(tmp_path / "x.pth", b"\x80\x02" + opcodes + b"."))


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    path = beside(tmp_path / "x.pth", inner(argparse.Namespace(lr=0.1)))
    script = (
        "import sys; from pathlib import Path; from resnet_spec.weights import read_weights\n"
        f"assert read_weights(Path({str(path)!r})).tensors\n"
        "heavy = {'torch', 'jax', 'flax', 'mindspore', 'h5py', 'msgpack', 'safetensors',\n"
        "         'tensorstore', 'argparse'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_views_of_a_file_are_private(tmp_path: Path) -> None:
    path = beside(tmp_path / "x.pth", inner(1))
    before = path.read_bytes()
    read_weights(path).tensors["conv1.weight"][:] = 7
    assert path.read_bytes() == before
