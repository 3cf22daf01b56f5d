"""A request is checked, from Python and in a grid, before anything on disk is touched."""

from __future__ import annotations

import argparse
import inspect
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.cli.train import add_arguments
from resnet_spec.comparing.comparison import Comparison, asked
from resnet_spec.errors import (
    BackendError,
    CheckpointError,
    GridError,
    RecipeError,
    ResnetSpecError,
)
from resnet_spec.exporting.formats import check_images
from resnet_spec.loader import installed_backends
from resnet_spec.running.job import Reach, job_of
from resnet_spec.running.request import Request
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

TINY: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
FRESH: dict[str, Any] = {"spec": TINY, "backend": "numpy", "input_size": 8, "settings": ["steps=2"]}


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a finished run."""
    resnet_spec.train(**FRESH, out=tmp_path / "run")
    return tmp_path / "run"


# --- Effects before checks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"backend": "nump"}, "backend = nump: does not exist; did you mean 'numpy'?"),
        ({"device": "cuda:9"}, "device = cuda:9: is not one of numpy's"),
        ({"settings": ["precision=bfloat16"]}, "precision = bfloat16: is not one of numpy's"),
        ({"recipe": "dmo"}, "did you mean 'demo'?"),
        ({"spec": "resnet5O"}, "did you mean 'resnet50'?"),
        ({"data": "digitz"}, "did you mean 'digits'?"),
        ({"settings": ["steps=2", "batch=9999"]}, "batch = 9999"),
    ],
    ids=str,
)
def test_a_wrong_request_from_python_leaves_the_run_that_was_to_be_replaced(
    wrong: dict[str, Any], line: str, old: Path
) -> None:
    before = files(old)
    with pytest.raises(ResnetSpecError) as caught:
        resnet_spec.train(**{**FRESH, **wrong}, out=old, overwrite=True)
    assert line in str(caught.value)
    assert files(old) == before


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"head": "keeep"}, "--head = keeep: must be auto, keep or replace; did you mean 'keep'?"),
        ({"head": "drop"}, "--head = drop: must be auto, keep or replace"),
        ({"head": True}, "--head = True: must be auto, keep or replace"),
        ({"head": ["keep"]}, "--head = ['keep']: must be auto, keep or replace"),
        ({"overwrite": "no"}, "--overwrite = 'no': must be True or False"),
        ({"ignore_classes": "no"}, "--ignore-classes = 'no': must be True or False"),
        ({"compile": "no"}, "--compile = 'no': must be True or False"),
        ({"resume": None}, "--resume = None: must be True or False, or name a run"),
        ({"resume": 1}, "--resume = 1: must be True or False, or name a run"),
    ],
    ids=str,
)
def test_a_value_that_is_no_choice_is_never_another_one(
    wrong: dict[str, Any], line: str, old: Path
) -> None:
    before = files(old)
    given = {**FRESH, "pretrained": old / "best.safetensors", "overwrite": True, **wrong}
    with pytest.raises(ResnetSpecError) as caught:
        resnet_spec.train(**given, out=old)
    assert str(caught.value) == line
    assert files(old) == before


def test_choices_that_only_a_parser_guarded_are_guarded_from_python() -> None:
    wrong: Any = "uint9"
    with pytest.raises(BackendError) as images:
        check_images(resnet_spec.load_spec(TINY), wrong)
    rule = "must be normalised or uint8; did you mean 'uint8'?"
    assert str(images.value) == f"--input = uint9: {rule}"
    wrong = "eror"
    with pytest.raises(GridError) as shown:
        asked(Comparison("report", ()), show=wrong)
    assert str(shown.value) == "--show = eror: must be accuracy or error; did you mean 'error'?"


@pytest.mark.parametrize(
    ("name", "device"), [("torch", "cuda:9"), ("flax", "gpu:9"), ("mindspore", "cuda:9")]
)
def test_a_device_that_a_framework_lacks_leaves_the_old_run(
    name: str, device: str, old: Path
) -> None:
    if name not in installed_backends():
        pytest.skip(f"{name} is not installed")
    before = files(old)
    with pytest.raises(ResnetSpecError, match=f"device = {device}"):
        resnet_spec.train(**{**FRESH, "backend": name, "device": device}, out=old, overwrite=True)
    assert files(old) == before


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (("--backends", "numpy,nump"), "backend = nump: does not exist; did you mean 'numpy'?"),
        (("--recipe", "dmo"), "did you mean 'demo'?"),
        (("--specs", "resnet5O"), "did you mean 'resnet50'?"),
        (("--data", "digitz"), "did you mean 'digits'?"),
        (("--set", "batch=9999"), "batch = 9999"),
        (("--set", "precision=float16"), "precision = float16: is not one of numpy's"),
    ],
    ids=str,
)
def test_a_grid_with_a_wrong_cell_writes_nothing(
    wrong: tuple[str, ...],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = ("compare", "--specs", "resnet20_cifar", "--backends", "numpy", "--set", "steps=2")
    assert main([*grid, *wrong, "--out", "out"]) == 2
    assert line in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_backend_is_looked_for_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("resnet_spec.running.job.load_pretrained", read)
    monkeypatch.setattr("resnet_spec.weights.loading.load_pretrained", read)
    given: Any = {"pretrained": "resnet50.tv2_in1k"}
    for ask in (
        lambda: resnet_spec.train(backend="nump", **given),
        lambda: resnet_spec.build("resnet50", "nump", **given),
        lambda: resnet_spec.session("resnet50", "nump", **given),
    ):
        with pytest.raises(ResnetSpecError, match="backend = nump: does not exist"):
            ask()
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        resnet_spec.session("resnet50", "numpy", "dmeo", **given)


def test_a_part_of_no_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match="part: is of pretrained weights"):
        resnet_spec.build("resnet20_cifar", "numpy", part="ema")


def test_a_job_reads_and_looks_through_what_it_is_given(tmp_path: Path) -> None:
    data, looked = resnet_spec.load_data("digits", size=8), list[str]()
    reach = Reach(lambda source, size: data, looked.append, lambda name: ["float32"])
    request = Request(**{**FRESH, "backend": "absent"}, out=tmp_path / "run")
    job = job_of(request, lambda line: None, reach)
    assert job.run.data is data and job.run.backend == "absent" and looked == ["absent"]
    assert list(tmp_path.iterdir()) == []


# --- A run that goes on ---------------------------------------------------------------------------

GIVEN: dict[str, Any] = {
    "spec": TINY,
    "recipe": "demo",
    "settings": ["steps=9"],
    "input_size": 8,
    "pretrained": "weights",
    "part": "ema",
    "head": "keep",
    "freeze": "stem",
    "head_rate": 0.0,
    "validation": 0.5,
}
"""A value for every field of a request that belongs to a run from its beginning."""
LATER = {
    *("backend", "data", "out", "overwrite", "resume", "auto_resume"),
    *("device", "compile", "shard", "accept_data", "ignore_classes"),
}
"""Those that take effect, too, where a run goes on; each is tested where it does something."""


def test_the_command_python_and_a_request_have_the_same_options() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    names = {field.name for field in fields(Request)}
    command = {action.dest for action in parser._actions}
    assert command == names | {"help", "track"}
    python = set(inspect.signature(resnet_spec.train).parameters)
    assert python == names | {"track", "watch", "say", "progress"}


def test_every_field_of_a_request_either_takes_effect_later_or_is_refused() -> None:
    names = {field.name for field in fields(Request)}
    assert names == GIVEN.keys() | LATER
    assert not GIVEN.keys() & LATER


@pytest.mark.parametrize("name", GIVEN)
def test_what_belongs_to_a_run_from_its_beginning_is_refused_by_name(name: str, old: Path) -> None:
    option = {"spec": "SPEC", "settings": "--set"}.get(name, f"--{name.replace('_', '-')}")
    with pytest.raises(RecipeError) as caught:
        resnet_spec.train(resume=old, **{name: GIVEN[name]})
    assert str(caught.value).startswith(f"{option}: cannot be changed in the middle of a run")


def test_a_device_takes_effect_where_a_run_goes_on(old: Path) -> None:
    before = files(old)
    with pytest.raises(ResnetSpecError, match="device = cuda:9"):
        resnet_spec.train(resume=old, device="cuda:9")
    assert files(old) == before


EMPTY: dict[str, Any] = {
    **dict.fromkeys(("spec", "backend", "data", "recipe", "settings", "out", "resume"), ""),
    **dict.fromkeys(("device", "pretrained", "part", "freeze"), " "),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("goes_on", [False, True], ids=["fresh", "resume"])
def test_an_empty_text_is_never_taken_for_what_is_usual(
    name: str, goes_on: bool, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old.parent)
    before = files(old.parent)
    given = {"resume": old} if goes_on else {**FRESH, "overwrite": True, "out": old}
    option = {"spec": "SPEC", "settings": "--set"}.get(name, f"--{name}")
    for value in ([""], ["steps=2", ""], "") if name == "settings" else (EMPTY[name],):
        with pytest.raises(ResnetSpecError) as caught:
            resnet_spec.train(**{**given, name: value})
        rule = "must not be empty; give a value, or leave it out"
        assert str(caught.value) == f'{option} = "": {rule}'
    assert files(old.parent) == before


def test_an_empty_text_is_no_weights_and_no_precision() -> None:
    with pytest.raises(CheckpointError, match='weights = "": must not be empty'):
        resnet_spec.build(TINY, "numpy", pretrained="")
    wrong: Any = ""
    with pytest.raises(BackendError, match="precision = : is not one of numpy's"):
        resnet_spec.session(TINY, "numpy", precision=wrong)


def test_the_last_checkpoint_goes_on_in_its_folder_from_python(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old.parent)
    (old / "summary.json").unlink()
    assert resnet_spec.train(resume="run/last.safetensors").complete
    assert (old / "summary.json").is_file() and not Path("runs").exists()


def strange(folder: Path) -> None:
    """Put a key that no version knows into the position of the run."""
    last = folder / "last.safetensors"
    kept = load_checkpoint(last)
    save_checkpoint(last, replace(kept, progress={**kept.progress, "bogus": 1}))


def test_an_unknown_key_of_a_position_is_one_line_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resnet_spec.comparing.writing.can_draw", lambda: False)
    Path("tiny.json").write_text(json.dumps(TINY))
    grid = ("compare", "--specs", "tiny.json", "--backends", "numpy", "--input-size", "8")
    assert main([*grid, "--set", "steps=2", "--out", "out"]) == 0
    cell = Path("out", "runs", "tiny-numpy-seed0")
    strange(cell)
    (cell / "summary.json").unlink()
    line = "the position of its run has what this version does not know (bogus); update"
    with pytest.raises(CheckpointError) as caught:
        resnet_spec.train(resume=cell)
    assert str(caught.value) == f"--resume = {cell / 'last.safetensors'}: {line}"
    capsys.readouterr()
    assert main(["train", "--resume", str(cell)]) == 2
    error = capsys.readouterr().err
    assert error == f"resnet-spec: error: --resume = {cell / 'last.safetensors'}: {line}\n"
    assert main([*grid, "--set", "steps=2", "--out", "out"]) == 1
    assert json.loads((cell / "failure.json").read_text())["error"].endswith(line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"out": 3}, "--out = 3: must be a path"),
        ({"pretrained": ["a"]}, "--pretrained = ['a']: must be a path"),
        ({"part": 3}, "--part = 3: must be a text"),
        ({"freeze": ["stem"]}, "--freeze = ['stem']: must be a text"),
        ({"input_size": "8"}, "--input-size = '8': must be a whole number of pixels"),
        ({"input_size": 8.5}, "--input-size = 8.5: must be a whole number of pixels"),
        ({"input_size": True}, "--input-size = True: must be a whole number of pixels"),
        ({"head_rate": "2"}, "--head-rate = '2': must be a number"),
        ({"device": None}, "--device = None: must be a device's name, or auto"),
        ({"backend": 3}, "backend = 3: must be a backend's name"),
        ({"spec": 3}, "spec = 3: must be a preset's name, a file, a table or a Spec"),
        ({"recipe": 3}, "recipe = 3: must be a recipe's name, a file, a table or a Recipe"),
    ],
)
def test_a_value_of_another_kind_is_told_before_anything_is_written(
    options: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ResnetSpecError) as caught:
        resnet_spec.train(**{**FRESH, "out": tmp_path / "new", **options})
    assert caught.value.problems == (line,) and not any(tmp_path.iterdir())
