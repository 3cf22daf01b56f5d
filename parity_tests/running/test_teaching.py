"""Runs that learn from a teacher: whom they find, how they go on, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_launching import command, finished
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec.contract import Batch, State
from resnet_spec.data import load_data
from resnet_spec.data.batches import share_of, train_batches
from resnet_spec.data.dataset import Dataset
from resnet_spec.describing.spec import Spec
from resnet_spec.digests import digest
from resnet_spec.errors import CheckpointError, RecipeError, ResnetSpecError
from resnet_spec.group import Group
from resnet_spec.loader import installed_backends
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.running.job import job_of
from resnet_spec.running.metrics import read_metrics
from resnet_spec.running.opening import open_session
from resnet_spec.running.rate_range import Range, try_rates
from resnet_spec.running.request import Request
from resnet_spec.running.runs import Run
from resnet_spec.running.stages import stages_of
from resnet_spec.running.teaching import Teacher, taught, teaching
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SLOW = ("flax", "mindspore")
BACKENDS = [
    pytest.param(name, marks=pytest.mark.thorough if name in SLOW else ())
    for name in installed_backends()
]
OPENED = partial(open_session, "numpy", precision="float64")
SETTINGS = ("epochs=3", "batch=512", "augment.mixup=0.4", "loss.temperature=4")
WIDE: dict[str, Any] = {
    **TINY,
    "name": "wide",
    "stem": {**TINY["stem"], "widths": [8]},
    "input": {"size": 16, "mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]},
}
"""The teacher's: of another width and other statistics than the data's."""


def checkpoint(path: Path, *, classes: tuple[str, ...] = tuple("0123456789"), **fields: Any) -> str:
    """Leave weights of a teacher that nobody trained, and return where they are."""
    seed = fields.pop("seed", 0)
    spec = Spec(**{**WIDE, "classes": len(classes), **fields})
    state = initial_state(lower(spec), seed)
    save_checkpoint(path, Checkpoint(spec, state, class_names=classes, data="digits"))
    return str(path)


def asked(teacher: str, *settings: str, **more: Any) -> dict[str, Any]:
    chosen = (*SETTINGS, f"loss.teacher={teacher}", *settings)
    return {"spec": TINY, "backend": "numpy", "input_size": 8, "settings": chosen, **more}


def ends(out: Path) -> State:
    return load_checkpoint(out / "last.safetensors").state


def changed(one: Path, other: Path) -> list[str]:
    a, b = ends(one), ends(other)
    assert a.keys() == b.keys()
    return [name for name in a if a[name].tobytes() != b[name].tobytes()]


# --- Whom a run finds -----------------------------------------------------------------------------


def test_a_teacher_sees_the_images_of_the_student(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors")
    run, teacher = _found(asked(place, "augment.flip=true"))
    assert (teacher.spec.name, teacher.spec.input.mean) == ("wide", (0.2, 0.3, 0.4))
    assert teacher.order == tuple(range(10))
    batches = list(train_batches((), run.data.train, run.recipe, 0, 3))
    found = list(teaching(teacher, run.plan, OPENED)(iter(batches), run.plan))
    session = OPENED(lower(Spec(**WIDE, classes=10), 8))
    session.load(load_checkpoint(Path(place)).state)
    for one, other in zip(batches, found, strict=True):
        assert one.mix is not None and other.mix is one.mix and other.images is one.images
        (logits,) = session.predict([one])
        assert other.teacher is not None and other.teacher.dtype == np.float32
        assert np.array_equal(other.teacher, logits.astype(np.float32))


def test_a_run_keeps_where_its_teacher_is_and_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("t.safetensors"))
    resnet_spec.train(**asked("t.safetensors", "epochs=1"), out="run")
    kept = load_checkpoint(Path("run/last.safetensors"))
    assert kept.recipe is not None
    loss = kept.recipe.loss
    assert loss.teacher == str(tmp_path / "t.safetensors")
    assert loss.teacher_digest == digest(load_checkpoint(Path("t.safetensors")).state)
    assert (loss.temperature, loss.teacher_weight) == (4.0, 0.5)


def test_classes_in_another_order_are_put_right(tmp_path: Path) -> None:
    said, ours, theirs = list[str](), "abcdefghij", "dbeajcgfhi"
    split = np.zeros((16, 8, 8, 3), np.uint8), np.arange(16) % 10
    data = Dataset.from_arrays("letters", split, split, classes=tuple(ours))
    place = checkpoint(tmp_path / "t.safetensors", classes=tuple(theirs))
    job = job_of(Request(**asked(place, "batch=16"), data=data), said.append)
    assert job.teacher is not None
    assert "".join(theirs[i] for i in job.teacher.order) == ours
    assert any(line.startswith("note: loss.teacher: ") and "another order" in line for line in said)
    batch = Batch(*split, np.arange(16))
    session = OPENED(lower(job.teacher.spec, 8))
    session.load(job.teacher.state)
    (logits,) = session.predict([batch])
    (found,) = taught(iter([batch]), session, job.teacher)
    assert found.teacher is not None
    assert np.array_equal(found.teacher, logits[:, list(job.teacher.order)].astype(np.float32))


def test_a_teacher_sees_images_in_the_sizes_in_which_they_are_trained(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors")
    given = asked(place, "epochs=2", "augment.progressive=[6]")
    run, teacher = _found(given)
    (first, last), found = stages_of(run), dict[int, Batch]()
    teach = teaching(teacher, first.plan, OPENED)
    for stage in (first, last, first):
        made = train_batches((), stage.split, run.recipe, stage.first_step, stage.first_step + 1)
        (found[stage.plan.input.height],) = teach(made, stage.plan)
    assert found[6].images.shape[1:3] == (6, 6) and found[8].images.shape[1:3] == (8, 8)
    session = OPENED(lower(teacher.spec, 6))
    session.load(teacher.state)
    (logits,) = session.predict([found[6]])
    assert found[6].teacher is not None
    assert np.array_equal(found[6].teacher, logits.astype(np.float32))
    assert resnet_spec.train(**given, out=tmp_path / "run").complete


def test_of_more_classes_the_data_s_are_taken(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors", classes=("x", *"0123456789", "y"))
    assert _found(asked(place))[1].order == tuple(range(1, 11))


def test_a_range_of_rates_is_tried_with_the_teacher(tmp_path: Path) -> None:
    place, losses = checkpoint(tmp_path / "t.safetensors"), list[Any]()
    for weight in (0.001, 1.0):
        settings = asked(place, f"loss.teacher_weight={weight}", "batch=32")
        curve = try_rates(job_of(Request(**settings), lambda line: None), Range(1e-6, 1e-3, 10))
        losses.append(curve.losses)
    assert np.abs(losses[0] - losses[1]).min() > 0.1


# --- Learning -------------------------------------------------------------------------------------


def test_a_student_learns_from_its_teacher_alone(tmp_path: Path) -> None:
    """Labels that say nothing teach nothing; the teacher does, though its own images are others."""
    digits = load_data("digits", size=8)
    pixels = digits.train.images(np.arange(len(digits.train)))
    nonsense = np.random.default_rng(0).permutation(digits.train.labels)
    test = digits.test.images(np.arange(len(digits.test))), digits.test.labels
    data = Dataset.from_arrays("digits", (pixels, nonsense), test, digits.classes)
    backend = "torch" if "torch" in installed_backends() else "numpy"
    fixed = {"backend": backend, "input_size": 8}
    settings = ("epochs=4", "batch=32", "schedule.rate=0.2")
    given = {"settings": settings, "out": tmp_path / "teacher"}
    teacher = resnet_spec.train(WIDE, data="digits", **given, **fixed)
    found = list[float]()
    taught = (f"loss.teacher={tmp_path / 'teacher'}", "loss.teacher_weight=1")
    for i, own in enumerate(((), taught)):
        out = tmp_path / f"student{i}"
        said = resnet_spec.train(WIDE, data=data, settings=(*settings, *own), out=out, **fixed)
        found.append(said.final_accuracy or 0.0)
    assert (teacher.final_accuracy or 0.0) > 0.7
    assert found[1] > 0.6 > 0.3 > found[0]


@pytest.mark.parametrize("size", [2, 3])
def test_processes_have_the_logits_of_their_own_images(size: int, tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors")
    run, teacher = _found(asked(place, "batch=12"))
    teach = teaching(teacher, run.plan, OPENED)
    (whole,) = teach(train_batches((), run.data.train, run.recipe, 0, 1), run.plan)
    groups = [Group(rank, size) for rank in range(size)]
    for group in groups:
        (own,) = teach(train_batches((), run.data.train, run.recipe, 0, 1, group), run.plan)
        expected = share_of(whole, group)
        assert own.teacher is not None and expected.teacher is not None
        assert np.array_equal(own.images, expected.images)
        assert own.teacher == pytest.approx(expected.teacher, rel=1e-6)


def _found(given: dict[str, Any]) -> tuple[Run, Teacher]:
    job = job_of(Request(**given), lambda line: None)
    assert job.teacher is not None
    return job.run, job.teacher


# --- Going on -------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with a teacher and a run that stopped in its second of three epochs."""
    checkpoint(tmp_path / "t.safetensors")
    with pytest.raises(Stopped):
        begun(tmp_path)
    return tmp_path


def begun(home: Path, **more: Any) -> Any:
    given = {"out": home / "run", "watch": Stops(), **more}
    return resnet_spec.train(**asked(str(home / "t.safetensors")), **given)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_goes_on_is_the_same_to_the_bit(backend: str, tmp_path: Path) -> None:
    given = asked(checkpoint(tmp_path / "t.safetensors"), backend=backend)
    with pytest.raises(Stopped):
        resnet_spec.train(**given, out=tmp_path / "parts", watch=Stops())
    assert load_checkpoint(tmp_path / "parts" / "last.safetensors").progress["step"] == 2
    assert resnet_spec.train(resume=tmp_path / "parts").complete
    resnet_spec.train(**given, out=tmp_path / "whole")
    assert changed(tmp_path / "parts", tmp_path / "whole") == []
    other = asked(checkpoint(tmp_path / "t.safetensors", seed=1), backend=backend)
    resnet_spec.train(**other, out=tmp_path / "other")
    assert "fc.weight" in changed(tmp_path / "other", tmp_path / "whole")


@pytest.mark.parametrize("backend", [it for it in BACKENDS if it.values != ("numpy",)])
def test_another_framework_goes_on_with_the_same_teacher(backend: str, stopped: Path) -> None:
    begun(stopped, out=stopped / "whole", watch=None)
    assert resnet_spec.train(resume=stopped / "run", backend=backend).complete
    found, whole = ([it.train_loss for it in read_metrics(stopped / n)] for n in ("run", "whole"))
    assert found[:1] == whole[:1]
    assert found == pytest.approx(whole, rel=1e-5)


def test_the_same_call_takes_a_run_up_again(stopped: Path) -> None:
    begun(stopped, out=stopped / "whole", watch=None)
    assert begun(stopped, watch=None, auto_resume=True).complete
    assert changed(stopped / "run", stopped / "whole") == []


@pytest.mark.thorough
@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_a_run_in_two_processes_is_that_of_one(here: Path) -> None:
    teacher = ["--set", f"loss.teacher={checkpoint(here / 't.safetensors')}"]
    alone, two = (finished([*command(here / f"run{n}", processes=n), *teacher]) for n in (1, 2))
    assert (alone.returncode, two.returncode) == (0, 0), alone.stderr + two.stderr
    mine, expected = ends(here / "run2"), ends(here / "run1")
    for name, array in expected.items():
        # Logits are float32, which one rounding in float64 may carry to the next number.
        assert np.allclose(mine[name], array, rtol=1e-6, atol=1e-7), name


# --- Refusals -------------------------------------------------------------------------------------


def refused(out: Path, teacher: str, *settings: str) -> str:
    with pytest.raises((CheckpointError, RecipeError)) as caught:
        resnet_spec.train(**asked(teacher, *settings), out=out)
    assert not out.exists()
    (line,) = caught.value.problems
    return line


def unfit(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield teachers that no run on digits can have, and what is said of them."""
    place, end = folder / "t.safetensors", "; give a teacher of the data's classes"
    rule = f"was made for 2 classes, and digits has 10{end}"
    yield checkpoint(place, classes=("0", "1")), rule
    rule = "its classes are not those of digits: classes a, b, c and 7 more -> 0, 1, 2 and 7 more"
    yield checkpoint(place, classes=tuple("abcdefghij")), f"{rule}{end}"
    grey = {**WIDE["input"], "channels": 1, "mean": [0.5], "std": [0.5]}
    yield checkpoint(place, input=grey), "was made for 1 channels, and digits has 3"
    yield str(folder / "gone.safetensors"), "there is no such file"
    torn = folder / "torn.safetensors"
    torn.write_bytes(place.read_bytes()[:-8])
    yield str(torn), "ends before layer1.0.downsample.1.weight does; it is cut short"


def test_a_teacher_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    for teacher, line in unfit(tmp_path):
        assert refused(tmp_path / "run", teacher).startswith(f"loss.teacher = {teacher}: {line}")


def test_a_run_does_not_replace_the_one_that_it_learns_from(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "last.safetensors")
    before = Path(path).read_bytes()
    for teacher in (path, str(tmp_path)):
        with pytest.raises(ResnetSpecError, match=r"loss\.teacher = .*--overwrite would replace"):
            resnet_spec.train(**asked(teacher), out=tmp_path, overwrite=True)
    assert Path(path).read_bytes() == before


def test_a_name_that_nobody_has_published_is_refused(tmp_path: Path) -> None:
    line = refused(tmp_path / "run", "resnet51.a1_in1k")
    assert line.startswith("loss.teacher = resnet51.a1_in1k: is neither published weights, a file")
    assert line.endswith("did you mean 'resnet50.a1_in1k'?")


def test_other_weights_than_those_of_a_digest_are_refused(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors")
    none = f"xxh3-128:{'0' * 32}"
    line = refused(tmp_path / "run", place, f"loss.teacher_digest={none}")
    rule = f"its weights are not those of loss.teacher_digest ({none}, and they have xxh3-128:"
    assert line.startswith(f"loss.teacher = {place}: {rule}")
    own = digest(load_checkpoint(Path(place)).state)
    job_of(Request(**asked(place, f"loss.teacher_digest={own}")), lambda line: None)


def test_a_teacher_that_counts_for_nothing_is_refused_before_it_is_read(tmp_path: Path) -> None:
    line = refused(tmp_path / "run", "gone.safetensors", "loss.teacher_weight=0")
    assert line == (
        "loss.teacher_weight = 0.0: the teacher would cost a forward pass at each step, and count "
        "for nothing; raise it, or train without one, by loss.teacher=none"
    )


def test_weights_without_a_classifier_are_no_teacher(tmp_path: Path) -> None:
    known = load_checkpoint(Path(checkpoint(tmp_path / "t.safetensors"))).state
    body = {name: array for name, array in known.items() if not name.startswith("fc.")}
    np.savez(tmp_path / "encoder.npz", allow_pickle=False, **body)
    line = refused(tmp_path / "run", str(tmp_path / "encoder.npz"))
    assert line.endswith(
        ": has no classifier, and so no logits to learn from; give weights with one"
    )


def test_logits_that_are_no_numbers_end_the_run(tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "t.safetensors")
    known = load_checkpoint(Path(place))
    known.state["fc.bias"][:] = 3e38
    known.state["fc.weight"][:] = 3e38
    save_checkpoint(Path(place), known)
    with np.errstate(all="ignore"), pytest.raises(CheckpointError) as caught:
        resnet_spec.train(**asked(place), out=tmp_path / "run")
    rule = "has logits that are not finite, of images of this run"
    assert str(caught.value) == f"loss.teacher = {place}: {rule}"
