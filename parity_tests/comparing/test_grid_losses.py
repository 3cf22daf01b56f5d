"""Training losses stand side by side that are of one loss, or it is said that they are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from grid_runs import write_run

from resnet_spec.cli.main import main
from resnet_spec.comparing.cell_folder import CELL
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.results import Result
from resnet_spec.comparing.training_losses import different_losses
from resnet_spec.describing.recipes import load_recipe

_DIGEST = f"loss.teacher_digest=xxh3-128:{'0' * 32}"
_TAUGHT = ("loss.teacher=/models/wide.pth", _DIGEST, "loss.temperature=4")
_OTHER = (*_TAUGHT[:1], f"loss.teacher_digest=xxh3-128:{'1' * 32}", _TAUGHT[2])


def run(folder: Path, name: str, *settings: str, backend: str = "numpy", seed: int = 0) -> Result:
    found = write_run(folder, name, backend, seed, [0.5])
    recipe = load_recipe("demo", settings).to_dict()
    cell = {**found.cell, "recipe": recipe}
    (found.folder / CELL).write_text(json.dumps(cell))
    return replace(found, cell=cell)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (_TAUGHT, "cross_entropy, teacher = wide.pth, teacher_weight = 0.5, temperature = 4.0"),
        (["loss.kind=binary_cross_entropy"], "binary_cross_entropy"),
        (["label_smoothing=0.1"], "cross_entropy, label_smoothing = 0.1"),
        (["augment.mixup=0.2"], "cross_entropy, mixup = 0.2"),
        (
            ["augment.cutmix=1.0", "augment.mix_probability=0.5"],
            "cross_entropy, cutmix = 1.0, mix_probability = 0.5",
        ),
        (["loss.class_weights=[1.0, 2.0]"], "cross_entropy, class_weights = [1.0, 2.0]"),
    ],
)
def test_a_run_of_another_loss_is_named(
    settings: Sequence[str], words: str, tmp_path: Path
) -> None:
    runs = [run(tmp_path, "a"), run(tmp_path, "b", *settings), run(tmp_path, "c")]
    told = f"cross_entropy: a-numpy-seed0, c-numpy-seed0; {words}: b-numpy-seed0"
    rule = f"the runs have minimised different losses ({told}): training losses do not compare"
    assert different_losses(runs) == [rule]


def test_two_teachers_are_two_losses_wherever_they_lie(tmp_path: Path) -> None:
    moved = ("loss.teacher=/elsewhere/best.pth", *_TAUGHT[1:])
    runs = [run(tmp_path, "a", *_TAUGHT), run(tmp_path, "b", *moved)]
    assert different_losses(runs) == []
    (note,) = different_losses([*runs, run(tmp_path, "c", *_OTHER)])
    assert f"teacher_digest = xxh3-128:{'0' * 32}: a-numpy-seed0, b-numpy-seed0; " in note
    assert f"teacher_digest = xxh3-128:{'1' * 32}: c-numpy-seed0)" in note


def test_seeds_of_one_teacher_are_one_row_wherever_it_lies(tmp_path: Path) -> None:
    moved = ("loss.teacher=/elsewhere/best.pth", *_TAUGHT[1:])
    runs = [run(tmp_path, "a", *_TAUGHT), run(tmp_path, "a", *moved, seed=1)]
    assert {it.cell["network"] for it in of_folders([it.folder for it in runs]).results} == {"a"}
    other = run(tmp_path, "a", *_OTHER, seed=2)
    told = of_folders([it.folder for it in (*runs, other)]).results
    assert {it.cell["network"] for it in told} == {"a #1 (demo)", "a #2 (demo)"}


def test_other_optimisers_and_images_are_no_other_loss(tmp_path: Path) -> None:
    """Nor is a record that was written before there were losses to choose from."""
    changes = ("schedule.rate=0.05", "augment.flip=true", "augment.mix_probability=0.5", "seed=3")
    runs = [run(tmp_path, "a"), run(tmp_path, "b", *changes)]
    old = {key: value for key, value in runs[0].cell["recipe"].items() if key != "loss"}
    before = replace(runs[0], cell={**runs[0].cell, "recipe": old})
    assert different_losses([*runs, before]) == []


def test_reports_and_curves_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run(tmp_path, "a"), run(tmp_path, "b", *_TAUGHT, backend="torch")]
    (note,) = of_folders([it.folder for it in runs]).notes
    assert note.startswith("the runs have minimised different losses (cross_entropy: a-numpy-seed0")
    for it in runs:
        summary = json.loads((it.folder / "summary.json").read_text())
        summary["asked"] = {"recipe": it.cell["recipe"], "spec": it.cell["spec"]}
        (it.folder / "summary.json").write_text(json.dumps(summary))
    assert main(["show", "curves", *(str(it.folder) for it in runs), "--text"]) == 0
    assert f"note: {note}" in capsys.readouterr().out
