"""A grid is read, checked and resolved before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.comparing.cells import cells_of
from resnet_spec.comparing.grid import Grid
from resnet_spec.comparing.sources import list_studies, load_grid
from resnet_spec.errors import GridError, ResnetSpecError

GRID = """
name = "try"
networks = [
    "nets/tiny.toml",
    {label = "wide", spec = "nets/tiny.toml", set = ["stages[0].width=8", "batch=32"]},
]
backends = ["numpy"]
seeds = [3, 1]
input_size = 8
set = ["steps=5"]

[scaled]
about = "two steps"
set = ["steps=2"]
seeds = [0]
"""
FIELDS: dict[str, Any] = {"networks": ["resnet20_cifar", "plain20_cifar"], "backends": ["numpy"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "tiny.toml").write_text(TINY)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


def test_a_file_s_paths_are_relative_to_it(file: Path, tmp_path: Path) -> None:
    cells = cells_of(load_grid(str(file), {}), tmp_path / "out")
    assert [(cell.network, cell.backend, cell.seed) for cell in cells] == [
        ("tiny", "numpy", 3),
        ("wide", "numpy", 3),
        ("tiny", "numpy", 1),
        ("wide", "numpy", 1),
    ]
    tiny, wide = (cell.run for cell in cells[:2])
    assert tiny.spec.stages[0].width == 4 and wide.spec.stages[0].width == 8
    assert tiny.recipe.batch == 64 and wide.recipe.batch == 32
    assert tiny.recipe.seed == wide.recipe.seed == 3 and tiny.total_steps == 5
    assert tiny.spec.classes == 10 and tiny.spec.input.size == 8, "fitted to the data"
    assert len({cell.folder for cell in cells}) == 4


def test_options_replace_fields_and_are_noted(file: Path) -> None:
    grid = load_grid(str(file), {"seeds": [0], "data": "synthetic", "set": ["batch=16"]})
    assert grid.seeds == (0,) and grid.data == "synthetic"
    assert grid.set == ("steps=5", "batch=16"), "--set comes after the file's"
    assert grid.notes == (
        "seeds = [0] instead of [3, 1]",
        "data = synthetic instead of digits",
        "set = [steps=5, batch=16] instead of [steps=5]",
    )
    assert load_grid(str(file), {"seeds": [3, 1]}).notes == ()


@pytest.mark.parametrize(("setting", "steps"), [("epochs=1", 22), ("steps=7", 7)])
def test_the_last_length_counts(setting: str, steps: int, file: Path, tmp_path: Path) -> None:
    cells = cells_of(load_grid(str(file), {"set": ["epochs=3", setting]}), tmp_path)
    assert cells[0].run.total_steps == steps


def test_a_scaled_grid_says_how(file: Path) -> None:
    grid = load_grid(str(file), {"seeds": [4]}, scaled=True)
    assert grid.set == ("steps=5", "steps=2") and grid.seeds == (4,)
    assert grid.notes == (
        "scaled down: two steps",
        "seeds = [4] instead of [3, 1]",
        "set = [steps=5, steps=2] instead of [steps=5]",
    )


def test_a_grid_is_written_and_read(file: Path) -> None:
    grid = load_grid(str(file), {}, scaled=True)
    assert Grid.from_dict(grid.to_dict()) == grid


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"backend": ["numpy"]}, "backend = [\"numpy\"]: unknown key; did you mean 'backends'?"),
        ({"networks": []}, "networks = []: must have at least 1 entry"),
        ({"networks": [{"spec": "a", "sett": []}]}, "did you mean 'set'?"),
        ({"networks": ["a", "a"]}, "networks = a: is there 2 times; give each a label of its own"),
        ({"networks": [{"spec": "a", "label": "b/c"}]}, "without a slash"),
        ({"seeds": [0, 0]}, "seeds = 0: is there 2 times"),
        ({"seeds": [-1]}, "seeds[0] = -1: must be >= 0"),
        ({"set": ["seed=3"]}, "set = seed=3: cannot set a seed; give them in seeds"),
        ({"baseline": "resnet20_cfar"}, "did you mean 'resnet20_cifar'?"),
        ({"baseline": "resnet20_cifar/numpi"}, "did you mean 'resnet20_cifar/numpy'?"),
        ({"target_accuracy": 70.0}, "target_accuracy = 70.0: must be < 1"),
        ({"show": "errors"}, "show = \"errors\": must be 'accuracy' or 'error'"),
    ],
)
def test_bad_fields_are_told_in_one_line_each(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(GridError) as caught:
        Grid.from_dict({**FIELDS, **changes}, "grid.toml")
    (told,) = caught.value.problems
    assert told.startswith("grid.toml: ") and line in told


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"backends": ["nump"]}, "backend = nump: does not exist; did you mean 'numpy'?"),
        ({"data": "digitz"}, "did you mean 'digits'?"),
        ({"recipe": "dmo"}, "resnet20_cifar: recipe = dmo"),
        ({"networks": ["resnet20_cfar"]}, "resnet20_cfar: spec = resnet20_cfar"),
        ({"networks": [{"spec": "resnet20_cifar", "set": ["schedul.rate=1"]}]}, "'schedul'"),
        ({"set": ["batch=2000"]}, "resnet20_cifar: batch = 2000"),
        ({"set": ["schedule.warmup=99"]}, "resnet20_cifar: schedule.warmup = 99"),
        ({"set": ["schedule.rate=-1"]}, "schedule.rate = -1: must be > 0"),
        ({"set": ["stages[0].stride=0"]}, "stages[0].stride = 0: must be >= 1"),
        (
            {"networks": [{"spec": "resnet20_cifar", "label": name} for name in ("a b", "a_b")]},
            "networks = a_b: would be kept in the same folder as a b; give it another label",
        ),
    ],
)
def test_everything_is_checked_before_a_run_starts(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ResnetSpecError) as caught:
        cells_of(Grid.from_dict({**FIELDS, **changes}), tmp_path / "out")
    assert line in caught.value.problems[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "--specs, --backends: required without a grid; give GRID.toml, a study ("),
        (["degradatio"], "grid = degradatio: is neither a study nor"),
        (["nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--specs", "resnet20_cifar"], "--backends: required"),
        (["degradation", "--seeds", "0,x"], "--seeds = x: must be integers >= 0"),
        (["degradation", "--jobs", "0"], "--jobs = 0: must be >= 1"),
        (["--scaled", "--specs", "a", "--backends", "b"], "--scaled: is for a study"),
    ],
)
def test_bad_arguments(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("resnet-spec: error: ") and error.count("\n") == 1
    assert line in error


@pytest.mark.parametrize("name", list_studies())
@pytest.mark.parametrize("scaled", [False, True])
def test_every_study_can_start(name: str, scaled: bool, tmp_path: Path) -> None:
    published = load_grid(name, {})
    assert published.name == name and published.data == "cifar10" and published.about
    assert published.recipe == "cifar-paper", "as published; [scaled] holds the small version"
    grid = load_grid(name, {"data": "digits", "backends": ["numpy"]}, scaled=scaled)
    cells = cells_of(grid, tmp_path)
    assert len(cells) == len(grid.networks) * len(grid.seeds)
    assert ("scaled down" in grid.notes[0]) == scaled


def test_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines()[1:]} == set(list_studies())
    assert len(list_studies()) >= 6
