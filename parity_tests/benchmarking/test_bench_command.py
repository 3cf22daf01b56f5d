"""`resnet-spec bench`: a real, tiny run of every backend, and what is refused before one."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bench_cases import asked
from test_bench_results import SCHEMA

from resnet_spec.benchmarking.entries import Entry, peers, usable_peers
from resnet_spec.benchmarking.process import WorkerProcess
from resnet_spec.cli.main import main
from resnet_spec.errors import OutputError
from resnet_spec.loader import installed_backends, manifest_of

FACTORIES = Path(__file__).parent
SMALL = ["--classes", "2", "--batch", "2", "--rounds", "1", "--seconds", "0.01", "--threads", "1"]


slow = pytest.mark.thorough


def _marked() -> list[Any]:
    """Return the installed backends; those that compile are thorough, for they take their time."""

    def compiles(name: str) -> bool:
        found = manifest_of(name)
        return found is not None and found.compiles == "always"

    names = installed_backends()
    return [pytest.param(name, marks=slow if compiles(name) else ()) for name in names]


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(FACTORIES), str(FACTORIES.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(str(FACTORIES))


def _measured() -> list[Any]:
    """Return backends and modes; what is profiled in test_profile_command.py predicts there."""
    again = {"predict": ("torch",)}
    return [
        pytest.param(*it.values, mode, marks=slow if it.values == again.get(mode) else it.marks)
        for it in _marked()
        for mode in ("train", "predict")
    ]


@pytest.mark.parametrize(("backend", "mode"), _measured())
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


@pytest.mark.parametrize("backend", _marked())
def test_a_backend_that_waits_takes_no_processor(backend: str) -> None:
    with WorkerProcess(threads=2) as process:
        entry = asdict(Entry(backend, backend))
        process.ask({"asked": asked(mode="train", threads=2).to_dict(), "entry": entry})
        for told in ({"turn": 2}, {"product": 2}):
            assert process.ask(told)["is_quiet"]
        time.sleep(1.5)
        ended = process.ask({"end": True})
    assert ended["waited_s"] >= 1.5 and ended["idle_s"] < 0.02 * ended["waited_s"]


def test_a_table_is_printed_and_files_are_left(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", *SMALL]
    words += ["--against", "bench_cases:sleeper,bench_cases:broken", "--out", "found"]
    assert main(words) == 1, "a function of one's own failed"
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


def test_everyone_is_started_as_often_as_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    class Counted(WorkerProcess):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            pids.append(self.pid)

    monkeypatch.setattr("resnet_spec.benchmarking.rounds.WorkerProcess", Counted)
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", *SMALL]
    words += ["--against", "bench_cases:sleeper", "--starts", "2", "--out", "found"]
    assert main(words) == 0
    assert len(set(pids)) == len(pids) == 4
    printed = capsys.readouterr().out
    assert "batch 2, float32: 2 starts of 1 round of " in printed and "between starts" in printed
    written = json.loads(Path("found/bench.json").read_text())
    jsonschema.validate(written, SCHEMA)
    for one in written["contestants"]:
        assert one["turns_s"] == [start["turns_s"][0] for start in one["starts"]]
        assert len(one["turns_s"]) == 2
    assert "| between starts |" in Path("found/bench.md").read_text()


def test_what_was_measured_is_printed_though_it_cannot_be_written(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("found/bench.json", OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("resnet_spec.benchmarking.files.write_files", full)
    words = ["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", *SMALL]
    assert main([*words, "--out", "found"]) == 2
    captured = capsys.readouterr()
    assert "\nnumpy " in captured.out and "No space left" in captured.err


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
        (["--backends", "numpy", "--starts", "0"], "--starts = 0: must be >= 1"),
        (["--backends", "numpy", "--starts", "21"], "--starts = 21: must be <= 20"),
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
@pytest.mark.parametrize("mode", ["train", "predict"])
@pytest.mark.parametrize("peer", sorted(peers()))
def test_an_installed_peer_is_measured(
    peer: str, mode: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is exported is held against the reference before; other peers are known by name."""
    if peer not in usable_peers(peers(), "train" if mode == "train" else "predict"):
        pytest.skip(f"{peer} is not installed, or does not {mode}")
    words = ["bench", "resnet18", "--input-size", "32", "--backends", "numpy", "--mode", mode]
    assert main([*words, *SMALL, "--against", peer, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    assert found["failed"] == {} and found["left_out"] == []
    ours, other = found["contestants"]
    assert other["name"] == peer and other["is_peer"] and not ours["is_peer"]
    assert other["compared_with"] == "numpy" and len(other["turns_s"]) == 1
    assert {"device", "precision"} <= set(other["info"])


@pytest.mark.thorough
def test_a_peer_that_knows_names_refuses_another_network(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "linen" not in usable_peers(peers(), "train"):
        pytest.skip("flax is not installed")
    words = ["bench", "resnet18", "--input-size", "32", "--set", "norm.eps=1e-3", *SMALL]
    assert main([*words, "--backends", "numpy", "--mode", "predict", "--against", "linen"]) == 0
    printed = capsys.readouterr().out
    assert "failed: linen: starting: network = resnet18: is no preset as it is, and " in printed
