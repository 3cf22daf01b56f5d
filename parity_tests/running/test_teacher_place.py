"""Where the teacher of a run is: how it is written, and what is said where it has gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_teaching import asked, begun, checkpoint, ends, refused
from test_teaching import stopped as stopped

import resnet_spec
from resnet_spec.data import data_place, load_data
from resnet_spec.errors import CheckpointError, DataError, RecipeError
from resnet_spec.weights.checkpoint import load_checkpoint
from resnet_spec.weights.published.finding import find, is_weights, place_of

_OR = "or say where it is now with --set loss.teacher=PATH"


def refusal(home: Path, **more: Any) -> str:
    before = {path: path.read_bytes() for path in (home / "run").iterdir()}
    with pytest.raises((CheckpointError, RecipeError)) as caught:
        resnet_spec.train(**{"resume": home / "run", **more})
    assert {path: path.read_bytes() for path in (home / "run").iterdir()} == before
    (line,) = caught.value.problems
    return line


def test_another_teacher_in_its_place_is_refused(stopped: Path) -> None:
    place = stopped / "t.safetensors"
    checkpoint(place, seed=1)
    line = refusal(stopped)
    rule = f"its weights are not those that the run in {stopped / 'run'} began with (xxh3-128:"
    assert line.startswith(f"loss.teacher = {place}: {rule}")
    assert line.endswith(f"; put them there again, {_OR}")
    assert "--set loss.teacher" in refusal(stopped, settings=[f"loss.teacher={place}"])


def test_a_teacher_that_has_gone_is_told_with_where_it_was(stopped: Path) -> None:
    place, moved = stopped / "t.safetensors", stopped / "moved.safetensors"
    place.rename(moved)
    rule = f"there is no such file, and the run in {stopped / 'run'} learns from it"
    told = f"loss.teacher = {place}: {rule}; put it there again, {_OR}"
    assert refusal(stopped) == told
    place.symlink_to(moved)
    assert resnet_spec.train(resume=stopped / "run").complete


def test_a_run_is_told_where_its_teacher_is_now(stopped: Path) -> None:
    """It goes on as it would have, and keeps the new place; other settings stay refused."""
    begun(stopped, out=stopped / "whole", watch=None)
    moved = stopped / "moved.safetensors"
    (stopped / "t.safetensors").rename(moved)
    for settings in (["loss.temperature=2"], [f"loss.teacher={moved}", "batch=64"]):
        rule = "--set: cannot be changed in the middle of a run, but for loss.teacher; leave"
        assert refusal(stopped, settings=settings) == f"{rule} {settings[-1]} out"
    none = "--set loss.teacher = none: must be where the run's teacher is now"
    assert refusal(stopped, settings="loss.teacher=none") == none
    assert resnet_spec.train(resume=stopped / "run", settings=f"loss.teacher={moved}").complete
    kept = load_checkpoint(stopped / "run" / "last.safetensors").recipe
    assert kept is not None and kept.loss.teacher == str(moved)
    found, whole = ends(stopped / "run"), ends(stopped / "whole")
    assert all(found[name].tobytes() == whole[name].tobytes() for name in whole)


def test_a_run_without_a_teacher_is_given_none_later(tmp_path: Path) -> None:
    teacher = checkpoint(tmp_path / "t.safetensors")
    given = asked(teacher, "loss.teacher=none", "loss.temperature=1", "epochs=1")
    resnet_spec.train(**given, out=tmp_path / "run")
    told = f"--set loss.teacher = {teacher}: the run has no teacher; leave it out"
    assert refusal(tmp_path, settings=f"loss.teacher={teacher}") == told


def test_a_call_that_names_no_teacher_is_another_one(stopped: Path) -> None:
    """Which is said before a teacher is looked for that the call has not asked for."""
    place = stopped / "t.safetensors"
    place.unlink()
    given = asked(str(place), "loss.teacher=none", "loss.temperature=1")
    with pytest.raises(RecipeError) as caught:
        resnet_spec.train(**given, out=stopped / "run", auto_resume=True)
    assert f"loss.teacher = {place}, not none" in str(caught.value)


def test_by_the_call_that_began_it_a_run_finds_a_teacher_that_was_moved(stopped: Path) -> None:
    moved = stopped / "moved.safetensors"
    (stopped / "t.safetensors").rename(moved)
    more = {"out": stopped / "run", "auto_resume": True}
    assert resnet_spec.train(**asked(str(moved)), **more).complete
    kept = load_checkpoint(stopped / "run" / "last.safetensors").recipe
    assert kept is not None and kept.loss.teacher == str(moved)
    other = checkpoint(stopped / "other.safetensors", seed=1)
    with pytest.raises(RecipeError, match=r"loss\.teacher = .*moved\.safetensors, not .*other"):
        resnet_spec.train(**asked(other), **more)


# --- How a place is written -----------------------------------------------------------------------


def test_a_home_is_found_behind_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell replaces the `~` of `--set loss.teacher=~/t.safetensors`, or of a file's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint(tmp_path / "t.safetensors")
    resnet_spec.train(**asked("~/t.safetensors", "epochs=1"), out=tmp_path / "run")
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors").recipe
    assert kept is not None and kept.loss.teacher == str(tmp_path / "t.safetensors")
    assert find("~/t.safetensors").path == tmp_path / "t.safetensors"
    assert is_weights("~/run") and place_of("~/run") == str(tmp_path / "run")
    line = refused(tmp_path / "other", "~nobody.of.this.name/t.safetensors")
    assert line.endswith(": nobody has this home; write the whole path")


def test_the_home_of_data_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("HOME", str(tmp_path))
    for part in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / "d" / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "d" / part / "0.png")
    assert len(load_data("~/d").train) == 2
    assert data_place("~/d@val") == f"{tmp_path / 'd'}@val"


@pytest.mark.parametrize("address", ["https://host/t.pth", "http://host/weights"])
def test_an_address_is_refused_with_what_to_do(address: str, tmp_path: Path) -> None:
    """And named as it was given: a path would have one slash less."""
    rule = f"{address}: is an address, from which nothing is fetched; download it"
    line = refused(tmp_path / "run", address)
    assert line.startswith(f"loss.teacher = {rule} and give the file, or a name of: resnet-spec")
    with pytest.raises(CheckpointError, match=f"^weights = {rule}"):
        find(address)
    with pytest.raises(DataError, match=f"^data = {rule}, and give the path$"):
        load_data(address)
