"""scripts/faults.py and scripts/memory_flat.py: a cut of each, and that they see what is wrong."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.loader import installed_backends

SCRIPTS = Path(__file__).parents[2] / "scripts"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they look at /proc")


def ran(*words: object, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


# --- Faults ---------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_a_cut_of_all_faults_with_torch(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    script = SCRIPTS / "faults.py"
    found = ran(script, "--backends", "torch", "--moments", 2, "--out", out, seconds=1500)
    assert found.returncode == 0, found.stdout + found.stderr
    trials = json.loads(out.read_text())["trials"]
    counts = {it["kind"]: sum(other["kind"] == it["kind"] for other in trials) for it in trials}
    twice = {"kill": 4, "stop": 4}
    kinds = ("kill", "write", "stop", "full", "readonly", "drop", "nan", "corrupt")
    assert counts == {kind: twice.get(kind, 2) for kind in kinds}


@pytest.mark.thorough
@pytest.mark.skipif("flax" not in installed_backends(), reason="flax is not installed")
def test_faults_that_jax_has_words_of_its_own_for() -> None:
    cut = ("--backends", "flax", "--moments", 1, "--kinds", "kill,stop,full")
    found = ran(SCRIPTS / "faults.py", *cut, seconds=1000)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fault_kinds  # pyright: ignore[reportMissingImports]

    return fault_kinds


def test_the_one_line_names_the_rank_and_the_cause(kinds: Any) -> None:
    line = (
        "resnet-spec: error: rank 1: was ended by SIGKILL (out of memory?); the other is ended, too"
    )
    killed = kinds.KINDS["kill"]
    assert kinds.line_of(killed, 1).fullmatch(line)
    assert not kinds.line_of(killed, 0).fullmatch(line)
    full = "resnet-spec: error: rank 0: a: cannot be written: No space left on device"
    assert kinds.line_of(kinds.KINDS["full"], 0).fullmatch(full)
    assert not kinds.line_of(kinds.KINDS["readonly"], 0).fullmatch(full)


class Ended:
    """A run that was struck: it came to what it is told."""

    def __init__(self, status: int | None, errors: list[str], left: int) -> None:
        self.told = status, [], errors, left

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is there."""

    def ended(self, seconds: float) -> Any:
        del seconds
        return self.told


GOOD = "resnet-spec: error: rank 0: was ended by SIGKILL (out of memory?); the other is ended, too"


@pytest.mark.parametrize(
    ("status", "errors", "left", "same", "wrong"),
    [
        (1, [GOOD], 0, True, None),
        (1, ["at work, 10 s", GOOD], 0, True, None),
        (None, [GOOD], 0, True, "in_time"),
        (1, [GOOD, "Traceback"], 0, True, "one_line"),
        (1, [], 0, True, "one_line"),
        (1, [GOOD], 1, True, "nothing_left"),
        (1, [GOOD], 0, False, "same_bits"),
    ],
)
def test_what_is_asked_in_vain_is_seen(
    status: int | None,
    errors: list[str],
    left: int,
    same: bool,
    wrong: str | None,
    kinds: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    described = importlib.util.spec_from_file_location("scripts_faults", SCRIPTS / "faults.py")
    assert described is not None and described.loader is not None
    faults: Any = importlib.util.module_from_spec(described)
    monkeypatch.setitem(sys.modules, "scripts_faults", faults)
    described.loader.exec_module(faults)
    place = kinds.Place(tmp_path, "torch", 2, None)
    monkeypatch.setattr(kinds.Place, "begin", lambda self, poison="": Ended(status, errors, left))
    monkeypatch.setitem(kinds.KINDS, "kill", kinds.KINDS["kill"]._replace(strike=lambda it: None))
    monkeypatch.setattr(faults, "_gone_on", lambda *_: "" if same else "another state")
    sound = faults.Whole(faults.End("", ()), 1.0)
    once, again = faults.chain(place, "kill", iter([0, 0]), random.Random(1), sound, 2)
    assert again == replace(once, goes_on=True, seconds=again.seconds)
    trial = once
    assert [name for name in faults.ASKED if not getattr(trial, name)] == ([wrong] if wrong else [])
    assert trial.is_good == (wrong is None)
    row = next(faults.rows([trial, replace(trial, lost_nothing=False)]))
    assert row[:3] == ["torch", "SIGKILL", "2"] and row[-2] == "1"


# --- Memory ---------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("backend", installed_backends())
def test_a_run_takes_no_more_memory_the_longer_it_goes_on(backend: str) -> None:
    # What JAX's allocator takes in at first goes on until step 300: 11 to 16 MB after step 100.
    cut = ("--steps", 500, "--every", 50, "--warm-up", 300, "--most", 6)
    found = ran(SCRIPTS / "memory_flat.py", backend, *cut, seconds=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1].startswith(f"| {backend} | 3")


def test_growth_is_that_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import memory_flat  # pyright: ignore[reportMissingImports]

    seen = [(step, 100.0 + step / 100) for step in range(200, 2001, 200)]
    seen[0] = (200, 5.0)
    growth = memory_flat.Growth.of(seen, 400)
    assert (growth.begin, growth.grown) == (104.0, 16.0)
    assert growth.slope == pytest.approx(10.0)


def test_resident_memory_grows_by_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import memory_flat  # pyright: ignore[reportMissingImports]

    before = memory_flat.resident_mb()
    assert before > 20
    with mmap(-1, 64_000_000) as taken:  # The system's own: malloc may have as much left over.
        for _ in range(64):
            taken.write(b"1" * 1_000_000)
        assert memory_flat.resident_mb() - before == pytest.approx(64, abs=8)
