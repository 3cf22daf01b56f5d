"""Runs of a grid as processes: results, failures, going on, and who may write where."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console
from tiny_run import TINY

from resnet_spec.cli.compare_progress import GridView
from resnet_spec.cli.main import main
from resnet_spec.comparing.cells import Cell, cells_of
from resnet_spec.comparing.grid import Grid
from resnet_spec.comparing.grid_lock import locked
from resnet_spec.comparing.processes import Share
from resnet_spec.comparing.runner import Progress
from resnet_spec.errors import GridError
from resnet_spec.running.metrics import Epoch
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

GRID = """
networks = [
    {label = "tiny", spec = "tiny.toml"},
    {label = "diverges", spec = "tiny.toml", set = ["schedule.rate=1e30"]},
]
backends = ["numpy"]
input_size = 8
set = ["steps=3", "schedule.kind=constant"]
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures, which take seconds, to the tests of reports."""
    monkeypatch.setattr("resnet_spec.comparing.writing.can_draw", lambda: False)


def compare(here: Path, *more: str) -> int:
    return main(["compare", str(here / "grid.toml"), "--out", str(here / "out"), *more])


def rows(here: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((here / "out" / "results.csv").read_text())))


def test_a_grid_runs_and_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(here, "--jobs", "2", "--threads", "1") == 1, "one run fails"
    shown = capsys.readouterr().out
    assert "tiny, numpy, seed 0" in shown and "Runs that failed" in shown
    tiny, diverged = rows(here)
    assert (tiny["state"], tiny["steps"], tiny["jobs"], tiny["threads"]) == (
        "complete",
        "3",
        "2",
        "1",
    )
    assert 0 < float(tiny["final_accuracy"]) < 1 and float(tiny["peak_memory_mb"]) > 10
    assert diverged["state"] == "failed" and "the loss became" in diverged["error"]
    lines = (here / "out" / "results.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first["summary"]["complete"] and first["cell"]["recipe"]["steps"] == 3
    assert (here / "out" / "report.html").is_file()

    folder = here / "out" / "runs" / tiny["folder"]
    before = (folder / "log.txt").read_bytes()
    _check_parquet(here)
    assert compare(here, "--specs", str(here / "tiny.toml")) == 0
    assert [row["network"] for row in rows(here)] == ["tiny"]
    assert (folder / "log.txt").read_bytes() == before, "a complete run is not run again"

    capsys.readouterr()
    assert compare(here, "--set", "steps=4") == 2
    error = capsys.readouterr().err
    assert "holds a run with recipe.steps = 3, and the grid says 4; name another --out" in error
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "steps": 2}))
    assert compare(here) == 2
    assert "a summary with steps = 2, and the grid says 3" in capsys.readouterr().err


def _check_parquet(here: Path) -> None:
    if find_spec("pyarrow") is None:
        return
    parquet = import_module("pyarrow.parquet")
    found = parquet.read_table(here / "out" / "results.parquet").to_pylist()
    texts = [{k: "" if v is None else str(v) for k, v in row.items()} for row in found]
    assert texts == rows(here)


LONG = ("--specs", "tiny.toml", "--backends", "numpy", "--input-size", "8", "--set", "batch=700")


def test_a_stopped_grid_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    arguments = ["compare", *LONG, "--out", "out", "--seeds", "0,1", "--set", "epochs=400"]
    command = [sys.executable, "-m", "resnet_spec.cli.main", *arguments]
    folder = Path("out", "runs", "tiny-numpy-seed0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(folder / "last.safetensors", process)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command goes on" in shown
    summary = json.loads((folder / "summary.json").read_text())
    assert not summary["complete"] and 0 < summary["steps"] < 800
    assert not (folder.parent / "tiny-numpy-seed1").exists()
    with locked(Path("out")):
        pass  # Nothing that the comparison started is left.
    # The rest would take a minute: let the run believe that it is nearly done.
    end = summary["steps"] + 2
    for name in ("recipe.json", "cell.json"):
        file = folder / name
        file.write_text(file.read_text().replace('"epochs": 400', f'"epochs": {end // 2}'))
    checkpoint = load_checkpoint(folder / "last.safetensors")
    assert checkpoint.recipe is not None
    shorter = checkpoint.recipe.model_copy(update={"epochs": end // 2})
    save_checkpoint(folder / "last.safetensors", replace(checkpoint, recipe=shorter))
    assert main(["compare", *LONG, "--out", "out", "--set", f"epochs={end // 2}"]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["complete"] and summary["steps"] == end // 2 * 2
    log = (folder / "log.txt").read_text().splitlines()
    commands = [line for line in log if line.startswith("$ resnet-spec ")]
    assert ["--resume" in command for command in commands] == [False, True]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def test_a_folder_has_one_comparison_and_its_runs_hold_it(tmp_path: Path) -> None:
    with locked(tmp_path) as kept_open:
        with pytest.raises(GridError, match="is in use by another comparison"), locked(tmp_path):
            pass
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(kept_open,)
        )
    with child:
        with pytest.raises(GridError, match="left behind"), locked(tmp_path):
            pass
        child.communicate(b"\n")
    with locked(tmp_path):
        pass


def test_threads_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_spec.running.child_processes.usable_processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Share.of(3) == Share(3, 2)
    assert Share.of(20) == Share(20, 1)
    assert Share.of(1) == Share(1, 8)
    assert Share.of(2, threads=5) == Share(2, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Share.of(2) == Share(2, 3)
    assert Share.of(4) == Share(4, 2)
    environment = Share(4, 2).environment()
    assert environment["OMP_NUM_THREADS"] == environment["NPROC"] == "2"
    assert environment["PATH"] == os.environ["PATH"]


def cells(tmp_path: Path, seeds: int) -> list[Cell]:
    fields = {"networks": ["resnet20_cifar"], "backends": ["numpy"], "seeds": list(range(seeds))}
    return cells_of(Grid.from_dict(fields), tmp_path)


EPOCH = Epoch(3, 66, 0.1, 1.5, 0.5, 1.25, 0.625, 321.0, 30.0)


def test_a_terminal_shows_what_has_room(tmp_path: Path) -> None:
    console = Console(force_terminal=True, width=100, height=10, file=io.StringIO())
    grid = cells(tmp_path, 6)
    view = GridView(grid, console)
    view.changed(Progress(grid[4], "running", (EPOCH,)))
    view.changed(Progress(grid[0], "complete", (EPOCH,)))
    view.changed(Progress(grid[5], "failed", (), "the loss became nan"))
    with console.capture() as captured:
        console.print(view.table())
    shown = captured.get()
    assert "1 running, 1 failed, 3 waiting, 1 complete; 3 more not shown" in shown
    (running,) = (line for line in shown.splitlines() if "3/12" in line and "running" in line)
    for text in ("3/12", "0.6250", "321", "1:30"):
        assert text in running, "nine epochs are left, ten seconds each"


def test_elsewhere_every_event_is_a_line(tmp_path: Path) -> None:
    file = io.StringIO()
    grid = cells(tmp_path, 2)
    with GridView(grid, Console(file=file, soft_wrap=True)) as view:
        view.changed(Progress(grid[0], "running"))
        view.changed(Progress(grid[0], "running", (EPOCH,)))
        view.changed(Progress(grid[0], "complete", (EPOCH,)))
        view.changed(Progress(grid[1], "failed", (), "[bold]the loss became nan"))
    lines = file.getvalue().splitlines()
    assert lines[0] == "resnet20_cifar, numpy, seed 0  running"
    assert lines[1].endswith("epoch 3/12, test accuracy 0.6250, 321 images/s  1:30 left")
    assert lines[2].endswith("[1/2 runs]")
    assert lines[3].endswith("failed    [bold]the loss became nan")
