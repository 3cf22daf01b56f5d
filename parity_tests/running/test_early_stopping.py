"""Runs that end when validation gets no better: counted in evaluations, kept by checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec.data.dataset import Dataset
from resnet_spec.errors import CheckpointError, RecipeError
from resnet_spec.running import sessions as module
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.metrics import read_metrics
from resnet_spec.running.runs import Position
from resnet_spec.running.summary import Summary
from resnet_spec.weights.checkpoint import load_checkpoint

SETTINGS = ("epochs=6", "batch=8", "early_stopping.patience=2")
STEPS = 2
"""Of an epoch: 16 of 20 images are left."""
IMAGES = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), np.uint8)
LABELS = np.arange(23) % 2
DATA = Dataset.from_arrays("noise", (IMAGES[:20], LABELS[:20]), (IMAGES[20:], LABELS[20:]), "ab")


def trained(out: Path, *settings: str, **more: Any) -> Summary:
    given = {"settings": (*SETTINGS, *settings), "out": out, "validation": 0.2}
    return resnet_spec.train(TINY, "numpy", DATA, **{**given, **more})


def says(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float | None]) -> None:
    """Let the evaluations of epochs come to these accuracies, None to none at all."""
    waiting = list(accuracies)

    def found(session: Any, split: Any, *args: Any, **more: Any) -> Any:
        result = evaluate(session, split, *args, **more)
        if len(split) == 3:
            return result
        accuracy = waiting.pop(0)
        return replace(result, accuracy=accuracy, not_finite=0 if accuracy is not None else 1)

    monkeypatch.setattr(module, "evaluate", found)


@pytest.mark.parametrize(
    ("accuracies", "more", "epochs", "best"),
    [
        ([0.5, 0.4, 0.4, 0.9], [], 3, 1),
        ([0.5, 0.4, 0.6, 0.6, 0.6, 0.9], [], 5, 3),  # As good as before is no better.
        ([0.5, 0.505, 0.512, 0.7], ["early_stopping.min_delta=0.0125"], 3, 3),
        ([0.5, 0.51, 0.52, 0.53, 0.52, 0.9], ["early_stopping.min_delta=0.015"], 5, 4),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.4], [], 6, 5),  # The whole run.
        ([0.5, 0.4, 0.9], ["evaluate_every=2"], 6, 6),  # Evaluations count, not epochs.
        ([0.5, None, 0.4, 0.9], [], 3, 1),  # No accuracy is no better.
    ],
)
def test_a_run_ends_after_so_many_evaluations_without_a_better_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: list[float | None],
    more: list[str],
    epochs: int,
    best: int,
) -> None:
    says(monkeypatch, accuracies)
    summary = trained(tmp_path / "run", *more)
    assert (summary.epochs, summary.steps, summary.best_epoch) == (epochs, STEPS * epochs, best)
    assert summary.complete and summary.stopped_early == (epochs < 6)
    assert summary.final_accuracy is not None and summary.best_test_accuracy is not None
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").progress["step"] == summary.steps
    assert len(read_metrics(tmp_path / "run")) == epochs
    assert ("stopped early" in str(summary)) == (epochs < 6)


def test_a_run_that_has_stopped_early_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, [0.5, 0.4, 0.3])
    summary = trained(tmp_path / "run")
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    said = list[str]()
    assert resnet_spec.train(data=DATA, resume=tmp_path / "run", say=said.append) == summary
    assert said[-1].endswith("run is complete: nothing is left to train")
    (tmp_path / "run" / "summary.json").unlink()
    says(monkeypatch, [0.3])
    again = resnet_spec.train(data=DATA, resume=tmp_path / "run")
    assert again.stopped_early and again.final_accuracy == summary.final_accuracy
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_a_run_that_goes_on_has_waited_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, [0.5, 0.4])
    with pytest.raises(Stopped):  # As it ends its second epoch, which is not kept.
        trained(tmp_path / "run", watch=Stops())
    progress = load_checkpoint(tmp_path / "run" / "last.safetensors").progress
    assert (progress["waited"], progress["better_than"]) == (0, 0.5)
    says(monkeypatch, [0.4, 0.45])
    summary = resnet_spec.train(data=DATA, resume=tmp_path / "run")
    assert (summary.epochs, summary.stopped_early) == (3, True)


def test_it_is_refused_without_validation(tmp_path: Path) -> None:
    rule = "early_stopping.patience = 2: needs validation images: by the test images the end would"
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path / "run", validation=None)
    assert str(caught.value).startswith(rule) and str(caught.value).endswith(
        "--validation F, as 0.1"
    )
    assert not (tmp_path / "run").exists()


def test_positions_of_other_runs_do_not_speak_of_it() -> None:
    plain = Position(step=2, epoch_steps=2).to_dict()
    assert not {"waited", "better_than"} & plain.keys()
    assert Position.from_dict(plain) == Position(step=2, epoch_steps=2)
    some = Position(step=2, epoch_steps=2, waited=1, better_than=0.5)
    assert Position.from_dict(json.loads(json.dumps(some.to_dict()))) == some
    for wrong in ({"waited": -1}, {"better_than": 2.0}, {"waited": 0.5}):
        with pytest.raises(CheckpointError, match="position of its run is damaged"):
            Position.from_dict({**some.to_dict(), **wrong})
