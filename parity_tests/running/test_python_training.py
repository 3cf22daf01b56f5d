"""`resnet_spec.train`: what the command does, from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import NETWORK as TINY

import resnet_spec
from resnet_spec import CheckpointError, DataError, RecipeError
from resnet_spec.cli.main import main
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.run_folder import RunFolder
from resnet_spec.running.runs import Position
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint

SETTINGS = ("epochs=2", "batch=512", "seed=3")


class Heard:
    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.steps = 0

    def chunk(self, position: Position, speed: float) -> None:
        self.steps = position.step

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def test_it_does_what_the_command_does(tmp_path: Path) -> None:
    heard, said = Heard(), list[str]()
    summary = resnet_spec.train(
        TINY, "numpy", settings=SETTINGS, out=tmp_path / "a", watch=heard, say=said.append
    )
    assert summary.complete and summary.steps == heard.steps == 4
    assert [epoch.epoch for epoch in heard.epochs] == [1, 2]
    assert any("becomes 16, as in digits" in line for line in said)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = ["train", str(tmp_path / "tiny.json"), "--backend", "numpy", *settings]
    assert main([*command, "--out", str(tmp_path / "b")]) == 0
    losses = [[e.train_loss for e in read_metrics(tmp_path / name)] for name in "ab"]
    assert losses[0] == losses[1] == [epoch.train_loss for epoch in heard.epochs]


class Epochs:
    def __init__(self, fails: bool = False) -> None:
        self.seen, self._fails = list[int](), fails

    def epoch(self, epoch: Epoch) -> None:
        self.seen.append(epoch.epoch)
        if self._fails:
            raise ZeroDivisionError("of the watch")


def test_a_watch_may_hear_of_epochs_alone(tmp_path: Path) -> None:
    watch: Any = Epochs()
    resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a", watch=watch)
    assert watch.seen == [1, 2]


@pytest.mark.parametrize("watch", [object(), Epochs, 3, {"epoch": 1}])
def test_what_hears_nothing_is_refused_before_anything(watch: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^watch = .*: must be an object with a method chunk"):
        resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a", watch=watch)
    assert not (tmp_path / "a").exists()


def test_a_watch_that_fails_leaves_a_checkpoint_of_the_epoch(tmp_path: Path) -> None:
    whole = resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "whole")
    watch: Any = Epochs(fails=True)
    with pytest.raises(ZeroDivisionError, match="of the watch"):
        resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a", watch=watch)
    assert load_checkpoint(tmp_path / "a" / "last.safetensors").progress["step"] == 2
    assert resnet_spec.train(resume=tmp_path / "a").final_test_loss == whole.final_test_loss
    lines = [[e.train_loss for e in read_metrics(tmp_path / name)] for name in ("a", "whole")]
    assert lines[0] == lines[1]


def test_an_epoch_that_was_not_saved_is_trained_and_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "whole")
    heard = Heard()
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        save = RunFolder.save_last

        def fails(folder: RunFolder, checkpoint: Checkpoint) -> None:
            if heard.epochs:
                raise ZeroDivisionError
            save(folder, checkpoint)

        patched.setattr(RunFolder, "save_last", fails)
        resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a", watch=heard)
    assert [epoch.epoch for epoch in heard.epochs] == [1]
    assert [epoch.epoch for epoch in read_metrics(tmp_path / "a")] == [1, 2]
    resnet_spec.train(resume=tmp_path / "a")
    lines = [[e.train_loss for e in read_metrics(tmp_path / name)] for name in ("a", "whole")]
    assert lines[0] == lines[1]


def test_a_run_is_gone_on_with_and_not_overwritten(tmp_path: Path) -> None:
    first = resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path)
    assert resnet_spec.train(resume=tmp_path) == first
    with pytest.raises(RecipeError, match="SPEC: cannot be changed in the middle of a run"):
        resnet_spec.train(TINY, resume=tmp_path)
    with pytest.raises(DataError, match="holds a run"):
        resnet_spec.train(TINY, "numpy", out=tmp_path)
    again = resnet_spec.train(
        TINY, "numpy", settings=("steps=1", "batch=64"), out=tmp_path, overwrite=True
    )
    assert again.steps == 1


def test_pretrained_weights_get_a_new_head(tmp_path: Path) -> None:
    resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a")
    said: list[str] = []
    summary = resnet_spec.train(
        backend="numpy",
        recipe={"steps": 1, "batch": 32},
        pretrained=tmp_path / "a" / "best.safetensors",
        head="replace",
        freeze="backbone",
        out=tmp_path / "b",
        say=said.append,
    )
    assert summary.steps == 1
    assert any("drawn anew" in line for line in said)
    with pytest.raises(CheckpointError, match="--resume"):
        resnet_spec.train(resume=True)


def test_data_are_had_by_name() -> None:
    assert resnet_spec.load_data("digits").classes[3] == "3"
