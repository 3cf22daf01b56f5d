"""Grids whose runs hold images out: passed on to each run, kept, told, and compared by name."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from grid_runs import write_run
from three_parts import folder
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.comparing.cells import cells_of
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.grid import Grid
from resnet_spec.comparing.page import page
from resnet_spec.comparing.processes import arguments_of
from resnet_spec.comparing.results import write_results
from resnet_spec.comparing.standing import standing
from resnet_spec.comparing.tables import Table, tables_of
from resnet_spec.errors import DataError, GridError, RecipeError
from resnet_spec.files.writing import write_json
from resnet_spec.reporting.plots import solid_text
from resnet_spec.running.metrics import read_metrics
from resnet_spec.showing import curves


def tables(*folders: Path) -> dict[str, Table]:
    return {table.title: table for table in tables_of(of_folders(folders))}


def test_a_grid_s_runs_hold_out_the_same_images_and_a_folder_of_others_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    fixed = {"networks": [str(tmp_path / "tiny.toml")], "backends": ["numpy"], "input_size": 8}
    cells = cells_of(Grid(**fixed, seeds=[0, 1], validation=0.2), tmp_path)
    assert len({cell.run.held_out for cell in cells}) == 1
    assert [len(cell.run.data.train) for cell in cells] == [1150, 1150]
    assert cells[0].run.dataset.splits["train"].count == 1437
    arguments = arguments_of(cells[0], "new")
    assert arguments[arguments.index("--validation") + 1] == "0.2"
    assert "--validation" not in arguments_of(cells[0], "partial")
    (plain,) = cells_of(Grid(**fixed), tmp_path)
    assert "--validation" not in arguments_of(plain, "new")

    folder = cells[0].folder
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    write_json(folder / "cell.json", cells[0].to_dict())
    with pytest.raises(GridError, match=r"a run with validation = 0.2, and the grid says None"):
        standing(plain)
    old = {name: value for name, value in plain.to_dict().items() if name != "validation"}
    write_json(folder / "cell.json", old)  # As it was written before there was validation.
    assert standing(plain) == "new"
    with pytest.raises(GridError, match=r"a run with validation = None, and the grid says 0.2"):
        standing(cells[0])
    with pytest.raises(GridError, match=r"validation = 1\.5"):
        Grid(**fixed, validation=1.5)


def test_tables_say_by_which_images_the_best_was_chosen(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "held", "torch", seed, [0.5, 0.8 + seed / 10, 0.7], validation=0.1)
    runs = sorted((tmp_path / "runs").iterdir())
    found = tables(*runs)["Accuracy"]
    assert found.heads[3:6] == ("test accuracy", "by validation", "test error %")
    # Of the last weights 0.7 - 0.1; of the best 0.8 - 0.05 and 0.9 - 0.05.
    assert found.rows[0][3:5] == ("0.6000 ± 0.0000", "0.8000 ± 0.0707")
    assert any("looked at once, at the end" in note for note in found.notes)
    assert not any("chosen with the test images" in note for note in found.notes)


def test_runs_by_validation_and_by_the_test_images_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "held", "torch", 0, [0.5, 0.8], validation=0.1)
    write_run(tmp_path, "plain", "torch", 0, [0.5, 0.6])
    runs = sorted((tmp_path / "runs").iterdir())
    found = of_folders(runs)
    table = tables(*runs)["Accuracy"]
    assert table.heads[4:6] == ("best of test", "by validation")
    held, plain = table.rows
    assert held[4:6] == ("-", "0.7500") and plain[4:6] == ("0.6000", "-")
    note = "runs have chosen their best epochs by different images (validation = 0.1; test images)"
    assert found.notes == (f"{note}, and those that held images out were trained on fewer",)
    text = str(page(found, {}))
    assert "digits (0.1 of the training images for validation)" in text
    assert ">its test accuracy<" in text and ">0.7500<" in text

    lines = curves.lines({run.name: read_metrics(run) for run in runs})
    assert "evaluated on" in lines[0] and "test accuracy" not in lines[0]
    assert [line.split()[4] for line in lines[1:]] == ["validation", "test"]
    assert solid_text([e for run in runs for e in read_metrics(run)]) == "test or validation"


def test_runs_that_differ_in_validation_alone_are_two_networks(tmp_path: Path) -> None:
    for name, fraction in (("a", None), ("b", 0.1), ("c", 0.2)):
        write_run(tmp_path / name, "one", "torch", 0, [0.5], validation=fraction)
    runs = [tmp_path / name / "runs" / "one-torch-seed0" for name in "abc"]
    found = of_folders(runs)
    assert [group.key.network for group in found.groups] == [f"one #{i} (demo)" for i in (1, 2, 3)]


def test_results_say_which_images_they_are_of(tmp_path: Path) -> None:
    result = write_run(tmp_path, "held", "torch", 0, [0.5, 0.8], validation=0.1)
    row = result.row(0.7, [])
    assert (row["validation"], row["best_of"], row["best_test_accuracy"]) == (
        0.1,
        "validation",
        0.75,
    )
    assert row["seconds_to_target"] == 20.0
    plain = write_run(tmp_path, "plain", "torch", 0, [0.5]).row(None, [])
    assert (plain["validation"], plain["best_of"]) == (None, "test")


def test_compare_trains_and_reports_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    line = ["compare", "--specs", str(tmp_path / "tiny.toml"), "--backends", "numpy"]
    more = ["--set", "steps=2", "--set", "batch=512", "--input-size", "8", "--validation", "0.2"]
    assert main([*line, *more, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    text = said.out + said.err
    assert "(1150 train, 287 validation, 360 test images, 8 px)" in text
    assert "validation accuracy 0." in text and "by validation" in text
    (run,) = (tmp_path / "out" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["held_out"]["fraction"] == 0.2 and summary["best_test_accuracy"] is not None
    assert main(["report", str(tmp_path / "out")]) == 0


def test_measures_have_a_table_where_runs_know_them(tmp_path: Path) -> None:
    known: dict[str, Any] = {"final_calibration_error": 0.02, "final_top5_accuracy": 0.9}
    write_run(tmp_path, "new", "torch", 0, [0.5], **known)
    write_run(tmp_path, "old", "torch", 0, [0.5])
    new, old = (tmp_path / "runs" / f"{name}-torch-seed0" for name in ("new", "old"))
    table = tables(new, old)["Top-5 and calibration"]
    assert table.heads[2:] == ("top-5 accuracy", "calibration error")
    assert [row[2:] for row in table.rows] == [("0.9000", "0.0200"), ("-", "-")]
    assert "15 bins" in table.notes[0]
    assert "Top-5 and calibration" not in tables(old)
    few = write_run(tmp_path, "few", "torch", 0, [0.5], final_calibration_error=0.03).folder
    assert tables(few)["Top-5 and calibration"].heads[2:] == ("calibration error",)


def test_a_run_that_stopped_early_is_its_cell_s(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    fixed = {"networks": [str(tmp_path / "tiny.toml")], "backends": ["numpy"], "input_size": 8}
    settings = ["epochs=9", "early_stopping.patience=2"]
    (cell,) = cells_of(Grid(**fixed, set=settings, validation=0.2), tmp_path)
    result = write_run(tmp_path, "other", "numpy", 0, [0.5])
    assert result.summary is not None
    summary = replace(
        result.summary, spec="tiny", steps=34, dataset=cell.run.dataset.to_dict(), complete=True
    )
    cell.folder.mkdir(parents=True)
    write_json(cell.folder / "cell.json", cell.to_dict())
    write_json(cell.folder / "summary.json", asdict(replace(summary, stopped_early=True)))
    assert standing(cell) == "complete"
    write_json(cell.folder / "summary.json", asdict(summary))
    with pytest.raises(GridError, match="a summary with steps = 34, and the grid says"):
        standing(cell)
    with pytest.raises(RecipeError, match=r"early_stopping\.patience = 2: needs validation"):
        cells_of(Grid(**fixed, set=settings), tmp_path)


def test_a_grid_on_data_with_its_own_part_says_so(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    pets = folder(tmp_path / "pets")
    fixed: dict[str, Any] = {"networks": [str(tmp_path / "tiny.toml")], "backends": ["numpy"]}
    fixed |= {"input_size": 8, "set": ["epochs=1", "batch=9"]}
    (cell,) = cells_of(Grid(**fixed, data=str(pets)), tmp_path)
    assert cell.to_dict()["validation"] == "own"
    assert cell.run.dataset.splits["validation"].count == 6
    assert "--validation" not in arguments_of(cell, "new")
    with pytest.raises(DataError, match=r"tiny: --validation = 0\.2: .* has a validation part of"):
        cells_of(Grid(**fixed, data=str(pets), validation=0.2), tmp_path)

    for name, told in (("val", "tested on what is the validation part"), ("test", "validation =")):
        (before,) = cells_of(Grid(**fixed, data=f"{pets}@{name}"), tmp_path)
        summary = write_run(tmp_path / name, "tiny", "numpy", 0, [0.5]).summary
        assert summary is not None
        fields = asdict(replace(summary, dataset=before.run.dataset.to_dict(), complete=False))
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_json(cell.folder / "summary.json", fields)
        write_json(cell.folder / "cell.json", before.to_dict())
        with pytest.raises(GridError, match=told):
            standing(cell)
        assert standing(before) == "new"


def test_runs_by_other_own_parts_are_told_apart(tmp_path: Path) -> None:
    own = {"fraction": None, "count": 6, "digest": "xxh3-128:1"}
    for name, digest in (("a", "xxh3-128:1"), ("b", "xxh3-128:1"), ("c", "xxh3-128:2")):
        held = {**own, "digest": digest}
        write_run(tmp_path / name, "one", "torch", "ab".find(name) % 2, [0.5], own=held)
    write_run(tmp_path / "d", "one", "torch", 0, [0.5])
    write_run(tmp_path / "e", "one", "torch", 0, [0.5], validation=0.1)
    runs = {it.parts[-3]: it for it in sorted(tmp_path.glob("*/runs/*"))}
    pair = of_folders([runs["a"], runs["b"]])
    assert [group.key.network for group in pair.groups] == ["one"] and pair.notes == ()
    assert "digits (its own part for validation)" in str(page(pair, {}))
    rule = "runs have chosen their best epochs by different images"
    two = of_folders([runs["b"], runs["c"]])
    assert two.notes == (f"{rule} (2 validation parts of the data)",)
    found = of_folders([runs["a"], runs["d"], runs["e"]])
    write_results(tmp_path, found.results, None, found.notes)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["best_of"], row["validation"]) for row in rows] == [
        ("validation", ""),
        ("test", ""),
        ("validation", "0.1"),
    ]
    cells = [
        json.loads(line)["cell"] for line in (tmp_path / "results.jsonl").read_text().splitlines()
    ]
    assert [cell.get("validation") for cell in cells] == ["own", None, 0.1]
    parts = "validation = 0.1; the data's validation part; test images"
    assert found.notes == (
        f"{rule} ({parts}), and those that held images out were trained on fewer",
    )
    assert len(found.groups) == 3
