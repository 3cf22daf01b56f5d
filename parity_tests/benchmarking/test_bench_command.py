"""`resnet-spec bench`: a real, tiny run of every backend, and what is refused before one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from test_bench_results import SCHEMA

from resnet_spec.cli.main import main
from resnet_spec.loader import installed_backends, manifest_of

FACTORIES = Path(__file__).parent
SMALL = ["--classes", "2", "--batch", "2", "--rounds", "1", "--seconds", "0.01", "--threads", "1"]


def _marked() -> list[object]:
    """Return the installed backends; those that compile are thorough, for they take their time."""

    def compiles(name: str) -> bool:
        found = manifest_of(name)
        return found is not None and found.compiles == "always"

    slow = pytest.mark.thorough
    names = installed_backends()
    return [pytest.param(name, marks=slow if compiles(name) else ()) for name in names]


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(FACTORIES), str(FACTORIES.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(str(FACTORIES))


@pytest.mark.parametrize("mode", ["train", "predict"])
@pytest.mark.parametrize("backend", _marked())
def test_a_backend_is_measured(
    backend: str, mode: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", backend, "--mode", mode]
    assert main([*words, *SMALL, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    (one,) = found["contestants"]
    assert one["name"] == backend and len(one["turns_s"]) == 1 and one["turns_s"][0] > 0
    assert len(one["product_gflops"]) == 1 and one["product_gflops"][0] > 0
    assert one["product_size"] == 1024 and one["product_of"] == backend
    assert one["info"]["precision"] == "float32" and one["memory_mb"] > 10
    assert one["start_s"] > 0 and one["first_step_s"] > 0


def test_a_table_is_printed_and_files_are_left(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", *SMALL]
    words += ["--against", "bench_cases:sleeper,bench_cases:broken", "--out", "found"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "train tiny, 8 px, batch 2, float32: 1 round of " in printed
    assert "failed: bench_cases:broken: starting: ValueError: has no such network" in printed
    assert "bench_cases:sleeper " in printed and "\nnumpy " in printed
    written = json.loads(Path("found/bench.json").read_text())
    jsonschema.validate(written, SCHEMA)
    assert [one["name"] for one in written["contestants"]] == ["numpy", "bench_cases:sleeper"]
    assert Path("found/bench.md").read_text().startswith("# train tiny")
    assert main(words) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err


def test_the_status_is_1_where_one_of_ours_fails(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", *SMALL]
    assert main([*words, "--device", "cuda:7", "--against", "bench_cases:sleeper"]) == 1
    assert "failed: numpy: starting: device = cuda:7: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--backends", "nunpy"], "backend = nunpy: does not exist; did you mean 'numpy'?"),
        (["--backends", "numpy", "--against", "tim"], "--against = tim: is no peer; did you mean"),
        (["--backends", "numpy", "--precision", "float33"], "--precision = float33: must be"),
        (["--backends", "numpy", "--rounds", "0"], "--rounds = 0: must be >= 1"),
        (["--backends", "numpy", "--seconds", "nan"], "--seconds = nan: must be a positive"),
        (["--backends", "numpy", "--batch", "-3"], "--batch = -3: must be >= 1"),
        (["--mode", "tran"], "--mode = tran: must be train or predict; did you mean 'train'?"),
        (["--backends", "numpy", "--input-size", "0"], "input.size"),
        (["--backends", "numpy", "--out", "tiny.toml"], "--out = tiny.toml: is a file"),
    ],
)
def test_what_is_wrong_is_told_before_a_process_is_started(
    words: list[str],
    line: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", started)
    assert main(["bench", "tiny.toml", *words]) == 2
    captured = capsys.readouterr()
    assert line in captured.err and captured.out == "" and captured.err.count("\n") == 1


@pytest.mark.thorough
def test_what_is_exported_is_run_by_the_runtime(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", "--mode", "predict"]
    assert main([*words, *SMALL, "--against", "onnxruntime", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == {}
    assert [one["name"] for one in found["contestants"]] == ["numpy", "onnxruntime"]
    assert "onnxruntime" in found["contestants"][1]["info"]
