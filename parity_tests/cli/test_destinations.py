"""What is there already stays: `convert` replaces nothing unasked, and nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.contract import State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError, OutputError
from resnet_spec.files.destinations import check_destination
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import read_weights, write_weights
from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint
from resnet_spec.weights.converting import convert

Captured = pytest.CaptureFixture[str]

SMALL = Spec.from_dict(
    {
        "name": "small",
        "classes": 5,
        "input": {"size": 16},
        "stem": {"widths": [8]},
        "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}],
        "block": "basic",
    }
)


def state() -> State:
    return initial_state(lower(SMALL), 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_weights(tmp_path / "a.pth", state())
    return tmp_path / "a.pth"


def refusal(capsys: Captured, *argv: str | Path) -> str:
    assert main([str(arg) for arg in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err.removeprefix("resnet-spec: error: ").strip()


def same(path: Path, source: Path) -> Path:
    return source


def file(path: Path, source: Path) -> Path:
    path.write_bytes(b"before")
    return path


def symbolic_link(path: Path, source: Path) -> Path:
    path.symlink_to(source.name)
    return path


def hard_link(path: Path, source: Path) -> Path:
    os.link(source, path)
    return path


def dangling_link(path: Path, source: Path) -> Path:
    path.symlink_to("nowhere")
    return path


def other_spelling(path: Path, source: Path) -> Path:
    return source.parent / "." / ".." / source.parent.name / source.name


EXISTING = [same, file, symbolic_link, hard_link, dangling_link, other_spelling]


@pytest.mark.parametrize("make", EXISTING)
def test_what_is_there_is_not_replaced(
    make: Callable[[Path, Path], Path], source: Path, capsys: Captured
) -> None:
    before = source.read_bytes()
    path = make(source.with_name("b.pth"), source)
    files = sorted(source.parent.iterdir())
    line = refusal(capsys, "convert", source, path, "--to", "timm")
    assert line == f"{path}: cannot be written: exists already; --overwrite replaces it"
    assert sorted(source.parent.iterdir()) == files
    assert source.read_bytes() == before


@pytest.mark.parametrize("make", EXISTING)
def test_it_is_replaced_where_that_is_asked_for(
    make: Callable[[Path, Path], Path], source: Path, capsys: Captured
) -> None:
    path = make(source.with_name("b.pth"), source)
    assert main(["convert", str(source), str(path), "--to", "timm", "--overwrite"]) == 0
    assert "logits equal bit by bit" in capsys.readouterr().out
    for each in {path, source}:
        found = read_weights(each).tensors
        assert all(np.array_equal(found[name], value) for name, value in state().items())
    assert not path.is_symlink()
    assert all(it.suffix == ".pth" for it in source.parent.iterdir())


def test_a_folder_is_never_replaced_by_a_file(source: Path, capsys: Captured) -> None:
    path = source.with_name("b.pth")
    (path / "inside").mkdir(parents=True)
    for more in ([], ["--overwrite"]):
        line = refusal(capsys, "convert", source, path, "--to", "timm", *more)
        assert line.startswith(f"{path}: cannot be written: ")
    assert (path / "inside").is_dir()


def test_a_folder_of_orbax_is_replaced_and_no_other(source: Path, capsys: Captured) -> None:
    pytest.importorskip("tensorstore")
    path = source.with_name("b.orbax")
    path.mkdir()
    convert(source, path, to="timm")  # An empty folder is none yet.
    (path / "mine.txt").write_text("kept by nobody")
    assert "exists already" in refusal(capsys, "convert", source, path, "--to", "timm")
    assert (path / "mine.txt").is_file()
    convert(source, path, to="timm", overwrite=True)
    assert not (path / "mine.txt").exists()
    assert read_weights(path).tensors.keys() == state().keys()
    other = source.with_name("c.orbax")
    other.mkdir()
    (other / "thesis.tex").write_text("")
    line = refusal(capsys, "convert", source, other, "--to", "timm", "--overwrite")
    assert line == f"{other}: cannot be written: is a folder of other things"
    with pytest.raises(OutputError, match="is a file, and a folder is to be written"):
        convert(source, source, to="timm", kind="orbax", overwrite=True)
    assert sorted(it.name for it in source.parent.iterdir()) == ["a.pth", "b.orbax", "c.orbax"]


def test_a_folder_of_orbax_is_kept_where_the_new_one_fails(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorstore")
    path = source.with_name("b.orbax")
    convert(source, path, to="timm")
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if target == path and self.parent.name.startswith(".new-"):
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputError, match="Input/output error"):
        convert(source, path, to="timm", overwrite=True)
    assert read_weights(path).tensors.keys() == state().keys()
    assert sorted(it.name for it in source.parent.iterdir()) == ["a.pth", "b.orbax"]


def test_what_is_read_is_not_replaced_by_something_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="which is read; name another file"):
        check_destination(tmp_path / "b", overwrite=True, source=tmp_path / "a")
    check_destination(tmp_path / "c", overwrite=False, source=tmp_path / "a")


@pytest.mark.parametrize("where", ["missing/b.pth", "a.pth/b.pth", "x" * 300 + ".pth"])
def test_a_place_that_cannot_be_is_one_line(where: str, source: Path, capsys: Captured) -> None:
    path = source.parent / where
    if where.startswith("missing"):
        assert main(["convert", str(source), str(path), "--to", "timm"]) == 0
        assert path.is_file()
        return
    line = refusal(capsys, "convert", source, path, "--to", "timm")
    assert line.startswith(f"{path}: cannot be written: ")
    assert list(source.parent.iterdir()) == [source]


# Numbers that are no numbers


def overflowing(scale: float) -> State:
    """Finite weights of a network whose activations are beyond float32, or float64, in the end."""
    huge = state()
    for name, array in huge.items():
        if name.endswith(("bn1.weight", "bn2.weight")):
            huge[name] = np.full_like(array, scale)
    return huge


@pytest.mark.parametrize(("scale", "precision"), [(1e15, "float32"), (3e38, "float32")])
def test_of_logits_that_are_not_finite_nothing_is_proven(
    scale: float, precision: str, tmp_path: Path, capsys: Captured
) -> None:
    weights = overflowing(scale)
    assert all(np.isfinite(array).all() for array in weights.values())
    write_weights(tmp_path / "a.pth", weights)
    line = refusal(capsys, "convert", tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert (
        "logits: " in line and f"are NaN or infinite in {precision}, so nothing is proven" in line
    )
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(SMALL, weights))
    assert "so nothing is proven" in refusal(
        capsys, "convert", tmp_path / "c.safetensors", tmp_path / "b.npz", "--to", "timm"
    )
    assert sorted(it.name for it in tmp_path.iterdir()) == ["a.pth", "c.safetensors"]


def test_what_float32_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    wide = {name: array.astype(np.float64) for name, array in state().items()}
    wide["layer1.0.bn1.bias"][3] = -1e39
    write_weights(tmp_path / "a.npz", wide)
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "a.npz", tmp_path / "b.safetensors")
    (line,) = caught.value.problems
    assert line == (
        f"{tmp_path / 'a.npz'}: layer1.0.bn1.bias = 1e+39: is beyond the range of float32"
    )


def test_denormals_are_kept(tmp_path: Path) -> None:
    tiny = state()
    tiny["layer1.0.bn1.bias"][:4] = [1e-45, -1e-40, 5e-39, -0.0]
    write_weights(tmp_path / "a.pth", tiny)
    convert(tmp_path / "a.pth", tmp_path / "b.npz", to="timm")
    found = read_weights(tmp_path / "b.npz").tensors
    assert all(found[name].tobytes() == value.tobytes() for name, value in tiny.items())


@pytest.mark.parametrize("element", ["int32", "uint8", "bool"])
def test_whole_numbers_are_no_weights(element: str, tmp_path: Path) -> None:
    values = {**state(), "layer1.0.bn1.bias": np.ones(8, element)}
    write_weights(tmp_path / "a.pth", values)
    with pytest.raises(CheckpointError, match=r"layer1\.0\.bn1\.bias = .*must hold floating-point"):
        convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    one = Spec.from_dict({**SMALL.to_dict(), "classes": 1})
    values = {**initial_state(lower(one), 0), "fc.bias": np.ones(1, element)}
    write_weights(tmp_path / "one.pth", values)
    with pytest.raises(CheckpointError, match=r"fc\.bias = .*must hold floating-point"):
        convert(tmp_path / "one.pth", tmp_path / "b.safetensors")


# A full disk

FULL = """
import contextlib, io, json, os, resource, signal, sys
from resnet_spec.cli.main import main
import numpy, safetensors.numpy, resnet_spec.weights.converting, resnet_spec_numpy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
found = {}
for kind, options in json.loads(sys.argv[1]).items():
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        status = main(["convert", "a.pth", *options])
    found[kind] = status, error.getvalue()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(json.dumps(found))
"""
WRITERS = {
    "own": ["b.safetensors"],
    "safetensors": ["b.safetensors", "--to", "timm"],
    "torch": ["b.pth", "--to", "timm"],
    "torch-legacy": ["b", "--to", "timm", "--kind", "torch-legacy"],
    "mindspore": ["b.ckpt", "--to", "mindcv", "--set", "stem.pool_padding=same"],
    "msgpack": ["b.msgpack", "--to", "jax-resnet"],
    "npz": ["b.npz", "--to", "timm"],
    "keras-weights": ["b.weights.h5", "--to", "keras-hub"],
    "keras-h5": ["b.h5", "--to", "keras-hub", "--kind", "keras-h5"],
    "orbax": ["b.orbax", "--to", "jax-resnet"],
}
NEEDS = {"msgpack": "msgpack", "keras-weights": "h5py", "keras-h5": "h5py", "orbax": "tensorstore"}


def test_a_full_disk_is_one_line_of_every_writer(source: Path) -> None:
    asked = {
        kind: options
        for kind, options in WRITERS.items()
        if kind not in NEEDS or importlib.util.find_spec(NEEDS[kind]) is not None
    }
    names = {options[0] for kind, options in asked.items() if kind != "orbax"}
    for kind, options in asked.items():
        if kind != "orbax":
            source.with_name(options[0]).write_bytes(b"before")
            options.append("--overwrite")
    command = [sys.executable, "-c", FULL, json.dumps(asked)]
    done = subprocess.run(
        command, cwd=source.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert len(found) == len(asked) >= 5
    for kind, (status, line) in found.items():
        name = asked[kind][0]
        assert status == 2, kind
        assert line == f"resnet-spec: error: {name}: cannot be written: File too large\n", kind
    assert {it.name for it in source.parent.iterdir()} == {"a.pth", *names}
    assert all(source.with_name(name).read_bytes() == b"before" for name in names)
