"""Runs side by side are on the same data, told by its identity, or that is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grid_runs import write_run
from pets import SPEC, paint

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.comparing.cell_folder import CELL
from resnet_spec.comparing.cells import cells_of
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.data_identity import different_data
from resnet_spec.comparing.grid import Grid
from resnet_spec.comparing.standing import standing
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.describing.spec_files import dump_json
from resnet_spec.errors import GridError
from resnet_spec.files.writing import write_json


@pytest.fixture(scope="module")
def digits() -> Fingerprint:
    return Fingerprint.of(resnet_spec.load_data("digits"))


def fewer(known: Fingerprint, split: str) -> dict[str, Any]:
    changed = replace(known.splits[split], count=7, digest="another")
    return replace(known, splits={**known.splits, split: changed}).to_dict()


def test_runs_on_the_same_data_need_no_note(digits: Fingerprint, tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "tiny", "numpy", 0, [0.5], dataset=digits.to_dict()),
        write_run(tmp_path, "tiny", "numpy", 1, [0.6]),  # As in docs/studies/records.
        write_run(tmp_path, "tiny", "torch", 0, [0.5], dataset={**digits.to_dict(), "name": "d"}),
    ]
    assert different_data(runs) == []


@pytest.mark.parametrize(
    ("split", "line"),
    [
        ("test", "(360 -> 7 test images): accuracies do not compare"),
        ("train", "(1437 -> 7 train images): they were not trained on the same images"),
    ],
)
def test_runs_on_other_images_of_one_name_are_said(
    split: str, line: str, digits: Fingerprint, tmp_path: Path
) -> None:
    runs = [
        write_run(tmp_path, "tiny", "numpy", 0, [0.5], dataset=digits.to_dict()),
        write_run(tmp_path, "tiny", "numpy", 1, [0.6], dataset=fewer(digits, split)),
    ]
    (note,) = different_data(runs)
    assert note == f"tiny-numpy-seed0 and tiny-numpy-seed1 are on different data {line}"


def test_a_report_keeps_runs_on_other_data_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = paint(tmp_path / "pets", count=4)
    runs: list[str] = []
    for seed in range(2):
        runs.append(str(tmp_path / f"run{seed}"))
        settings = ["steps=1", "batch=6", f"seed={seed}"]
        resnet_spec.train(SPEC, "numpy", data, settings=settings, out=runs[-1], input_size=8)
        (data / "val" / "cat" / f"0{seed}.png").unlink()
    comparison = of_folders([Path(run) for run in runs])
    assert [group.key.network for group in comparison.groups] == [
        "tiny #1 (demo)",
        "tiny #2 (demo)",
    ]
    assert main(["report", *runs, "--out", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr().out
    told = "note: run0 and run1 are on different data (12 -> 11 test images)"
    assert told in shown
    assert main(["show", "curves", *runs, "--text"]) == 0
    assert told in capsys.readouterr().out
    assert main(["show", "curves", runs[0], "--text"]) == 0
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize("ended", ["complete", "partial", "damaged"])
def test_a_cell_on_data_that_has_changed_is_refused_by_name(ended: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(dump_json(resnet_spec.load_spec(SPEC)))
    data = paint(tmp_path / "pets", count=4)
    grid = Grid.from_dict(
        {
            "name": "pets",
            "networks": [str(tmp_path / "tiny.json")],
            "backends": ["numpy"],
            "data": str(data),
            "input_size": 8,
            "set": ["steps=2", "batch=6"],
        }
    )
    (cell,) = cells_of(grid, tmp_path / "out")
    run = cell.run
    resnet_spec.train(run.spec, "numpy", data, run.recipe, out=cell.folder, input_size=8)
    write_json(cell.folder / CELL, cell.to_dict())
    if ended == "partial":
        (cell.folder / "summary.json").unlink()
    if ended == "damaged":
        (cell.folder / "summary.json").write_text('{"steps"')
    expected = "complete" if ended == "complete" else "partial"
    assert standing(cell) == expected
    data.rename(tmp_path / "moved")
    (moved,) = cells_of(grid.changed({"data": str(tmp_path / "moved")}), tmp_path / "out")
    assert standing(moved) == expected
    (tmp_path / "moved" / "train" / "dog" / "00.png").unlink()
    (changed,) = cells_of(grid.changed({"data": str(tmp_path / "moved")}), tmp_path / "out")
    with pytest.raises(GridError, match=r"on other data than .* \(12 -> 11 train"):
        standing(changed)


def test_a_run_that_is_set_aside_is_a_run_to_go_on_from(here: Path) -> None:
    fields = {"networks": ["tiny.toml"], "backends": ["numpy"], "input_size": 8}
    grid = Grid.from_dict({"name": "aside", **fields, "set": ["steps=2", "batch=700"]})
    (cell,) = cells_of(grid, here / "out")
    recipe = cell.run.recipe
    resnet_spec.train(cell.run.spec, "numpy", "digits", recipe, out=cell.folder, input_size=8)
    write_json(cell.folder / CELL, cell.to_dict())
    (cell.folder / ".replaced").mkdir()  # As a process leaves it that is killed in `--overwrite`.
    for name in ("last.safetensors", "best.safetensors", "summary.json"):
        (cell.folder / name).rename(cell.folder / ".replaced" / name)
    assert standing(cell) == "partial"
