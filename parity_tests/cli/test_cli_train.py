"""The commands train, evaluate and predict, as a user types them, with the reference backend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from resnet_spec.cli.main import main


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def train(folder: Path, *more: str) -> int:
    out = str(folder / "run")
    spec = str(folder / "tiny.toml")
    arguments = ["--backend", "numpy", "--input-size", "8", "--set", "steps=3", "--out", out]
    return main(["train", spec, *arguments, *more])


def test_train_evaluate_and_predict(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tiny) == 0
    shown = capsys.readouterr().out
    assert "classes = 1000 of tiny becomes 10, as in digits" in shown
    assert "epoch 1/1  train loss" in shown and "left in" in shown
    summary = json.loads((tiny / "run" / "summary.json").read_text())
    best = str(tiny / "run" / "best.safetensors")

    assert main(["evaluate", best, "--backend", "numpy", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == summary["best_accuracy"]
    assert found["count"] == 360
    assert found["loss"] == pytest.approx(summary["final_test_loss"], rel=1e-6)

    image = tiny / "image.png"
    Image.fromarray(np.full((20, 12, 3), 90, np.uint8)).save(image)
    assert main(["predict", best, str(image), "--backend", "numpy", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["image"] == str(image)
    probabilities = [c["probability"] for c in row["classes"]]
    assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
    assert all(c["class"] in "0123456789" for c in row["classes"])


def test_last_is_evaluated_as_the_run_was(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tiny, "--set", "ema.decay=0.5") == 0
    capsys.readouterr()
    last = str(tiny / "run" / "last.safetensors")
    assert main(["evaluate", last, "--backend", "numpy", "--format", "json"]) == 0
    summary = json.loads((tiny / "run" / "summary.json").read_text())
    assert json.loads(capsys.readouterr().out)["accuracy"] == summary["final_accuracy"]


def test_a_run_is_not_overwritten_by_accident(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny) == 0
    assert train(tiny) == 2
    assert (
        "holds a run; go on with --resume, replace it with --overwrite" in capsys.readouterr().err
    )
    assert train(tiny, "--overwrite") == 0


def test_resuming_a_finished_run_changes_nothing(tiny: Path) -> None:
    assert train(tiny) == 0
    before = (tiny / "run" / "metrics.jsonl").read_text()
    assert main(["train", "--resume", str(tiny / "run")]) == 0
    assert (tiny / "run" / "metrics.jsonl").read_text() == before


def test_settings_reach_recipe_and_spec(tiny: Path) -> None:
    assert train(tiny, "--set", "stages[0].blocks=2", "--set", "optimizer.momentum=0.5") == 0
    from resnet_spec.weights.checkpoint import load_checkpoint

    kept = load_checkpoint(tiny / "run" / "last.safetensors")
    assert kept.spec.stages[0].blocks == 2
    assert kept.recipe is not None and kept.recipe.optimizer.momentum == 0.5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--backend", "nump"], "backend = nump: does not exist; did you mean 'numpy'?"),
        (["--data", "digitz"], "did you mean 'digits'?"),
        (["--recipe", "dmo"], "did you mean 'demo'?"),
        (["--set", "schedul.rate=1"], "unknown key 'schedul'; did you mean 'schedule'?"),
        (["--set", "batch=2000"], "batch = 2000"),
        (["--set", "schedule.rate=-1"], "schedule.rate = -1: must be > 0"),
        (["--input-size", "0"], "size = 0"),
        (["--device", "gpu"], "device = gpu"),
        (["--set", 'precision="bfloat16"'], "precision = bfloat16"),
    ],
)
def test_bad_arguments_give_one_line_and_leave_nothing(
    arguments: list[str], line: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("resnet-spec: error: ") and error.count("\n") == 1
    assert line in error
    assert not (tiny / "run").exists()


def test_bad_checkpoints_and_images(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tiny / "bad.safetensors"
    bad.write_bytes(b"no")
    assert main(["evaluate", str(bad), "--backend", "numpy"]) == 2
    assert "is no weight file of a known kind" in capsys.readouterr().err
    assert main(["evaluate", str(tiny / "none"), "--backend", "numpy"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert train(tiny) == 0
    best = str(tiny / "run" / "best.safetensors")
    capsys.readouterr()
    assert main(["predict", best, str(bad), "--backend", "numpy"]) == 2
    assert str(bad) in capsys.readouterr().err
    assert main(["evaluate", best, "--backend", "numpy", "--batch", "0"]) == 2
    assert "--batch = 0: must be >= 1" in capsys.readouterr().err
    assert main(["train", "--resume", best]) == 2
    assert "holds weights alone" in capsys.readouterr().err
    assert main(["train", "--resume", str(tiny / "run"), "--set", "steps=9"]) == 2
    assert "--set: cannot be changed in the middle of a run" in capsys.readouterr().err
