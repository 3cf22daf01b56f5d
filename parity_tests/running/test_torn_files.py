"""What a power cut or a full disk leaves of a run: it goes on, and it is told in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from full_disk import limited, limited_command
from grid_runs import write_run
from heard import heard

from resnet_spec.cli.main import main
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.standing import read_summary
from resnet_spec.errors import DataError, GridError
from resnet_spec.running.metrics import Epoch, append_metrics, keep_metrics, read_metrics, torn
from resnet_spec.running.tracking.forwarding import read_marks
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint


def train(*more: str) -> list[str]:
    command = ["train", "tiny.toml", "--backend", "numpy", "--input-size", "8", "--out", "run"]
    return [*command, "--set", "batch=700", *more]


def epochs(folder: Path, count: int = 3) -> list[Epoch]:
    found = [Epoch(n, 2 * n, 0.1, 1.5, 0.5, 1.0, 0.5, 9.0, 3.0 * n) for n in range(1, count + 1)]
    for epoch in found:
        append_metrics(folder, epoch)
    return found


# --- Metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 2, 30, 150])
def test_a_last_line_cut_anywhere_is_left_out(cut: int, tmp_path: Path) -> None:
    whole = epochs(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    is_whole = cut == 1  # The line's end alone is gone.
    assert read_metrics(tmp_path) == (whole if is_whole else whole[:2])
    assert (torn(tmp_path) is None) == is_whole
    keep_metrics(tmp_path, up_to_step=99)
    append_metrics(tmp_path, whole[2])
    assert torn(tmp_path) is None and len(read_metrics(tmp_path)) == (4 if is_whole else 3)


def test_zeros_at_the_end_are_a_torn_line(tmp_path: Path) -> None:
    whole = epochs(tmp_path)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(bytes(99))
    assert read_metrics(tmp_path) == whole
    assert str(torn(tmp_path)).endswith("its last line is torn, and is left out")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('{"epoch": 2, "st', "line 2 is torn; remove it, or restore the file"),
        ("[1]", "line 2 is not an epoch's metrics: is no table"),
        ('{"epoch": 2}', "line 2 is not an epoch's metrics: lacks step"),
        ("", "line 2"),
    ],
)
def test_a_bad_line_in_the_middle_is_an_error(line: str, rule: str, tmp_path: Path) -> None:
    epochs(tmp_path)
    path = tmp_path / "metrics.jsonl"
    first, _, third = path.read_text().splitlines()
    path.write_text(f"{first}\n{line}\n{third}\n")
    with pytest.raises(DataError) as caught:
        read_metrics(tmp_path)
    assert rule in str(caught.value) and str(caught.value).startswith(f"{path}: ")


def test_what_a_newer_version_wrote_beside_is_left_out(tmp_path: Path) -> None:
    (whole,) = epochs(tmp_path, 1)
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), "new": [1]}) + "\n")
    assert read_metrics(tmp_path) == [whole]


def test_a_run_with_a_torn_line_goes_on_and_is_reported(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train("--set", "epochs=2")) == 0
    path = here / "run" / "metrics.jsonl"
    before = read_metrics(path.parent)
    path.write_bytes(path.read_bytes()[:-30])
    capsys.readouterr()
    note = "note: run/metrics.jsonl: its last line is torn, and is left out"
    assert main(["report", "run", "--out", "rep"]) == 0
    assert note in capsys.readouterr().out
    assert main(["show", "curves", "run"]) == 0
    (here / "run" / "summary.json").unlink()
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 0
    assert note in capsys.readouterr().out
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert summary["complete"] and summary["final_accuracy"] == before[-1].test_accuracy
    assert summary["final_test_loss"] == pytest.approx(before[-1].test_loss)
    assert torn(here / "run") is None


@pytest.mark.parametrize("is_there", [True, False])
def test_lost_metrics_are_said_when_a_run_goes_on(
    is_there: bool, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train("--set", "epochs=2")) == 0
    path = here / "run" / "metrics.jsonl"
    path.write_text("") if is_there else path.unlink()
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 0
    note = "note: run/metrics.jsonl: has 0 of 2 epochs; curves lack the others"
    assert capsys.readouterr().out.count(note) == 1


# --- The other files of a run ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\0\0", '{"backend": 3}', "[" * 100_000])
def test_a_damaged_summary_is_one_line_and_made_anew(
    text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train("--set", "steps=1")) == 0
    path = here / "run" / "summary.json"
    whole = json.loads(path.read_text())
    path.write_text(text)
    with pytest.raises(GridError, match=r"is damaged .*; make it anew: resnet-spec train --resume"):
        read_summary(here / "run")
    capsys.readouterr()
    assert main(["report", "run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "run/summary.json: is damaged" in error
    assert main(["train", "--resume", "run"]) == 0
    anew = json.loads(path.read_text())
    assert {**anew, "final_test_loss": 0} | _OF_THE_PROCESS == whole | _OF_THE_PROCESS | {
        "final_test_loss": 0
    }


_OF_THE_PROCESS = dict.fromkeys(
    ("images_per_second", "first_step_s", "compile_s", "wall_s", "peak_memory_mb")
)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tensorboard": 1}', '{"tensorboard": {}}', '{"t": {"id": 5}}']
)
def test_damaged_marks_of_trackers_are_one_line(text: str, tmp_path: Path) -> None:
    from resnet_spec.errors import TrackingError

    (tmp_path / "tracking.json").write_text(text)
    with pytest.raises(TrackingError, match="remove it to begin new tracked runs"):
        read_marks(tmp_path)


def test_marks_of_a_newer_version_are_read(tmp_path: Path) -> None:
    marks = {"tensorboard": {"id": "x", "step": 3, "complete": True, "new": 1}}
    (tmp_path / "tracking.json").write_text(json.dumps(marks))
    assert read_marks(tmp_path)["tensorboard"].step == 3


def test_damaged_files_of_a_comparison_are_told(tmp_path: Path) -> None:
    result = write_run(tmp_path, "a", "torch", 0, [0.5])
    (result.folder / "failure.json").write_text("{")
    (found,) = of_folders([result.folder]).results
    assert (found.state, found.error) == ("failed", "failed (failure.json cannot be read)")
    cell = json.loads((result.folder / "cell.json").read_text())
    for text, rule in (
        ("{", "cannot be read"),
        (json.dumps({**cell, "seed": "0"}), "describes no run: seed = '0'"),
        (json.dumps({**cell, "recipe": {}}), "describes no run: its recipe has no name"),
    ):
        (result.folder / "cell.json").write_text(text)
        with pytest.raises(GridError, match=rule):
            of_folders([result.folder])


# --- A full disk ----------------------------------------------------------------------------------


def one_line(error: str) -> str:
    (line,) = heard(error)
    assert line.startswith("resnet-spec: error: "), error
    return line.removeprefix("resnet-spec: error: ")


_ROOM = 6000
"""Room for a summary and not for a checkpoint of the tiny network."""


def test_a_first_checkpoint_that_has_no_room_is_one_line(here: Path) -> None:
    ran = limited_command(here, *train("--set", "epochs=1"), room=_ROOM)
    assert ran.returncode == 2
    line = one_line(ran.stderr)
    assert line == "run/best.safetensors: cannot be written: File too large"
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert summary["failed"] == line and not summary["complete"]
    assert {path.name for path in (here / "run").iterdir()} == {"metrics.jsonl", "summary.json"}


def test_the_last_whole_checkpoint_stays_and_the_run_goes_on(here: Path) -> None:
    assert main(train("--set", "epochs=1")) == 0
    size = (here / "run" / "last.safetensors").stat().st_size
    assert main(train("--set", "epochs=3", "--overwrite")) == 0
    whole = read_metrics(here / "run")
    # The metrics have room for one more epoch, and the checkpoints have none.
    assert main(train("--set", "epochs=1", "--set", "recipe.name=x", "--overwrite")) == 0
    checkpoint = load_checkpoint(here / "run" / "last.safetensors")
    assert checkpoint.recipe is not None
    longer = checkpoint.recipe.model_copy(update={"epochs": 3})
    save_checkpoint(here / "run" / "last.safetensors", replace(checkpoint, recipe=longer))
    before = (here / "run" / "last.safetensors").read_bytes()
    ran = limited_command(here, "train", "--resume", "run", room=size - 1000)
    assert ran.returncode == 2 and "cannot be written: File too large" in one_line(ran.stderr)
    assert (here / "run" / "last.safetensors").read_bytes() == before
    assert main(["train", "--resume", "run"]) == 0
    assert [e.epoch for e in read_metrics(here / "run")] == [e.epoch for e in whole]


def test_a_metrics_line_that_has_no_room_leaves_the_whole_ones(tmp_path: Path) -> None:
    epochs(tmp_path, 1)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    code = (
        "from resnet_spec.errors import OutputError\n"
        "from resnet_spec.running.metrics import append_metrics, read_metrics\n"
        "(epoch,) = read_metrics(Path())\n"
        "try: append_metrics(Path(), epoch)\n"
        "except OutputError as error: print(error)\n"
    )
    ran = limited(code, tmp_path, room=size + 50)
    assert ran.stdout == "metrics.jsonl: cannot be written: File too large\n", ran.stderr
    assert (tmp_path / "metrics.jsonl").stat().st_size == size


def test_a_report_that_has_no_room_is_one_line(here: Path) -> None:
    write_run(here / "out", "a", "torch", 0, [0.5])
    folder = str(here / "out" / "runs" / "a-torch-seed0")
    ran = limited_command(here, "report", folder, "--out", "rep", room=3000)
    assert ran.returncode == 2 and one_line(ran.stderr).startswith(
        "rep/report.html: cannot be written: "
    )
    assert not (here / "rep").exists() or not list((here / "rep").iterdir())


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_picture_that_has_no_room_is_one_line(here: Path) -> None:
    folder = here / "run"
    epochs(folder)
    ran = limited_command(here, "show", "curves", "run", "--out", "c.png", room=9000)
    assert (
        ran.returncode == 2 and one_line(ran.stderr) == "c.png: cannot be written: File too large"
    )
    assert not (here / "c.png").exists()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_a_tracker_that_has_no_room_is_one_line_and_leaves_nothing(here: Path) -> None:
    ran = limited_command(here, *train("--set", "epochs=1", "--track", "tensorboard"), room=2000)
    assert ran.returncode == 2
    assert one_line(ran.stderr).startswith("--track tensorboard: ")
    assert "File too large" in ran.stderr
