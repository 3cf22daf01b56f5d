"""Runs around every installed backend: resume, interruption, averages, and handing weights over."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs import SLOW

from resnet_spec.contract import Session
from resnet_spec.data import load_data
from resnet_spec.data.dataset import ArraySplit, Dataset
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError, RecipeError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.fit import fit
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.progress import epoch_line
from resnet_spec.running.runs import Position, Run, Summary
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint

pytestmark = pytest.mark.xdist_group("training")

BACKENDS = installed_backends()


@cache
def data() -> Dataset:
    """A few digits: 72 images to train on, 40 to test on."""
    digits = load_data("digits", size=8)

    def few(split: ArraySplit, count: int) -> ArraySplit:
        return ArraySplit(split.images(np.arange(count)), split.labels[:count], 8)

    return replace(digits, train=few(digits.train, 72), test=few(digits.test, 40))  # pyright: ignore[reportArgumentType]


def make_run(backend: str, out: Path, **recipe: object) -> Run:
    spec = Spec(
        name="tiny",
        block="basic",
        stem={"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        stages=[{"width": 4, "blocks": 1}, {"width": 8, "blocks": 1, "stride": 2}],
    )
    fields: dict[str, object] = {
        "epochs": 3,
        "batch": 16,
        "augment": {"pad": 1, "flip": True},
        "schedule": {"kind": "cosine", "rate": 0.1},
    }
    spec, _ = fitted(spec, data())
    return Run(spec, lower(spec), Recipe(**{**fields, **recipe}), backend, data(), "digits", out)


class Watch:
    """Counts, and presses Ctrl-C when a run has come to a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.epochs: list[Epoch] = []

    def chunk(self, position: Position, speed: float) -> None:
        if 0 <= self.stop_at <= position.step:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


@cache
def session(backend: str, recipe_json: str) -> Session:
    """Return a session, compiled once for all tests of this process."""
    run = make_run(backend, Path(), **json.loads(recipe_json))
    return load_backend(backend).Session(run.plan, run.recipe, precision=run.recipe.precision)


def go(
    run: Run, watch: Watch | None = None, start: Checkpoint | None = None, **k: object
) -> Summary:
    made = session(run.backend, json.dumps(k))
    return fit(run, made, made, watch or Watch(), start)


def without_times(epochs: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, images_per_second=0.0, wall_s=0.0) for epoch in epochs]


STOPS = [
    pytest.param(
        stop_at,
        backend,
        marks=[pytest.mark.thorough] if backend in SLOW and stop_at not in (1, 4) else [],
    )
    for backend in BACKENDS
    for stop_at in (1, 2, 4, 8)
]


@pytest.mark.parametrize(("stop_at", "backend"), STOPS)
def test_a_stopped_and_resumed_run_is_bit_identical(
    backend: str, stop_at: int, tmp_path: Path
) -> None:
    whole, parts = make_run(backend, tmp_path / "whole"), make_run(backend, tmp_path / "parts")
    go(whole)
    first = go(parts, Watch(stop_at))
    assert not first.complete and 0 < first.steps < parts.total_steps
    second = go(parts, start=load_checkpoint(parts.out / "last.safetensors"))
    assert second.complete and second.steps == 12
    for name in ("last", "best"):
        one, two = (load_checkpoint(r.out / f"{name}.safetensors") for r in (whole, parts))
        assert one.state.keys() == two.state.keys()
        for tensor, array in one.state.items():
            assert array.tobytes() == two.state[tensor].tobytes(), tensor
    assert without_times(read_metrics(whole.out)) == without_times(read_metrics(parts.out))


HALF = [
    pytest.param(name, marks=() if name == "torch" else pytest.mark.thorough)
    for name in BACKENDS
    if "float16" in load_backend(name).PRECISIONS
]


@pytest.mark.parametrize("backend", HALF)
def test_a_float16_run_goes_on_with_its_loss_scale(backend: str, tmp_path: Path) -> None:
    half = {"precision": "float16", "epochs": 2}
    whole, parts = (make_run(backend, tmp_path / name, **half) for name in ("whole", "parts"))
    go(whole, **half)
    assert not go(parts, Watch(2), **half).complete
    start = load_checkpoint(parts.out / "last.safetensors")
    assert start.state["loss_scale/good_steps"] > 0
    assert go(parts, start=start, **half).complete
    one, two = (load_checkpoint(run.out / "last.safetensors").state for run in (whole, parts))
    assert {k: a.tobytes() for k, a in one.items()} == {k: a.tobytes() for k, a in two.items()}


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path) -> None:
    run = make_run("numpy", tmp_path)
    first = go(run)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    start = load_checkpoint(tmp_path / "last.safetensors")
    assert go(replace(run, backend="torch"), start=start) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "summary.json").write_text("{")
    assert go(run, start=start).final_accuracy == first.final_accuracy


def test_the_comparison_above_can_fail(tmp_path: Path) -> None:
    """A resumed run whose velocity is lost ends elsewhere."""
    whole, parts = make_run("numpy", tmp_path / "whole"), make_run("numpy", tmp_path / "parts")
    go(whole)
    go(parts, Watch(4))
    start = load_checkpoint(parts.out / "last.safetensors")
    kept = {name: a for name, a in start.state.items() if not name.startswith("momentum/")}
    go(parts, start=replace(start, state=kept))
    one, two = (load_checkpoint(r.out / "last.safetensors") for r in (whole, parts))
    assert not np.array_equal(one.state["fc.weight"], two.state["fc.weight"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_run_leaves(backend: str, tmp_path: Path) -> None:
    run, watch = make_run(backend, tmp_path), Watch()
    summary = go(run, watch)
    assert {p.name for p in tmp_path.iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "previous.safetensors",
        "summary.json",
    }
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["backend"] == backend
    assert written["spec"] == "tiny"
    assert (written["epochs"], written["steps"]) == (3, 12)
    assert written["complete"] is True
    assert written["final_accuracy"] == watch.epochs[-1].test_accuracy
    assert written["final_loss"] == watch.epochs[-1].train_loss
    best = max(e.test_accuracy for e in watch.epochs if e.test_accuracy is not None)
    assert written["best_accuracy"] == best == summary.best_accuracy
    assert written["wall_s"] > 0 and written["images_per_second"] > 0
    assert read_metrics(tmp_path) == watch.epochs


@pytest.mark.parametrize("other", BACKENDS)
def test_every_backend_evaluates_the_checkpoint_of_another(other: str, tmp_path: Path) -> None:
    run = make_run("numpy", tmp_path)
    summary = go(run)
    weights = load_checkpoint(tmp_path / "best.safetensors")
    results = []
    for backend in ("numpy", other):
        made = session(backend, "{}")
        made.load(weights.state)
        results.append(evaluate(made, data().test, batch=16))
    assert results[0].accuracy == summary.best_accuracy
    assert results[1].predictions.tolist() == results[0].predictions.tolist()
    assert results[1].loss == pytest.approx(results[0].loss, rel=1e-5)
    assert results[1].count == 40


def test_evaluation_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    go(make_run("numpy", tmp_path))
    made = session("numpy", "{}")
    losses = [evaluate(made, data().test, batch=size).loss for size in (7, 40, 64)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_average_is_what_is_evaluated_and_kept_as_best(backend: str, tmp_path: Path) -> None:
    changes: dict[str, object] = {"ema": {"decay": 0.5}, "epochs": 1}
    run = make_run(backend, tmp_path, **changes)
    trained = session(backend, json.dumps(changes))
    evaluator = load_backend(backend).Session(run.plan)
    watch = Watch()
    fit(run, trained, evaluator, watch)
    last, best = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("last", "best"))
    for tensor in run.plan.tensors:
        assert np.array_equal(best.state[tensor.name], last.state[f"ema/{tensor.name}"])
    assert not np.array_equal(best.state["fc.weight"], last.state["fc.weight"])
    evaluator.load(best.state)
    assert evaluate(evaluator, data().test).accuracy == watch.epochs[-1].test_accuracy
    own = evaluate(trained, data().test)
    (line,) = read_metrics(tmp_path)
    assert (line.weights_accuracy, line.weights_loss) == (own.accuracy, own.loss)
    assert line.weights_loss != line.test_loss
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final_weights_accuracy"] == own.accuracy
    shown = epoch_line(line, 1)
    assert f"accuracy {line.test_accuracy:.4f} ({own.accuracy:.4f} without the average)" in shown


def test_evaluation_and_checkpoint_cadence(tmp_path: Path) -> None:
    run = make_run("numpy", tmp_path, evaluate_every=2, checkpoint_every=2)
    go(run)
    tested = [epoch.test_accuracy is not None for epoch in read_metrics(tmp_path)]
    assert tested == [False, True, True]


def test_steps_may_end_inside_an_epoch(tmp_path: Path) -> None:
    run = make_run("numpy", tmp_path, epochs=None, steps=6)
    summary = go(run, steps=6, epochs=None)
    assert (summary.steps, summary.epochs) == (6, 2)
    assert [epoch.step for epoch in read_metrics(tmp_path)] == [4, 6]


def test_a_loss_that_is_no_number_is_one_clear_line(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"schedule": {"rate": 1e30}}
    run = make_run("numpy", tmp_path, **changes)
    with (
        np.errstate(all="ignore"),
        pytest.raises(RecipeError, match=r"schedule.rate = 1e\+30: the loss became \w+ at step"),
    ):
        go(run, **changes)


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    run = make_run("numpy", tmp_path)
    go(run)
    best = load_checkpoint(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="holds weights alone"):
        go(run, start=best)
