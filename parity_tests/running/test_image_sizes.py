"""Runs whose images are evaluated, or trained in a part of the run, at another size."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import NETWORK as TINY

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.data import load_data
from resnet_spec.data.at_size import at_size, view_of
from resnet_spec.errors import DataError, RecipeError, SpecError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.planning.lowering import lower
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.metrics import read_metrics
from resnet_spec.running.runs import Position, Summary
from resnet_spec.weights.checkpoint import load_checkpoint

BACKENDS = installed_backends()
SHORT = ("batch=256", "epochs=4", "schedule.rate=0.01")


def trained(out: Path, *settings: str, backend: str = "numpy", **given: Any) -> Summary:
    return resnet_spec.train(
        TINY, backend, settings=(*SHORT, *settings), out=out, input_size=8, **given
    )


def accuracy_at(out: Path, size: int, crop: float | None = None) -> float | None:
    weights = load_checkpoint(out / "last.safetensors").evaluated()
    session = load_backend("numpy").Session(lower(weights.spec, size))
    session.load(weights.state)
    split = at_size(load_data("digits", size=8).test, size, view_of(size, crop))
    return evaluate(session, split).accuracy


def test_a_run_is_evaluated_at_a_size_of_its_own(tmp_path: Path) -> None:
    summary = trained(tmp_path, "evaluation.size=12", "evaluation.crop=0.9")
    assert summary.final_accuracy == accuracy_at(tmp_path, 12, 0.9)
    others = {accuracy_at(tmp_path, 12), accuracy_at(tmp_path, 8)}
    assert others != {summary.final_accuracy}


def test_evaluate_and_predict_see_what_the_run_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = trained(tmp_path, "evaluation.size=12", "evaluation.crop=0.8")
    command = ["evaluate", str(tmp_path / "last.safetensors"), "--backend", "numpy"]
    found = list[Any]()
    for more in ([], ["--set", "input.size=8"]):
        assert main([*command, "--format", "json", *more]) == 0
        out, err = capsys.readouterr()
        found.append(json.loads(out))
        assert ("images are of 12 pixels, as in its run's evaluation" in out + err) == (not more)
    assert found[0]["accuracy"] == pytest.approx(summary.final_accuracy)
    assert found[1]["loss"] != found[0]["loss"]


def test_images_that_are_made_are_those_of_the_run_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`synthetic` draws other images for another size; evaluate looks at those of the run."""
    settings = ("evaluation.size=12", "batch=512", "epochs=1")
    summary = trained(tmp_path, *settings, data="synthetic")
    path = str(tmp_path / "last.safetensors")
    assert main(["evaluate", path, "--backend", "numpy", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["loss"] == pytest.approx(summary.final_test_loss)
    assert "the data has changed" not in out + err


def test_a_crop_of_the_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, "evaluation.crop=0.5")
    path, told = str(tmp_path / "last.safetensors"), []
    for more in ([], ["--crop", "1"]):
        assert main(["evaluate", path, "--backend", "numpy", *more]) == 0
        out, err = capsys.readouterr()
        told.append("of images the central 0.5 is seen, as in its run's evaluation" in out + err)
    assert told == [True, False]


def test_a_crop_of_huge_images_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluation\.crop = 0\.0001: makes images of 80,000"):
        trained(tmp_path / "run", "evaluation.crop=0.0001")
    assert not (tmp_path / "run").exists()


def test_rates_are_tried_and_samples_shown_in_the_first_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    command = ["find-rate", str(tmp_path / "tiny.json"), "--backend", "numpy", "--steps", "10"]
    command += ["--input-size", "8", "--set", "batch=256", "--set", "epochs=2"]
    assert main([*command, "--set", "augment.progressive=[4]", "--out", str(tmp_path / "a")]) in (
        0,
        1,
    )
    assert " 4 px)" in "".join(capsys.readouterr())
    line = ["show", "samples", "--data", "digits", "--set", "augment.progressive=[4]", "--text"]
    assert main([*line, "--count", "2", "--input-size", "8"]) == 0
    assert "4 px" in capsys.readouterr().out


def test_an_average_is_evaluated_so_too(tmp_path: Path) -> None:
    summary = trained(tmp_path, "evaluation.size=12", "ema.decay=0.5")
    assert summary.final_accuracy == accuracy_at(tmp_path, 12)
    assert summary.final_weights_accuracy is not None


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one size, which nobody changes."""
    out = tmp_path_factory.mktemp("plain")
    trained(out)
    return out


@pytest.mark.parametrize("crop", ["0", "1.2", "nan"])
def test_a_crop_that_is_no_part_of_an_image_is_refused(
    crop: str, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(plain / "last.safetensors"), "--backend", "numpy"]
    assert main([*command, "--crop", crop]) == 2
    assert "--crop = " in capsys.readouterr().err


def test_a_crop_is_asked_for(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(plain / "last.safetensors"), "--backend", "numpy"]
    assert main([*command, "--crop", "0.7", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == accuracy_at(plain, 8, 0.7)


class StopAt:
    """Stops a run as Ctrl-C does, once it has come to a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def chunk(self, position: Position, speed: float) -> None:
        import os
        import signal

        if position.step >= self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, epoch: object) -> None:
        """Hear nothing."""


def sizes_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return what batches of which epoch and size are made, as they are made."""
    from resnet_spec.running import fit

    seen, made = list[tuple[int, int]](), fit.train_batches

    def noted(noises: Any, split: Any, recipe: Any, first: int, *more: Any, **named: Any) -> Any:
        for step, batch in enumerate(made(noises, split, recipe, first, *more, **named), first):
            seen.append((step, batch.images.shape[1]))
            yield batch

    monkeypatch.setattr(fit, "train_batches", noted)
    return seen


@pytest.mark.parametrize(
    "backend",
    [
        it if it in ("numpy", "torch") else pytest.param(it, marks=pytest.mark.thorough)
        for it in BACKENDS
    ],
)
def test_sizes_grow_in_equal_parts_of_the_run(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sizes_seen(monkeypatch)
    summary = trained(tmp_path, "augment.progressive=[4, 6]", "augment.pad=1", backend=backend)
    assert summary.complete
    by_epoch = [sorted({size for step, size in seen if step // 5 == epoch}) for epoch in range(4)]
    assert by_epoch == [[4], [6], [6], [8]] or by_epoch == [[4], [6], [8], [8]]
    assert all(a[1] <= b[1] for a, b in pairwise(sorted(seen)))


@pytest.mark.parametrize(
    "left_out", ["mindspore", pytest.param("", marks=pytest.mark.thorough)], ids="without {}".format
)
def test_all_frameworks_go_the_same_way(left_out: str, tmp_path: Path) -> None:
    lines = dict[str, list[float]]()
    for backend in (name for name in BACKENDS if name != left_out):
        # Two sizes are as many graphs to compile.
        trained(tmp_path / backend, "augment.progressive=[4]", backend=backend)
        lines[backend] = [epoch.train_loss for epoch in read_metrics(tmp_path / backend)]
    for backend, losses in lines.items():
        assert losses == pytest.approx(lines["numpy"], rel=2e-3), backend


@pytest.mark.parametrize("stop", [3, pytest.param(5, marks=pytest.mark.thorough), 8])
def test_a_run_goes_on_within_a_stage_and_at_its_end(stop: int, tmp_path: Path) -> None:
    settings = ("augment.progressive=[4, 6]", "ema.decay=0.5")
    whole = trained(tmp_path / "whole", *settings)
    first = trained(tmp_path / "parts", *settings, watch=StopAt(stop))
    assert not first.complete
    last = resnet_spec.train(resume=tmp_path / "parts")
    assert (last.complete, last.final_accuracy) == (True, whole.final_accuracy)
    ends = [load_checkpoint(tmp_path / it / "last.safetensors").state for it in ("whole", "parts")]
    assert all(np.array_equal(ends[1][name], array) for name, array in ends[0].items())


@pytest.mark.parametrize(
    ("settings", "error", "line"),
    [
        (
            ["augment.progressive=[2, 3, 4, 5, 6]"],
            RecipeError,
            r"augment\.progressive = \[2, 3, 4, 5, 6\]: makes 6 parts of a run, which must have as",
        ),
        (["augment.progressive=[0]"], RecipeError, r"augment\.progressive\[0\] = 0: must be >= 1"),
        (["evaluation.size=0"], RecipeError, r"evaluation\.size = 0: must be >= 1"),
        (["evaluation.crop=1.5"], RecipeError, r"evaluation\.crop = 1\.5: must be <= 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_made(
    settings: list[str], error: type[Exception], line: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=line):
        trained(tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    deep = {**TINY, "stages": [{"width": 4, "blocks": 1, "stride": 2}] * 5}
    settings = [*SHORT, "evaluation.size=1"]
    try:
        lower(resnet_spec.load_spec(deep), 1)
    except SpecError:
        with pytest.raises(SpecError):
            resnet_spec.train(deep, "numpy", settings=settings, out=tmp_path / "run", input_size=8)
        assert not (tmp_path / "run").exists()
