"""A run's folder: no wrong option costs a run, two runs do not meet, --resume means one run."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spec.cli.main import main
from resnet_spec.errors import BusyError, CheckpointError, DataError, GridError
from resnet_spec.files import locking
from resnet_spec.running import run_folder
from resnet_spec.running.run_folder import Begins, RunFolder
from resnet_spec.running.training import train
from resnet_spec.weights.checkpoint import load_checkpoint

FRESH = ("train", "tiny.toml", "--backend", "numpy", "--input-size", "8", "--set", "steps=2")


def fresh(*more: str, out: str = "run") -> int:
    return main([*FRESH, "--out", out, *more])


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("resnet-spec: error: ") and error.count("\n") == 1, error
    return error.removeprefix("resnet-spec: error: ").rstrip()


# --- Effects before checks ------------------------------------------------------------------------


@pytest.fixture
def old(here: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """A run in `run`, with the files that it left."""
    assert fresh() == 0
    capsys.readouterr()
    return files(here / "run")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--backend", "nump"),
        ("--device", "gpu"),
        ("--set", 'precision="bfloat16"'),
        ("--recipe", "dmo"),
        ("--data", "digitz"),
        ("--set", "schedul.rate=1"),
        ("--set", "schedule.warmup=9"),
        ("--set", "batch=9999"),
        ("--set", "stages[0].width=-1"),
        ("--track", "tensorbord"),
        ("--pretrained", "no-such-weights"),
        ("--head", "keep"),
        ("--freeze", "stages=9"),
        ("--input-size", "0"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_leaves_the_run_that_was_to_be_replaced(
    wrong: tuple[str, ...], old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh("--overwrite", *wrong) == 2
    error_of(capsys)
    assert files(here / "run") == old


def test_a_run_that_fails_before_its_first_checkpoint_gives_the_old_one_back(
    old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh("--overwrite", "--set", "schedule.rate=1e30", "--set", "steps=9") == 2
    shown = capsys.readouterr()
    assert "note: the run that was in run is put back; the new one came to nothing" in shown.out
    assert "the loss became" in shown.err
    assert files(here / "run") == old


def test_a_tracker_that_cannot_be_reached_gives_the_old_run_back(
    old: dict[str, bytes], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> object:
        raise RuntimeError("nobody answers")

    monkeypatch.setattr("resnet_spec.running.tracking.forwarding.starter", unreachable)
    monkeypatch.setattr("resnet_spec.running.tracking.choice._problem", lambda name: "")
    assert fresh("--overwrite", "--track", "mlflow") == 2
    assert files(here / "run") == old


def test_a_run_that_is_replaced_goes_when_the_new_one_has_a_checkpoint(
    old: dict[str, bytes], here: Path
) -> None:
    assert fresh("--overwrite", "--set", "seed=5") == 0
    now = files(here / "run")
    assert now.keys() == old.keys() and now["last.safetensors"] != old["last.safetensors"]


def test_the_best_alone_is_a_run_too(
    old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run" / "last.safetensors").unlink()
    assert fresh() == 2
    assert "holds a run" in error_of(capsys)


def test_what_a_killed_process_left_is_put_right(here: Path, old: dict[str, bytes]) -> None:
    """The process was killed while it moved files, and after it had moved them away."""
    run = here / "run"

    def killed(where: str) -> None:
        (run / where).mkdir()
        moved = ["last.safetensors"] if where.endswith("moving") else list(old)
        for name in moved:
            (run / name).rename(run / where / name)
        if not where.endswith("moving"):
            (run / "metrics.jsonl").write_text("of the new run")
        (run / ".last.safetensors.x1.tmp").write_bytes(b"half")

    for where in (".replaced-moving", ".replaced"):
        killed(where)
        assert run_folder.checkpoint_to_go_on(run).is_file()
        assert main(["train", "--resume", "run"]) == 0
        assert files(run) == old
    killed(".replaced")
    (run / "last.safetensors").write_bytes(b"the new one's")
    with RunFolder(run).held(Begins(overwrite=True), None, print):
        pass
    assert (run / "last.safetensors").read_bytes() == b"the new one's"
    assert not (run / ".replaced").exists()


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(here: Path) -> None:
    Path("file").write_text("")
    for out in ("file", "file/below", "file/far/below"):
        with pytest.raises(DataError, match="is a file, and a run needs a folder"):
            train("tiny.toml", "numpy", out=out)
    assert sorted(path.name for path in here.iterdir()) == ["file", "tiny.toml"]


def test_a_link_to_nothing_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    for out in (tmp_path / "link", tmp_path / "link" / "run"):
        with pytest.raises(DataError, match="is a link to nothing"):
            RunFolder(out).check_free(overwrite=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "link"]


# --- Two runs in one folder -----------------------------------------------------------------------


def test_a_folder_has_one_run_at_a_time(
    old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(here / "run").locked(print):
        for arguments in ((*FRESH, "--out", "run", "--overwrite"), ("train", "--resume", "run")):
            assert main(arguments) == 2
            assert "--out = run: is in use by another run (process " in error_of(capsys)
    assert files(here / "run") == old, "the lock leaves nothing"
    assert main(["train", "--resume", "run"]) == 0


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from resnet_spec.running.run_folder import RunFolder
with RunFolder(Path({str(tmp_path / "run")!r})).locked(print):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        refused = pytest.raises(BusyError, match=f"process {process.pid}")
        with refused, RunFolder(tmp_path / "run").locked(print):
            pass
        process.kill()
    with RunFolder(tmp_path / "run").locked(print):
        pass
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said: list[str] = []
    with locking.locked(tmp_path / "run", lambda holder: GridError(holder), said.append):
        assert (tmp_path / "run" / ".lock").is_file()
    (note,) = said
    assert note.endswith("cannot be locked (No locks available); let no other run write there")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes the file after it was opened and before it is locked."""
    fcntl = pytest.importorskip("fcntl")
    real, path = fcntl.flock, tmp_path / ".lock"
    removed: list[Path] = []

    def late(descriptor: int, how: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    folder = RunFolder(tmp_path)
    with folder.locked(print), pytest.raises(BusyError), folder.locked(print):
        pass
    assert removed


# --- What --resume means --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "run/last.safetensors", "run/"])
def test_a_run_or_its_last_checkpoint_goes_on_in_its_folder(
    name: str, old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run" / "summary.json").unlink()
    assert main(["train", "--resume", name]) == 0
    assert "left in run" in capsys.readouterr().out
    assert not (here / "runs").exists() and files(here / "run").keys() == old.keys()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--resume"], "--resume: needs a run; give --resume RUN or --out DIR"),
        (["--resume", "rum"], "--resume = rum: there is no such run; did you mean 'run'?"),
        (["--resume", "."], "holds no last.safetensors; name a run in it: other, run"),
        (["--resume", "empty"], "--resume = empty: holds no last.safetensors; begin it anew"),
        (["--resume", "run/best.safetensors"], "holds weights alone; use run/last.safetensors"),
        (["--resume", "copy.safetensors"], "is not a run's last.safetensors"),
        (["--resume", "--out", "empty"], "--resume: --out = empty: holds no last.safetensors"),
        (["--resume", "run", "--input-size", "16"], "--input-size: cannot be changed"),
        (["--resume", "run", "--head-rate", "2"], "--head-rate: cannot be changed"),
        (["--resume", "run", "--overwrite"], "--overwrite: would replace the run to go on with"),
        (["--resume", "run", "--out", "other"], "--out = other: holds a run"),
        (["--resume", "run", "--device", "gpu"], "device = gpu"),
        (["tiny.toml", "--resume", "run"], "SPEC: cannot be changed"),
    ],
)
def test_what_cannot_be_resumed_is_told(
    arguments: list[str],
    line: str,
    old: dict[str, bytes],
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    Path("other").mkdir()
    for name in ("other/last.safetensors", "copy.safetensors"):
        Path(name).write_bytes(old["last.safetensors"])
    assert main(["train", *arguments]) == 2
    assert line in error_of(capsys)
    assert files(here / "run") == old and not list(Path("empty").iterdir())


@pytest.mark.parametrize("name", ["nowhere/x", "empty/x"])
def test_a_run_with_no_other_beside_it_is_told_of_none(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert main(["train", "--resume", name]) == 2
    assert error_of(capsys) == f"--resume = {name}: there is no such run"


def test_a_run_goes_on_elsewhere_and_leaves_its_folder_as_it_is(
    old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", "run", "--out", "far/other"]) == 0
    shown = capsys.readouterr().out
    assert "note: the run of run goes on in far/other; run stays as it is" in shown
    assert files(here / "run") == old
    assert files(here / "far" / "other") == old, "a finished run is copied whole"
    capsys.readouterr()
    assert main(["train", "--resume", "far/other"]) == 0
    assert "left in far/other" in capsys.readouterr().out


def test_a_finished_run_goes_on_in_the_place_of_another(
    old: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh("--set", "seed=5", out="other") == 0
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--out", "other", "--overwrite"]) == 0
    shown = capsys.readouterr().out
    assert "left in other" in shown and "put back" not in shown
    assert files(here / "other") == files(here / "run") == old


def test_a_run_that_another_process_trained_meanwhile_is_not_gone_on_with(
    old: dict[str, bytes], here: Path
) -> None:
    start = load_checkpoint(here / "run" / "last.safetensors")
    stale = {**start.progress, "step": 1}
    begins = Begins(goes_on_from=here / "run", progress=stale)
    refused = pytest.raises(DataError, match="another process has trained this run meanwhile")
    with refused, RunFolder(here / "run").held(begins, start, print):
        pass


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"bogus": 1}, "has what this version does not know (bogus); update"),
        ({"step": "two"}, "is damaged (step = two)"),
        ({"best_accuracy": float("nan")}, "is damaged (best_accuracy = nan)"),
        ({"legs": [1]}, "is damaged (legs)"),
        ({"legs": 1}, "is damaged (legs)"),
        ({"legs": [["numpy", "1"]]}, "is damaged (legs)"),
        ({"data_changes": "abc"}, "is damaged (data_changes)"),
        ({"data_changes": [1]}, "is damaged (data_changes)"),
        ({"data_changes": None}, "is damaged (data_changes)"),
        ({"step": -5}, "is damaged (step = -5: must be >= 0)"),
        ({"count": -1}, "is damaged (count = -1: must be >= 0)"),
        ({"correct": -1}, "is damaged (correct = -1: must be >= 0)"),
        ({"correct": 9, "count": 8}, "is damaged (correct = 9: must be <= count = 8)"),
        ({"best_epoch": -1}, "is damaged (best_epoch = -1: must be >= 0)"),
        ({"best_epoch": 3, "epoch_steps": 2}, "is damaged (best_epoch = 3: comes after step 3)"),
        ({"wall_s": -0.5}, "is damaged (wall_s = -0.5: must be >= 0)"),
        ({"epoch_steps": -2}, "is damaged (epoch_steps = -2: must be >= 0)"),
        ({"best_accuracy": 7.0}, "is damaged (best_accuracy = 7.0: must be >= 0 and <= 1, or -1"),
        ({"best_accuracy": -0.5}, "is damaged (best_accuracy = -0.5: must be >= 0 and <= 1"),
        ({"legs": [["numpy", 99]]}, "is damaged (legs = [['numpy', 99]]: end at step 3)"),
        ({"legs": [["numpy", 0]]}, "is damaged (legs = [['numpy', 0]]: end at step 3)"),
        ({"legs": [["torch", 3], ["numpy", 1]]}, "['numpy', 1]]: end at step 3)"),
    ],
)
def test_a_position_that_is_none_is_one_line(change: dict[str, object], line: str) -> None:
    from resnet_spec.running.runs import Position

    with pytest.raises(CheckpointError) as caught:
        Position.from_dict({**Position(step=3).to_dict(), **change})
    assert line in str(caught.value)


def test_a_position_at_the_ends_of_its_ranges_is_one() -> None:
    from resnet_spec.running.runs import Leg, Position

    legs = (Leg("numpy", 1), Leg("torch", 4))
    ends = Position(3, 0.0, 8, 8, 1.0, 2, 0.0, legs, 2, ("a line",))
    assert Position.from_dict(ends.to_dict()) == ends


# --- Comparisons ----------------------------------------------------------------------------------


def test_a_comparison_leaves_a_folder_that_somebody_trains_in(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ("compare", "--specs", "tiny.toml", "--backends", "numpy", "--input-size", "8")
    cell = here / "out" / "runs" / "tiny-numpy-seed0"
    with RunFolder(cell).locked(print):
        assert main([*grid, "--set", "steps=2", "--out", "out"]) == 1
        assert "is in use by another run (process " in capsys.readouterr().out
        assert [path.name for path in cell.iterdir()] == [".lock"]
    assert main([*grid, "--set", "steps=2", "--out", "out"]) == 0
    assert json.loads((cell / "summary.json").read_text())["complete"]
    assert not list(here.rglob(".lock"))
