"""Runs on data with a validation part of its own: what they choose by, keep, and go on with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pets import paint
from three_parts import FORMS, folder
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.data.dataset import Dataset
from resnet_spec.errors import DataError, RecipeError
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.job import job_of
from resnet_spec.running.metrics import read_metrics
from resnet_spec.running.request import Request
from resnet_spec.running.runs import Run
from resnet_spec.running.summary import Summary
from resnet_spec.running.tracking.tracker import Tracked
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

SETTINGS = ("epochs=3", "batch=9", "seed=3", "schedule.rate=0.05")
VALIDATION, TESTED = 6, 3
"""Images of the parts; see `three_parts.COUNTS`."""


def trained(data: Path | str | Dataset, out: Path, **more: Any) -> Summary:
    size = None if isinstance(data, Dataset) else 8
    given = {"settings": SETTINGS, "out": out, "input_size": size, **more}
    return resnet_spec.train(TINY, "numpy", data, **given)


def summary_of(run: Path) -> Summary:
    return Summary.from_dict(json.loads((run / "summary.json").read_text()))


def correct_of_best(run: Path, data: Dataset) -> dict[str, float | None]:
    """Return the accuracy of the best epoch's weights on each part that is evaluated."""
    best = load_checkpoint(run / "best.safetensors")
    session = resnet_spec.session(best.spec, "numpy")
    session.load(best.state)
    parts = {name: split for name, split in data.splits.items() if name != "train"}
    return {name: evaluate(session, split).accuracy for name, split in parts.items()}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three parts; tests look at it, and do not change it."""
    return folder(tmp_path_factory.mktemp("data") / "pets")


@pytest.fixture(scope="module")
def run(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on it; the same."""
    out = tmp_path_factory.mktemp("run") / "run"
    trained(pets, out)
    return out


@pytest.mark.parametrize("form", FORMS)
def test_a_run_chooses_by_the_validation_part_and_tests_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "Parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    data, counts, lines = FORMS[form](tmp_path / "pets"), list[int](), list[str]()

    def counted(session: Any, split: Any, *args: Any, **more: Any) -> Any:
        counts.append(len(split))
        return evaluate(session, split, *args, **more)

    for module in ("sessions", "testing"):
        monkeypatch.setattr(f"resnet_spec.running.{module}.evaluate", counted)
    summary = trained(data, tmp_path / "run", say=lines.append)
    looked = 1 if summary.best_epoch == 3 else 2
    assert counts == [VALIDATION] * 3 + [TESTED] * looked
    assert [epoch.split for epoch in read_metrics(tmp_path / "run")] == ["validation"] * 3
    held = load_checkpoint(tmp_path / "run" / "last.safetensors").held_out
    assert held is not None and (held.fraction, held.count) == (None, VALIDATION)
    assert (summary.best_of, summary.held_out) == ("validation", held.to_dict())
    rule = "each epoch is evaluated on the validation part of pets (6 images); the test images are"
    assert sum(line.startswith(f"note: {rule}") for line in lines) == 1


def opposite(home: Path) -> Path:
    """Make pets whose test images have each other's colours, so that the two parts disagree."""
    paint(home, count=12, splits=("train", "val"))
    return paint(home, {"cat": "dog", "dog": "fox", "fox": "cat"}, count=3, splits=("test",))


@pytest.mark.parametrize("planted", [False, True], ids=["sound", "planted"])
def test_the_best_is_of_the_validation_images_and_test_images_instead_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    if planted:
        monkeypatch.setattr(Run, "judged", property(lambda run: run.data.test))
    data = resnet_spec.load_data(opposite(tmp_path / "pets"), size=8)
    summary = trained(data, tmp_path / "run", settings=("epochs=4", "batch=6", "seed=1"))
    found = correct_of_best(tmp_path / "run", data)
    assert found["validation"] != found["test"]
    assert (summary.best_accuracy == found["validation"]) is not planted
    assert summary.best_test_accuracy == found["test"]


def test_early_stopping_needs_no_fraction(pets: Path, tmp_path: Path) -> None:
    settings = ("epochs=9", "batch=9", "early_stopping.patience=1", "early_stopping.min_delta=0.99")
    summary = trained(pets, tmp_path / "own", settings=settings)
    assert summary.stopped_early and summary.epochs == 2
    with pytest.raises(RecipeError, match=r"early_stopping\.patience = 1: needs validation images"):
        trained(f"{pets}@test", tmp_path / "test", settings=settings)


def test_a_fraction_beside_an_own_part_is_refused(pets: Path, tmp_path: Path) -> None:
    rule = f"--validation = 0.1: {pets} has a validation part of its own (6 images); leave it out"
    with pytest.raises(DataError) as caught:
        trained(pets, tmp_path / "run", validation=0.1)
    assert str(caught.value) == f"{rule}, or write {pets}@test to hold out others"
    with pytest.raises(DataError, match="leave it out, or make it without that to hold out others"):
        trained(resnet_spec.load_data(pets, size=8), tmp_path / "run", validation=0.1)
    assert not (tmp_path / "run").exists()
    summary = trained(f"{pets}@test", tmp_path / "run", validation=1 / 3)
    assert summary.held_out is not None and summary.held_out["fraction"] == 1 / 3


def test_the_command_says_so_and_looks_at_the_images_again(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    line = ["train", str(tmp_path / "tiny.json"), "--backend", "numpy", "--data", str(pets)]
    more = ["--set", "epochs=1", "--set", "batch=9", "--input-size", "8"]
    assert main([*line, *more, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "(18 train, 6 validation, 3 test images, 8 px)" in said.out + said.err
    assert said.out.splitlines()[-1].startswith("best of the validation images ")
    look = ["evaluate", str(tmp_path / "run" / "best.safetensors"), "--backend", "numpy"]
    counts = {"validation": VALIDATION, "test": TESTED, "train": 18}
    for split, count in counts.items():
        assert main([*look, "--split", split, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["count"] == count
        if split == "validation":
            assert found["accuracy"] == summary_of(tmp_path / "run").best_accuracy
    alone = [*look, "--split", "validation", "--data", f"{pets}@test"]
    assert main(alone) == 2
    assert "--split = validation: the data has no validation part" in capsys.readouterr().err


def test_a_search_for_a_rate_has_the_training_part_and_trackers_hear_of_the_other(
    pets: Path, tmp_path: Path
) -> None:
    lines = list[str]()
    given: dict[str, Any] = {
        "spec": TINY,
        "backend": "numpy",
        "input_size": 8,
        "settings": SETTINGS,
    }
    job = job_of(Request(**given, data=pets, out=tmp_path / "run"), lines.append)
    assert (len(job.run.data.train), job.run.epoch_steps) == (18, 2)
    assert not any("each epoch is evaluated" in line for line in lines)
    assert Tracked.of(job.run, {}).parameters()["data.validation"] == "own"


# --- Going on -------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_with_the_same_part(
    pets: Path, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops())
    summary, whole = trained(pets, tmp_path / "run", auto_resume=True), summary_of(run)
    for name in ("best_accuracy", "best_epoch", "best_test_accuracy", "final_accuracy", "held_out"):
        assert getattr(summary, name) == getattr(whole, name), name
    mine, others = (load_checkpoint(it / "last.safetensors") for it in (tmp_path / "run", run))
    assert all(np.array_equal(mine.state[name], array) for name, array in others.state.items())
    with pytest.raises(DataError, match="has no validation part, and the run chooses its best"):
        resnet_spec.train(resume=run, data=f"{pets}@test", accept_data=True)


def test_other_validation_images_are_refused_or_choose_anew(tmp_path: Path) -> None:
    pets = folder(tmp_path / "pets")
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops())
    shutil.copy(pets / "val" / "cat" / "00.png", pets / "val" / "cat" / "02.png")
    with pytest.raises(DataError, match=r"6 -> 7 validation images; give that data, or go on with"):
        resnet_spec.train(resume=tmp_path / "run")
    before = load_checkpoint(tmp_path / "run" / "last.safetensors").progress
    summary = resnet_spec.train(resume=tmp_path / "run", accept_data=True)
    assert summary.held_out is not None and summary.held_out["count"] == 7
    assert before["best_epoch"] == 1 and summary.best_epoch in (2, 3)
    assert any("6 -> 7 validation images" in note for note in summary.notes)


@pytest.mark.thorough
def test_another_backend_goes_on_with_the_same_part(pets: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops())
    summary = resnet_spec.train(resume=tmp_path / "run", backend="torch")
    assert len(summary.legs) == 2 and summary.held_out == summary_of(run).held_out
    assert summary.best_accuracy == pytest.approx(summary_of(run).best_accuracy)


# --- Begun before there were own parts ------------------------------------------------------------


def begun_before(pets: Path, split: str, out: Path) -> None:
    """Leave a run, stopped, as versions did that took `split` of `pets` for all evaluation."""
    with pytest.raises(Stopped):
        trained(f"{pets}@{split}", out, watch=Stops())
    last = load_checkpoint(out / "last.safetensors")
    assert last.held_out is None and last.data == f"{pets}@{split}"
    save_checkpoint(out / "last.safetensors", replace(last, data=str(pets)))
    assert last.dataset is not None and set(last.dataset.splits) == {"train", "test"}


@pytest.mark.parametrize("how", ["resume", "auto_resume"])
@pytest.mark.parametrize(("split", "count"), [("val", VALIDATION), ("test", TESTED)])
def test_a_run_from_before_goes_on_as_it_did(
    pets: Path, tmp_path: Path, how: str, split: str, count: int
) -> None:
    begun_before(pets, split, tmp_path / "run")
    lines = list[str]()
    if how == "resume":
        summary = resnet_spec.train(resume=tmp_path / "run", say=lines.append)
    else:
        summary = trained(pets, tmp_path / "run", auto_resume=True, say=lines.append)
    whole = trained(f"{pets}@{split}", tmp_path / "whole")
    assert (summary.best_of, summary.held_out) == ("test", None)
    assert summary.best_accuracy == whole.best_accuracy
    assert summary.final_accuracy == whole.final_accuracy
    assert summary.dataset is not None and whole.dataset is not None
    assert summary.dataset["splits"] == whole.dataset["splits"]
    assert summary.dataset["splits"]["test"]["count"] == count
    assert any("note: the validation part of pets is " in line for line in lines)
    assert not any("data is not what" in line for line in lines)


def test_weights_from_before_are_looked_at_on_what_they_were_tested_on(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_before(pets, "val", tmp_path / "run")
    path = str(tmp_path / "run" / "last.safetensors")
    assert main(["evaluate", path, "--backend", "numpy", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    notes = " ".join(found["notes"])
    assert found["count"] == VALIDATION
    assert "pets is tested on, as when the run began" in notes and "has changed" not in notes
    assert main(["evaluate", path, "--backend", "numpy", "--split", "validation"]) == 2
    assert "the data has no validation part" in capsys.readouterr().err


def test_a_run_that_holds_images_out_goes_on_where_a_part_was_added(tmp_path: Path) -> None:
    pets = paint(tmp_path / "pets", count=6, splits=("train", "test"))
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops(), validation=1 / 3)
    paint(pets, count=2, splits=("val",))
    summary = resnet_spec.train(resume=tmp_path / "run")
    assert summary.held_out is not None and summary.held_out["fraction"] == 1 / 3
    assert summary.complete and summary.best_of == "validation"


def test_the_same_call_goes_on_where_a_part_was_added(tmp_path: Path) -> None:
    """`--validation F` means what it meant; a fresh run on this data is refused it as ever."""
    pets, out = paint(tmp_path / "pets", count=6, splits=("train", "test")), tmp_path / "run"
    with pytest.raises(Stopped):
        trained(pets, out, watch=Stops(), validation=1 / 3)
    shutil.copytree(out, tmp_path / "whole")
    resnet_spec.train(resume=tmp_path / "whole")
    paint(pets, count=2, splits=("val",))
    with pytest.raises(RecipeError, match=r"validation = 0\.333.*, not 0\.5"):
        trained(pets, out, auto_resume=True, validation=0.5)
    summary = trained(pets, out, auto_resume=True, validation=1 / 3)
    whole = summary_of(tmp_path / "whole")
    assert (summary.held_out, summary.best_accuracy) == (whole.held_out, whole.best_accuracy)
    with pytest.raises(DataError, match="has a validation part of its own"):
        trained(pets, tmp_path / "other", auto_resume=True, validation=1 / 3)


def test_no_consent_is_offered_that_would_be_refused(tmp_path: Path) -> None:
    """The training images have changed, too, which could be consented to."""
    pets = folder(tmp_path / "pets")
    with pytest.raises(Stopped):
        trained(pets, tmp_path / "run", watch=Stops())
    shutil.rmtree(pets / "val")
    shutil.copy(pets / "train" / "cat" / "00.png", pets / "train" / "cat" / "99.png")
    for accept in (False, True):
        with pytest.raises(DataError) as caught:
            resnet_spec.train(resume=tmp_path / "run", accept_data=accept)
        rule = "has no validation part, and the run chooses its best epoch by one"
        assert str(caught.value) == f"--data = {pets}: {rule}; give data that has one"
