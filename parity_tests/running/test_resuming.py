"""A run that goes on with its data: the same, refused with the difference, or by consent."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pets import SPEC, paint

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.errors import CheckpointError, DataError, RecipeError
from resnet_spec.running.metrics import read_metrics
from resnet_spec.running.runs import Position, Summary
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

SETTINGS = ("epochs=4", "batch=6", "schedule.kind=cosine", "schedule.rate=0.05")
"""Of 36 images: 6 steps an epoch, 24 in all."""


class Stop:
    """Stops a run, as Ctrl-C does, in the epoch after the first."""

    def chunk(self, position: Position, speed: float) -> None:
        if position.step > 6:
            raise KeyboardInterrupt

    def epoch(self, epoch: object) -> None:
        """Go on."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset and a run on it that stopped after its first epoch."""
    made = tmp_path_factory.mktemp("stopped")
    paint(made / "pets")
    with pytest.raises(KeyboardInterrupt):
        resnet_spec.train(
            SPEC,
            "numpy",
            made / "pets",
            settings=SETTINGS,
            out=made / "run",
            input_size=8,
            watch=Stop(),
        )
    assert load_checkpoint(made / "run" / "last.safetensors").progress["step"] == 6
    return made


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    """Return a copy of it whose data may be changed."""
    shutil.copytree(stopped, tmp_path / "home")
    last = tmp_path / "home" / "run" / "last.safetensors"
    data = str(tmp_path / "home" / "pets")
    save_checkpoint(last, replace(load_checkpoint(last), data=data))
    return tmp_path / "home"


def resumed(home: Path, **more: Any) -> tuple[Summary, list[str]]:
    said: list[str] = []
    return resnet_spec.train(resume=home / "run", say=said.append, **more), said


def refusal(home: Path, **more: Any) -> str:
    before = (home / "run" / "last.safetensors").read_bytes()
    with pytest.raises(DataError) as caught:
        resumed(home, **more)
    assert (home / "run" / "last.safetensors").read_bytes() == before
    assert len(caught.value.problems) == 1
    return str(caught.value)


def drop(home: Path, split: str, count: int) -> None:
    """Remove the last `count` images of each class."""
    for folder in (home / "pets" / split).iterdir():
        for path in sorted(folder.iterdir())[-count:]:
            path.unlink()


def test_the_same_data_goes_on_in_silence_wherever_it_is(home: Path) -> None:
    (home / "pets").rename(home / "moved")
    assert "there is no" in refusal(home)
    summary, said = resumed(home, data=home / "moved")
    assert (summary.complete, summary.steps, said) == (True, 24, [])
    known = Fingerprint.of(resnet_spec.load_data(home / "moved", size=8))
    kept = load_checkpoint(home / "run" / "best.safetensors").dataset
    assert kept is not None and kept.changes(known) == []
    assert load_checkpoint(home / "run" / "last.safetensors").data == str(home / "moved")


def test_a_run_that_fails_elsewhere_before_its_first_step_can_go_on_there(
    home: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        resumed(home, out=home / "far", watch=Stop())
    step = load_checkpoint(home / "far" / "last.safetensors").progress["step"]
    assert step == 6
    summary = resnet_spec.train(resume=home / "far", data=home / "pets")
    assert (summary.complete, summary.steps) == (True, 24)


def test_fewer_images_are_refused_with_their_number(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(home, "train", 6)
    assert "36 -> 18 train images" in refusal(home)
    drop(home, "train", 5)
    assert main(["train", "--resume", str(home / "run")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    # By no consent: fewer than a batch.
    assert "has 3 training images, fewer than" in shown.err and "--accept-data" not in shown.err


def test_by_consent_the_schedule_stays_as_it_was(stopped: Path, home: Path) -> None:
    whole = home.parent / "whole"
    shutil.copytree(stopped, whole)
    resumed(whole)
    drop(home, "train", 6)
    summary, said = resumed(home, accept_data=True)
    assert (summary.complete, summary.steps, summary.epochs) == (True, 24, 4)
    rates = [
        [(it.epoch, it.step, it.rate) for it in read_metrics(at / "run")] for at in (whole, home)
    ]
    assert rates[0] == rates[1]
    (note,) = said
    assert "36 -> 18 train images; the schedule and its epochs of 6 steps stay" in note
    assert "a pass over the data takes 3" in note
    kept = "the data changed after step 6: 36 -> 18 train images"
    assert json.loads((home / "run" / "summary.json").read_text())["notes"] == [kept]
    position = Position.from_dict(load_checkpoint(home / "run" / "last.safetensors").progress)
    assert (position.epoch_steps, position.data_changes) == (6, (kept,))
    again, said = resumed(home)  # It is at its end, and its data is what it is now.
    assert (again.complete, again.steps, len(said)) == (True, 24, 1)
    assert said[0].endswith("run is complete: nothing is left to train")


def test_too_few_images_for_a_batch_are_refused_even_by_consent(home: Path) -> None:
    drop(home, "train", 11)
    assert "3 training images, fewer than the run's batch of 6" in refusal(home, accept_data=True)


@pytest.mark.parametrize(
    ("dropped", "rule"),
    [
        (9, "leaves 4 of 9 training images, fewer than batch = 6"),
        (10, "leaves 3 of 6 training images, fewer than batch = 6"),
    ],
)
def test_what_can_no_longer_be_held_out_is_offered_no_consent(
    home: Path, dropped: int, rule: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        resnet_spec.train(
            SPEC,
            "numpy",
            home / "pets",
            settings=SETTINGS,
            out=home / "run",
            input_size=8,
            validation=0.5,
            overwrite=True,
            watch=Stop(),
        )
    drop(home, "train", dropped)
    asked = f"--data = {home / 'pets'}: the run's --validation = 0.5: {rule}"
    for accept in (False, True):
        assert refusal(home, accept_data=accept) == f"{asked}; give data that has more"


def test_other_classes_need_a_consent_of_their_own(home: Path) -> None:
    for split in ("train", "val"):
        (home / "pets" / split / "cat").rename(home / "pets" / split / "tabby")
    assert "classes cat -> tabby" in refusal(home)
    assert "cat, dog, fox -> dog, fox, tabby" in refusal(home, accept_data=True)
    summary, said = resumed(home, accept_data=True, ignore_classes=True)
    assert summary.complete and "by position" in said[0]
    assert "--ignore-classes" in summary.notes[-1]
    again, said = resumed(home)
    assert again == summary and "by position" in said[0]


def test_other_images_of_the_same_number_are_refused(home: Path) -> None:
    image = home / "pets" / "train" / "cat" / "00.png"
    image.rename(image.with_name("99.png"))
    assert "other train images, or another order of them" in refusal(home)
    image.with_name("99.png").rename(image)
    image = home / "pets" / "train" / "cat" / "00.png"
    image.rename(image.with_name("99.png"))
    assert "other train images, or another order of them" in refusal(home)
    image.with_name("99.png").rename(image)
    cats = home / "pets" / "val" / "cat" / "00.png"
    cats.rename(home / "pets" / "val" / "dog" / "99.png")
    assert "other numbers of test images per class" in refusal(home)
    summary, _ = resumed(home, accept_data=True)
    assert summary.best_epoch is not None and summary.best_epoch > 1


def test_another_dataset_is_refused_by_name(home: Path) -> None:
    said = refusal(home, data="digits")
    assert "--data = digits: is not what the run" in said and "3 -> 10 classes" in said
    assert "has 10 classes, and the network was made for 3" in refusal(
        home, data="digits", accept_data=True
    )


@pytest.mark.parametrize("lost", ["dataset", "epoch_steps", "legs"])
def test_a_run_that_does_not_say_how_it_began_is_refused(lost: str, home: Path) -> None:
    last = home / "run" / "last.safetensors"
    kept = load_checkpoint(last)
    progress = {key: value for key, value in kept.progress.items() if key != lost}
    dataset = None if lost == "dataset" else kept.dataset
    save_checkpoint(last, replace(kept, dataset=dataset, progress=progress))
    with pytest.raises(CheckpointError, match="does not say what data|of its run lacks " + lost):
        resumed(home)
    assert load_checkpoint(last).progress == progress, "nothing on disk is touched"


def test_an_epoch_that_its_data_does_not_have_is_refused_by_name(home: Path) -> None:
    last = home / "run" / "last.safetensors"
    kept = load_checkpoint(last)
    wrong = {**kept.progress, "epoch_steps": 10**9}
    save_checkpoint(last, replace(kept, progress=wrong))
    with pytest.raises(CheckpointError) as caught:
        resumed(home)
    assert "epoch_steps = 1000000000: must be 6, by its data and batch" in str(caught.value)
    assert load_checkpoint(last).progress == wrong, "nothing on disk is touched"


def test_consents_belong_to_what_they_consent_to(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--accept-data: is of a run that goes on"):
        resnet_spec.train(SPEC, "numpy", out=tmp_path / "run", accept_data=True)
    with pytest.raises(RecipeError, match="--ignore-classes: is of weights that are there"):
        resnet_spec.train(SPEC, "numpy", out=tmp_path / "run", ignore_classes=True)
    assert not (tmp_path / "run").exists()
