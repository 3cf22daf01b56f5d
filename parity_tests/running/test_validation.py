"""Runs that choose their best epoch by images held out of training, and test once, at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pets import paint
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.errors import CheckpointError, DataError, RecipeError
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.summary import Summary
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SETTINGS = ("epochs=3", "batch=9", "seed=3", "schedule.rate=0.05")
HELD = 12
"""A third of the 36 training images of the pets, of which there are 24 to test on."""


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 36 images to train on and 24 others."""
    home = tmp_path_factory.mktemp("data") / "pets"
    paint(home, splits=("train",))
    return paint(home, count=8, splits=("val",))


def trained(data: Path, out: Path, **more: Any) -> Summary:
    given = {"settings": SETTINGS, "out": out, "input_size": 8, "validation": 1 / 3, **more}
    return resnet_spec.train(TINY, "numpy", data, **given)


@pytest.fixture(scope="module")
def run(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with validation; tests look at it, and do not change it."""
    out = tmp_path_factory.mktemp("validated") / "run"
    trained(pets, out)
    return out


def summary_of(run: Path) -> Summary:
    return Summary.from_dict(json.loads((run / "summary.json").read_text()))


def looked_at(run: Path, name: str, split: str, capsys: pytest.CaptureFixture[str]) -> Any:
    line = ["evaluate", str(run / name), "--backend", "numpy", "--format", "json"]
    assert main([*line, "--split", split]) == 0
    return json.loads(capsys.readouterr().out)


def test_epochs_and_the_best_are_of_the_validation_images(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, summary = read_metrics(run), summary_of(run)
    assert [epoch.split for epoch in epochs] == ["validation"] * 3
    accuracies = [epoch.validation_accuracy for epoch in epochs]
    best = max(it for it in accuracies if it is not None)
    assert summary.best_of == "validation" and summary.best_accuracy == best
    assert summary.best_epoch == accuracies.index(best) + 1
    assert summary.final_validation_accuracy == accuracies[-1]
    found = looked_at(run, "best.safetensors", "validation", capsys)
    assert (found["count"], found["accuracy"]) == (HELD, best)
    assert all("test" not in name for line in lines_of(run) for name in line if line[name])


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_test_images_are_told_of_the_last_and_of_the_best_weights(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summary_of(run)
    for name, accuracy in (
        ("last.safetensors", summary.final_accuracy),
        ("best.safetensors", summary.best_test_accuracy),
    ):
        found = looked_at(run, name, "test", capsys)
        assert (found["count"], found["accuracy"]) == (24, accuracy), name


def test_what_is_trained_on_is_the_rest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert looked_at(run, "last.safetensors", "train", capsys)["count"] == 36 - HELD
    kept = load_checkpoint(run / "last.safetensors")
    assert kept.held_out is not None
    assert (kept.held_out.fraction, kept.held_out.count) == (1 / 3, HELD)
    assert kept.dataset is not None and kept.dataset.splits["train"].count == 36
    assert summary_of(run).held_out == kept.held_out.to_dict()
    assert summary_of(run).steps == 3 * ((36 - HELD) // 9)


def test_the_test_images_are_looked_at_once(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = list[int]()

    def counted(session: Any, split: Any, *args: Any, **more: Any) -> Any:
        counts.append(len(split))
        return evaluate(session, split, *args, **more)

    for module in ("sessions", "testing"):
        monkeypatch.setattr(f"resnet_spec.running.{module}.evaluate", counted)
    summary = trained(pets, tmp_path / "run")
    weights = 1 if summary.best_epoch == 3 else 2
    assert counts == [HELD] * 3 + [24] * weights


def test_a_run_of_which_an_earlier_epoch_is_the_best_tests_its_weights(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session has its own state again afterwards."""
    from resnet_spec.running import fit as module

    sessions = list[Any]()
    made = module._Going.__init__

    def kept(self: Any, run: Any, session: Any, *args: Any) -> None:
        sessions.append(session)
        made(self, run, session, *args)

    def falling(self: Any, weights: Checkpoint, result: Any) -> None:
        if not self.position.best_epoch:
            noted(self, weights, result)

    noted = module._Going._note_best
    monkeypatch.setattr(module._Going, "__init__", kept)
    monkeypatch.setattr(module._Going, "_note_best", falling)
    summary = trained(pets, tmp_path / "run")
    assert summary.best_epoch == 1
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert best.chosen == {"by": "validation", "accuracy": summary.best_accuracy, "epoch": 1}
    last = load_checkpoint(tmp_path / "run" / "last.safetensors").state
    state = sessions[0].trained.state()
    assert all(np.array_equal(state[name], array) for name, array in last.items())
    session = resnet_spec.session(best.spec, "numpy")
    session.load(best.state)
    tested = evaluate(session, resnet_spec.load_data(pets, size=8).test)
    assert summary.best_test_accuracy == tested.accuracy
    assert any(not np.array_equal(last[name], array) for name, array in best.state.items())


# --- Going on -------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_with_the_same_images(
    pets: Path, tmp_path: Path, run: Path
) -> None:
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops())
    stopped = summary_of(tmp_path / "run")
    assert (stopped.final_accuracy, stopped.best_test_accuracy) == (None, None)
    summary = resnet_spec.train(resume=tmp_path / "run")
    whole = summary_of(run)
    for name in ("best_accuracy", "best_epoch", "best_test_accuracy", "final_accuracy", "held_out"):
        assert getattr(summary, name) == getattr(whole, name), name
    mine, others = (load_checkpoint(it / "last.safetensors") for it in (tmp_path / "run", run))
    assert all(np.array_equal(mine.state[name], array) for name, array in others.state.items())
    assert mine.held_out == others.held_out


def test_another_fraction_is_refused_where_a_run_goes_on(pets: Path, run: Path) -> None:
    with pytest.raises(RecipeError, match="--validation: cannot be changed in the middle"):
        resnet_spec.train(resume=run, validation=0.1)
    for other in (0.1, None):
        told = rf"\(validation = 0.3+, not {'none' if other is None else other}\)"
        with pytest.raises(RecipeError, match=told):
            trained(pets, run, validation=other, auto_resume=True)
    assert trained(pets, run, auto_resume=True) == summary_of(run)


def copied(run: Path, to: Path) -> Path:
    to.mkdir()
    for file in run.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_run_whose_summary_is_lost_tests_once_more(tmp_path: Path, run: Path) -> None:
    copy = copied(run, tmp_path / "copy")
    (copy / "summary.json").unlink()
    summary, whole = resnet_spec.train(resume=copy), summary_of(run)
    assert summary.best_test_accuracy == whole.best_test_accuracy
    assert summary.final_accuracy == whole.final_accuracy


def test_best_weights_that_are_lost_or_others_have_no_test_accuracy(
    tmp_path: Path, run: Path
) -> None:
    copy = copied(run, tmp_path / "copy")
    last = load_checkpoint(copy / "last.safetensors")
    best = load_checkpoint(copy / "best.safetensors")
    progress = {**last.progress, "best_epoch": 1}
    save_checkpoint(copy / "last.safetensors", Checkpoint(**{**vars(last), "progress": progress}))
    for change in ("others", "lost"):
        (copy / "summary.json").unlink()
        if change == "lost":
            (copy / "best.safetensors").unlink()
        else:
            assert best.chosen["epoch"] != 1
        summary = resnet_spec.train(resume=copy)
        assert summary.best_test_accuracy is None and summary.final_accuracy is not None
        path = copy / "best.safetensors"
        assert summary.notes == [
            f"{path} does not hold the weights of epoch 1: their test accuracy is not known"
        ]


def test_images_that_are_not_those_held_out_are_refused(tmp_path: Path, run: Path) -> None:
    copy = copied(run, tmp_path / "copy")
    last = load_checkpoint(copy / "last.safetensors")
    assert last.held_out is not None
    held = type(last.held_out)(1 / 3, HELD, "xxh3-128:0")
    save_checkpoint(copy / "last.safetensors", Checkpoint(**{**vars(last), "held_out": held}))
    with pytest.raises(CheckpointError, match="not those that its run held out; train it anew"):
        resnet_spec.train(resume=copy)
    with pytest.raises(DataError, match="the data is not that which their run held images out of"):
        main_raises(["evaluate", str(copy / "last.safetensors"), "--split", "validation"])


def main_raises(line: list[str]) -> None:
    """Run what raises, as the command does before it prints."""
    from resnet_spec.cli import evaluate as command

    parser = __import__("argparse").ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([*line[1:], "--backend", "numpy"]))


# --- Without it -----------------------------------------------------------------------------------


def test_without_it_the_best_is_of_the_test_images_and_says_so(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = trained(pets, tmp_path / "run", validation=None)
    assert (summary.best_of, summary.held_out) == ("test", None)
    assert summary.best_test_accuracy is None and summary.final_validation_accuracy is None
    assert "best of the test images" in str(summary)
    epochs = read_metrics(tmp_path / "run")
    assert summary.best_accuracy == max(e.test_accuracy or 0 for e in epochs)
    names = {name for line in lines_of(tmp_path / "run") for name in line}
    assert not any("validation" in name for name in names)
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert best.chosen["by"] == "test" and best.held_out is None
    rule = "--split = validation: the data has no validation part, and their run held no images out"
    with pytest.raises(DataError, match=rule):
        path = str(tmp_path / "run" / "best.safetensors")
        main_raises(["evaluate", path, "--split", "validation"])


def test_lines_tell_which_images_they_are_of(
    pets: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    line = ["train", str(tmp_path / "tiny.json"), "--backend", "numpy", "--validation", "0.33333"]
    more = ["--set", "epochs=1", "--set", "batch=9", "--input-size", "8", "--data", str(pets)]
    assert main([*line, *more, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert f"({36 - HELD} train, {HELD} validation, 24 test images, 8 px)" in said.out + said.err
    assert "  validation loss " in said.out + said.err
    last = said.out.splitlines()[-1]
    assert last.startswith("best of the validation images ")
    assert "(epoch 1, test accuracy " in last and ", final test accuracy " in last


def test_an_epoch_without_an_accuracy_is_of_the_images_that_were_looked_at() -> None:
    fields: dict[str, Any] = {
        "epoch": 1,
        "step": 2,
        "rate": 0.1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_loss": None,
        "test_accuracy": None,
        "images_per_second": 1.0,
        "wall_s": 1.0,
    }
    epoch = Epoch.from_dict({**fields, "validation_not_finite": 3})
    assert (epoch.split, epoch.not_finite, epoch.is_evaluated) == ("validation", 3, True)
    assert Epoch.from_dict(epoch.to_dict()) == epoch
    assert not Epoch.from_dict(fields).is_evaluated


@pytest.mark.parametrize("held", [None, 1 / 3])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_lines_of_epochs_have_the_same_keys_evaluated_or_not(
    held: float | None, decay: float, pets: Path, tmp_path: Path
) -> None:
    """Also after a run went on, which keeps the lines that are there."""
    settings = [*SETTINGS, "evaluate_every=3", f"ema.decay={decay}"]
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", settings=settings, validation=held, watch=Stops())
    resnet_spec.train(resume=tmp_path / "run")
    first, second, last = lines_of(tmp_path / "run")
    assert first.keys() == second.keys() == last.keys()
    split = "test" if held is None else "validation"
    names = [f"{split}_loss", f"{split}_accuracy", "weights_loss", "weights_accuracy"]
    names = names if decay else names[:2]
    for name in names:
        assert first[name] is None and second[name] is None and last[name] is not None
    assert ("weights_loss" in last) == bool(decay)
    assert last[f"{split}_not_finite"] == 0
