"""Processes started together end together, with one line that says which one was lost and why."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError
from resnet_spec.loader import installed_backends
from resnet_spec.running import launching
from resnet_spec.running.child_processes import usable_processors
from resnet_spec.running.launching import Launch, launched
from resnet_spec.weights.checkpoint import load_checkpoint

MANY = f"{usable_processors()} processors"
MOST = max(64, 4 * usable_processors())
OTHERS = """
import os, sys, time, signal
rank = int(os.environ["RANK"])
"""
"""How the programs of the tests begin."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what starts a program in the place of `resnet-spec`: its status, and what is said."""

    def run(
        program: str, processes: int = 2, restarts: int = 0, **where: Any
    ) -> tuple[int, list[str]]:
        real, said = subprocess.Popen, list[str]()
        command = [sys.executable, "-c", OTHERS + program]
        monkeypatch.setattr(launching.subprocess, "Popen", lambda _, **more: real(command, **more))
        return launched(Launch(processes, **where), [], said.append, restarts), said

    return run


def test_all_that_end_well_are_status_0(run: Any, tmp_path: Path) -> None:
    names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    program = f"import json; f = open(r'{tmp_path}/' + str(rank), 'w'); "
    assert run(program + f"json.dump([os.environ[n] for n in {names}], f)", 3) == (0, [])
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert [row[:4] for row in found] == [[str(r), str(r), "3", "127.0.0.1"] for r in range(3)]
    assert len({row[4] for row in found}) == 1 and found[0][4].isdecimal()


def test_one_that_is_killed_ends_all_within_a_second(run: Any) -> None:
    started = time.monotonic()
    status, said = run("os.kill(os.getpid(), 9) if rank == 1 else time.sleep(60)")
    assert (status, said) == (
        3,
        ["rank 1: was ended by SIGKILL (out of memory?); the other is ended, too"],
    )
    assert time.monotonic() - started < 10


def test_one_that_fails_has_said_why_itself(run: Any) -> None:
    assert run("sys.exit(2) if rank == 1 else time.sleep(60)", 3) == (2, [])


def test_one_that_is_stopped_counts_as_lost(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_STOPPED_S", 1.0)
    status, said = run("os.kill(os.getpid(), signal.SIGSTOP) if rank == 0 else time.sleep(60)", 3)
    assert (status, said) == (3, ["rank 0: has been stopped for 1 s; the others are ended, too"])


def test_one_that_does_not_end_after_the_others_is_lost(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_PATIENCE_S", 0.5)
    line = "rank 1: has not ended 0 s after another; the other is ended, too"
    assert run("time.sleep(60 * rank)") == (3, [line])


FAILS_ONCE = "mark = '{}' + str(rank); first = not os.path.exists(mark); open(mark, 'w'); "
"""What tells the first start of a program from the second."""


@pytest.mark.parametrize(
    ("end", "line"),
    [
        ("os.kill(os.getpid(), 9)", "rank 1: was ended by SIGKILL (out of memory?); the other is "),
        ("sys.exit(3)", ""),
    ],
)
def test_all_are_started_again_after_one_is_lost(
    run: Any, tmp_path: Path, end: str, line: str
) -> None:
    program = FAILS_ONCE.format(tmp_path / "mark") + "rank == 1 and first and "
    status, said = run(f"{program}{end}; time.sleep(0.5)", restarts=2)
    assert status == 0
    assert said[-1] == "note: all are started again, 1 of 2" and len(said) == (2 if line else 1)
    assert said[0].startswith(line)


def test_they_are_started_again_no_more_often_than_is_said(run: Any) -> None:
    status, said = run("rank or sys.exit(3); time.sleep(60)", restarts=2)
    assert (status, said) == (3, [f"note: all are started again, {n} of 2" for n in (1, 2)])


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_those_that_ended_by_themselves_are_not_started_again(run: Any, status: int) -> None:
    assert run(f"sys.exit({status})", restarts=2) == (status, [])


@pytest.mark.parametrize("nodes", [1, 2])
def test_other_machines_are_given_time_before_all_are_started_again(
    nodes: int, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[float]()
    monkeypatch.setattr(launching.time, "sleep", waited.append)
    run("os.kill(os.getpid(), 9)", 1, 2, nodes=nodes, address="127.0.0.1:1")
    assert waited.count(5.0) == (2 if nodes > 1 else 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_those_that_are_stopped_as_they_start_are_not_lost(run: Any, number: int) -> None:
    deaf = "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    ask = f"(time.sleep(0.5), os.kill(os.getppid(), {int(number)})); "
    status, said = run(f"{deaf}rank or {ask}time.sleep(60)", restarts=2)
    assert (status, said) == (130, [])


def test_one_that_cannot_go_on_without_one_that_was_stopped_is_not_lost(run: Any) -> None:
    # Rank 1 listens to signals by now, and finds rank 0 gone before it has ended by them.
    late = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))"
    ask = "(time.sleep(0.5), os.kill(os.getppid(), 15))"
    status, said = run(f"rank and {late}; rank or {ask}; time.sleep(60)", restarts=2)
    assert (status, said) == (130, [])


FAILS_TO_SAVE = [
    ("sys.exit(2)", "time.sleep(60)", 2, []),
    ("sys.exit(2)", "sys.exit(130)", 2, []),
    ("sys.exit(130)", "sys.exit(2)", 130, []),
    (
        "time.sleep(60)",
        "os.kill(os.getpid(), 9)",
        3,
        ["rank 1: was ended by SIGKILL (out of memory?); the other is ended, too"],
    ),
]


@pytest.mark.parametrize(("first", "second", "status", "lines"), FAILS_TO_SAVE)
def test_one_that_cannot_save_when_it_is_asked_to_stop_is_told(
    first: str, second: str, status: int, lines: list[str], run: Any
) -> None:
    end = f"({first}) if rank == 0 else (time.sleep(0.3), {second})"
    listen = f"signal.signal(signal.SIGTERM, lambda *_: ({end}))"
    ask = "rank or (time.sleep(1), os.kill(os.getppid(), 15))"
    assert run(f"{listen}; {ask}; time.sleep(60)", restarts=2) == (status, lines)


def test_those_that_saved_and_stopped_are_status_130(run: Any) -> None:
    assert run("sys.exit(130)") == (130, [])


@pytest.mark.parametrize(
    ("launch", "lines"),
    [
        (Launch(0), ["--processes = 0: must be >= 1"]),
        (
            Launch(100_000),
            [f"--processes = 100000: must be at most {MOST} on a machine with {MANY}"],
        ),
        (Launch(1, nodes=0), ["--nodes = 0: must be >= 1"]),
        (
            Launch(1, nodes=2, node=2, address="h:1"),
            ["--rank = 2: must be 0..1, this machine's place among --nodes 2"],
        ),
        (
            Launch(1, nodes=2),
            ["--address: is required with --nodes; give HOST:PORT of the first machine"],
        ),
        (Launch(1, address="host"), ["--address = host: must be HOST:PORT"]),
        (Launch(1, address="host:99999"), ["--address = host:99999: must be HOST:PORT"]),
    ],
)
def test_numbers_that_make_no_group_are_refused(launch: Launch, lines: list[str]) -> None:
    with pytest.raises(BackendError) as caught:
        launched(launch, [], lambda line: None)
    assert list(caught.value.problems) == lines


def test_machines_count_their_processes_on() -> None:
    found = list(Launch(2, nodes=3, node=1, address="first:77").environments())
    assert [row["RANK"] for row in found] == ["2", "3"]
    assert [row["LOCAL_RANK"] for row in found] == ["0", "1"]
    assert {row["WORLD_SIZE"] for row in found} == {"6"}
    assert {(row["MASTER_ADDR"], row["MASTER_PORT"]) for row in found} == {("first", "77")}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "launch: is given no command; end with: -- train SPEC ..."),
        (
            ["--", "list"],
            "launch = list: cannot be run in several processes; only train and evaluate can",
        ),
        (["--", "trian"], "launch = trian: is no command; did you mean 'train'?"),
        (["--backend", "torch"], "--backend: unknown option; put -- before the command"),
    ],
)
def test_what_cannot_be_launched_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "--processes", "2", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"resnet-spec: error: {line}") and said.count("\n") == 1


def test_quiet_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[list[str]]()

    def started(launch: Launch, arguments: list[str], say: object, restarts: int) -> int:
        given.append(arguments)
        return 0

    monkeypatch.setattr(launching, "launched", started)
    assert main(["launch", "--processes", "2", "--quiet", "--", "train", "x"]) == 0
    assert main(["launch", "--processes", "2", "--", "train", "x"]) == 0
    assert given == [["train", "x", "--quiet"], ["train", "x"]]


@pytest.mark.parametrize(
    ("given", "started"),
    [
        (["x"], ["x", "--auto-resume"]),
        (["x", "--auto-resume"], ["x", "--auto-resume"]),
        (["--resume", "run"], ["--resume", "run"]),
        (["--resume", "--out", "run"], ["--resume", "--out", "run"]),
    ],
)
def test_a_run_that_may_be_started_again_goes_on(
    monkeypatch: pytest.MonkeyPatch, given: list[str], started: list[str]
) -> None:
    found = list[tuple[list[str], int]]()

    def launched(launch: Launch, arguments: list[str], say: object, restarts: int) -> int:
        found.append((arguments[1:], restarts))
        return 0

    monkeypatch.setattr(launching, "launched", launched)
    line = ["launch", "--processes", "2", "--max-restarts", "4", "--", "train", *given]
    assert main(line) == 0
    assert found == [(started, 4)]


@pytest.mark.parametrize(
    ("given", "option"),
    [(["x", "--overwrite"], "--overwrite"), (["--resume", "a", "--out", "b"], "--resume RUN with")],
)
def test_a_run_that_would_begin_anew_each_time_is_refused(
    given: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["launch", "--processes", "2", "--max-restarts", "4", "--", "train", *given]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"resnet-spec: error: --max-restarts: would begin anew each time with {option}"
    )


WAITING = re.compile(r"^(at work|first step), \d+ s$")
"""What a busy machine has a run say."""


def command(out: Path, *, processes: int, epochs: int = 2) -> list[str]:
    settings = [f"epochs={epochs}", "batch=120", "precision=float64"]
    train = ["train", "tiny.toml", "--backend", "torch", "--input-size", "8", "--out", str(out)]
    train += [word for setting in settings for word in ("--set", setting)]
    launch = [] if processes == 1 else ["launch", "--processes", str(processes), "--"]
    return [sys.executable, "-P", "-m", "resnet_spec", *launch, *train]


def finished(line: list[str]) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, timeout=120, env=quiet, check=False)


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_a_run_in_two_processes_is_that_of_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = finished(command(here / "run2", processes=2))
    assert two.returncode == 0, two.stderr
    capsys.readouterr()
    assert main(command(here / "run1", processes=1)[4:]) == 0
    alone = capsys.readouterr().out
    # The first process speaks for both; what it says differs in speed and place alone.
    said = [
        [line[:60] for line in text.splitlines()[:-1] if not WAITING.search(line)]
        for text in (two.stdout, alone)
    ]
    assert said[0] == said[1]
    assert two.stderr == ""
    mine, expected = (load_checkpoint(here / f"run{n}" / "last.safetensors").state for n in (2, 1))
    for name, array in expected.items():
        assert np.allclose(mine[name], array, rtol=1e-9, atol=1e-12), name
    summary = json.loads((here / "run2" / "summary.json").read_text())
    assert summary["complete"] and summary["environment"]["processes"] == "2"


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_sigterm_saves_and_stops_all(here: Path) -> None:
    popen = subprocess.Popen(
        command(here / "run", processes=2, epochs=5000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert popen.stdout is not None
        for line in popen.stdout:
            if line.startswith("epoch"):
                break
        popen.send_signal(signal.SIGTERM)
        said, errors = popen.communicate(timeout=60)
    finally:
        popen.kill()
    assert popen.returncode == 130 and errors == ""
    assert "go on with: resnet-spec train --resume" in said.splitlines()[-1]
    last = load_checkpoint(here / "run" / "last.safetensors")
    assert last.progress["step"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_a_launcher_that_is_killed_leaves_no_process(here: Path) -> None:
    program = (
        "import os, subprocess, sys; from resnet_spec.running.launching import Launch; "
        "(first, _) = Launch(2).environments(); child = subprocess.Popen([sys.executable, '-c', "
        "'import os, time; from resnet_spec.running.under_launcher import end_with_launcher; "
        "end_with_launcher(os.environ); print(os.getpid(), flush=True); time.sleep(60)'], "
        "env=first); child.wait()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdout is not None
        child = int(popen.stdout.readline())
        popen.kill()
    until = time.monotonic() + 20
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    """Whether a process runs; one that nobody has waited for is there, too, and does not."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status
