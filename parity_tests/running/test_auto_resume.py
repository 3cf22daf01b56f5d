"""One call begins a run, and takes it up again: what schedulers that start jobs again need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec import DataError, RecipeError
from resnet_spec.cli.main import main
from resnet_spec.errors import OutputError
from resnet_spec.weights.checkpoint import load_checkpoint

SETTINGS = ("epochs=3", "batch=512", "seed=3")


def trained(out: Path, spec: Any = TINY, **more: Any) -> Any:
    given = {"settings": SETTINGS, "out": out, "input_size": 8, "auto_resume": True, **more}
    return resnet_spec.train(spec, "numpy", **given)


def test_the_same_call_begins_a_run_takes_it_up_and_leaves_it_finished(tmp_path: Path) -> None:
    said = list[str]()
    with pytest.raises(Stopped):
        trained(tmp_path / "run", watch=Stops())
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").progress["step"] == 2
    summary = trained(tmp_path / "run", say=said.append)
    assert summary.complete and summary.steps == 6
    assert said[-1] == f"note: the run in {tmp_path / 'run'} goes on"
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    assert trained(tmp_path / "run") == summary
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before

    resnet_spec.train(TINY, "numpy", settings=SETTINGS, input_size=8, out=tmp_path / "whole")
    found, whole = (
        load_checkpoint(tmp_path / name / "last.safetensors").state for name in ("run", "whole")
    )
    assert all(np.array_equal(found[name], array) for name, array in whole.items())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"settings": ("epochs=3", "batch=256", "seed=3")}, "batch = 512, not 256"),
        (
            {"settings": (*SETTINGS, "schedule.rate=0.2", "norm.eps=0.001")},
            "norm.eps = 1e-05, not 0.001; schedule.rate = 0.1, not 0.2",
        ),
        ({"settings": (*SETTINGS, "stages[0].width=8")}, "stages[0].width = 4, not 8"),
        (
            {"spec": {**TINY, "stages": [*TINY["stages"], {"width": 8, "blocks": 1}]}},
            "the number of stages = 1, not 2",
        ),
    ],
)
def test_a_run_of_another_network_or_recipe_is_refused(
    tmp_path: Path, more: dict[str, Any], told: str
) -> None:
    trained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path, **more)
    rule = f"--auto-resume: the run in {tmp_path} was begun with another network or recipe ({told})"
    assert str(caught.value) == f"{rule}; give its own, or another --out"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_a_run_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((DataError, OutputError)):
        trained(tmp_path / "file")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--resume", "r"], "--auto-resume: begins a run, or goes on with the one that is there; "),
        (["--overwrite"], "--auto-resume: begins a run, or goes on with the one that is there; "),
    ],
)
def test_what_contradicts_it_is_refused(
    more: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "resnet20_cifar", "--backend", "numpy", "--auto-resume", *more]) == 2
    said = capsys.readouterr().err
    assert said == f"resnet-spec: error: {error}leave {more[0]} out\n"
