"""NaN is never a value: not an accuracy, not the best, not a class, not JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.tables import tables_of
from resnet_spec.contract import Array, Batch
from resnet_spec.errors import DataError, RecipeError
from resnet_spec.loader import load_backend
from resnet_spec.running.evaluate import Evaluation, evaluate, softmax
from resnet_spec.running.fit import fit
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.runs import Position, Run, Summary
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

BAD = (float("nan"), float("inf"), float("-inf"))


class Saying:
    """A session that says these logits."""

    def __init__(self, logits: Array) -> None:
        self.logits = logits

    def load(self, state: object) -> None:
        pass

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        for batch in batches:
            yield self.logits[batch.indices]


class Split:
    """Labels, and black images."""

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = np.array(labels, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, places: Array) -> Array:
        return np.zeros((len(places), 8, 8, 1), np.uint8)


def said(logits: Sequence[Sequence[float]], labels: Sequence[int], batch: int = 2) -> Evaluation:
    saying: Any = Saying(np.array(logits, np.float32))
    return evaluate(saying, Split(labels), batch)  # type: ignore[arg-type]


# --- Evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1])
def test_one_logit_that_is_no_number_leaves_no_accuracy(bad: float, place: int) -> None:
    row = [3.0, 1.0]
    row[place] = bad
    result = said([[2, 1], row, [1, 1]], [0, 0, 0])
    assert (result.accuracy, result.loss, result.not_finite, result.count) == (None, None, 1, 3)
    assert result.predictions.tolist() == [0, -1, 0] and result.ties == 1
    assert np.isnan(result.margins[1]) and result.margins[[0, 2]].tolist() == [1.0, 0.0]
    assert result.problem is not None and "1 of 3 images are not finite" in result.problem
    assert "are not finite" in repr(result)


def test_all_logits_and_one_class_may_be_no_numbers() -> None:
    assert said([[np.nan] * 2] * 3, [0, 1, 0]).not_finite == 3
    one = said([[np.nan], [1.0]], [0, 0])
    assert (one.not_finite, one.accuracy) == (1, None)


def test_huge_logits_that_are_finite_are_numbers() -> None:
    result = said([[3e38, -3e38], [1, 0]], [1, 0])
    assert result.accuracy == 0.5 and result.not_finite == 0 and result.problem is None
    assert result.loss == pytest.approx(3e38, rel=1e-2)


def test_probabilities_of_what_is_no_number_are_none() -> None:
    found = softmax(np.array([[np.nan, 1.0], [np.inf, 0.0], [1.0, 1.0]]))
    assert np.isnan(found[:2]).all() and found[2].tolist() == [0.5, 0.5]


# --- Commands -------------------------------------------------------------------------------------


@pytest.fixture
def broken(here: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A sound file of finite weights whose logits are NaN: a variance is below zero."""
    steps = ("--set", "steps=1", "--input-size", "8", "--out", "run")
    assert main(["train", "tiny.toml", "--backend", "numpy", *steps]) == 0
    checkpoint = load_checkpoint(Path("run", "best.safetensors"))
    variance = np.full_like(checkpoint.state["bn1.running_var"], -1)
    state = {**checkpoint.state, "bn1.running_var": variance}
    save_checkpoint(Path("broken.safetensors"), replace(checkpoint, state=state))
    capsys.readouterr()
    return "broken.safetensors"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def test_evaluate_says_so_and_fails(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", broken, "--backend", "numpy"]) == 1
    shown = capsys.readouterr()
    assert "accuracy 0" not in shown.out
    line = shown.err
    assert line.startswith("resnet-spec: error: ") and line.count("\n") == 1
    assert "the logits of 360 of 360 images are not finite: there is no accuracy" in line
    assert main(["evaluate", broken, "--backend", "numpy", "--format", "json"]) == 1
    found = strict(capsys.readouterr().out)
    assert (found["accuracy"], found["loss"], found["not_finite"]) == (None, None, 360)


def test_predict_says_so_and_fails(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save("a.png")
    assert main(["predict", broken, "a.png", "--backend", "numpy"]) == 1
    shown = capsys.readouterr()
    assert "a.png: its logits are not finite, so it has no class" in shown.err
    assert "a.png" not in shown.out
    assert main(["predict", broken, "a.png", "--backend", "numpy", "--format", "json"]) == 1
    assert strict(capsys.readouterr().out) == [{"image": "a.png", "classes": []}]


@pytest.mark.parametrize("what", ["confusion", "predictions"])
def test_pictures_of_what_is_no_number_are_refused(
    what: str, broken: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", what, broken, "--backend", "numpy", "--out", "p.png"]) == 2
    assert "logits" in capsys.readouterr().err
    assert not (here / "p.png").exists()


def strict(text: str) -> Any:
    """Parse JSON as the world reads it: without NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- Training -------------------------------------------------------------------------------------


def make_run(out: Path, **changes: object) -> Run:
    from resnet_spec.running.job import job_of
    from resnet_spec.running.request import Request

    settings = ["steps=6", "batch=600", *(f"{key}={value}" for key, value in changes.items())]
    request = Request(spec=SPEC_FIELDS, backend="numpy", input_size=8, settings=settings, out=out)
    return job_of(request, lambda line: None).run


SPEC_FIELDS: Any = {
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}


class Watch:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def chunk(self, position: Position, speed: float) -> None:
        pass

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


class Sometimes(Saying):
    """An evaluator whose logits are NaN in these evaluations, counted from 1."""

    def __init__(self, when: set[int]) -> None:
        super().__init__(np.tile(np.arange(10.0), (360, 1)))
        self.when, self.done = when, 0

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        self.done += 1
        for logits in super().predict(batches):
            yield logits * np.nan if self.done in self.when else logits


def go(run: Run, when: set[int], watch: Watch) -> Summary:
    session = load_backend("numpy").Session(run.plan, run.recipe)
    evaluator: Any = Sometimes(when)
    return fit(run, session, evaluator, watch)


def test_an_epoch_without_an_accuracy_is_never_the_best(tmp_path: Path) -> None:
    watch = Watch()
    summary = go(make_run(tmp_path), {1, 2}, watch)
    assert [e.test_not_finite for e in watch.epochs] == [360, 360, 0]
    assert [e.test_accuracy is None for e in watch.epochs] == [True, True, False]
    assert summary.best_epoch == 3 and summary.complete and summary.failed is None
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        strict(line)
    assert read_metrics(tmp_path) == watch.epochs


def test_a_run_whose_last_logits_are_no_numbers_has_failed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="after the last step the logits of 360 of 360 images"):
        go(make_run(tmp_path), {2, 3}, Watch())
    summary = Summary.from_dict(strict((tmp_path / "summary.json").read_text()))
    assert not summary.complete and summary.failed is not None
    assert "are not finite" in summary.failed and "failed: " in repr(summary)
    assert (summary.final_accuracy, summary.final_test_loss) == (None, None)
    assert summary.best_epoch == 1 and summary.steps == 6
    assert load_checkpoint(tmp_path / "last.safetensors").progress["best_epoch"] == 1


def test_a_run_without_any_accuracy_has_no_best(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        go(make_run(tmp_path), {1, 2, 3}, Watch())
    summary = strict((tmp_path / "summary.json").read_text())
    assert (summary["best_accuracy"], summary["best_epoch"]) == (None, None)
    assert not (tmp_path / "best.safetensors").exists()


def test_weights_that_are_no_numbers_end_the_run_and_the_last_sound_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, watch = make_run(tmp_path), Watch()
    session = load_backend("numpy").Session(run.plan, run.recipe)
    real = session.state

    def state() -> dict[str, Array]:
        found = real()
        if len(watch.epochs) == 2:
            found["bn1.running_var"] = np.full_like(found["bn1.running_var"], np.inf)
        return found

    monkeypatch.setattr(session, "state", state)
    with pytest.raises(RecipeError, match=r"bn1\.running_var is not finite after step 6"):
        fit(run, session, session, watch)
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 4
    assert watch.epochs[-1].test_not_finite == 360 and len(watch.epochs) == 3
    assert "running_var" in str(strict((tmp_path / "summary.json").read_text())["failed"])


def test_a_failed_run_is_told_by_command_report_and_summary(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--backend", "numpy", "--input-size", "8", "--set", "schedule.rate=1e30"]
    assert main(["train", "tiny.toml", *arguments, "--out", "run"]) == 2
    assert "the loss became" in capsys.readouterr().err
    summary = strict(Path("run", "summary.json").read_text())
    assert summary["complete"] is False and "the loss became" in summary["failed"]
    assert not Path("run", "last.safetensors").exists()
    comparison = of_folders([Path("run")])
    (result,) = comparison.results
    assert result.state == "failed" and result.seed == 0
    assert "the loss became" in "\n".join(t.text() for t in tables_of(comparison))


# --- Files that runs left -------------------------------------------------------------------------


def summary_fields(**changes: object) -> dict[str, Any]:
    fields = {
        **dict.fromkeys(("backend", "spec", "data", "recipe"), "x"),
        "epochs": 1,
        "steps": 2,
        "best_accuracy": 0.5,
        "best_epoch": 1,
        "final_accuracy": 0.5,
        "final_loss": 1.5,
        "final_test_loss": 1.0,
        "images_per_second": 1.0,
        "first_step_s": 1.0,
        "wall_s": 1.0,
        "complete": True,
        "environment": {},
        "legs": [],
    }
    return {**fields, **changes}


def test_a_summary_without_what_came_later_is_read() -> None:
    summary = Summary.from_dict(summary_fields())
    assert summary.complete and summary.failed is None and summary.dataset is None


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["final_test_loss", "final_accuracy", "wall_s"])
def test_a_summary_with_what_is_no_number_is_none(name: str, bad: float) -> None:
    with pytest.raises(DataError, match=f"summary: {name} = {bad}: is not of its kind"):
        Summary.from_dict(summary_fields(**{name: bad}))


@pytest.mark.parametrize(
    "change",
    [{"steps": "2"}, {"complete": 1}, {"environment": []}, {"wall_s": None}, {"epochs": True}],
)
def test_a_summary_of_other_kinds_is_none(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"summary: {next(iter(change))} = "):
        Summary.from_dict(summary_fields(**change))


EPOCH = Epoch(1, 2, 0.1, 1.5, 0.5, 1.0, 0.5, 100.0, 3.0)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["test_loss", "train_loss", "rate"])
def test_an_epoch_with_what_is_no_number_is_none(name: str, bad: float, tmp_path: Path) -> None:
    fields = {it: getattr(EPOCH, it) for it in Epoch.__slots__ if it != "test_not_finite"}
    whole, broken = json.dumps(fields), json.dumps({**fields, name: bad})
    (tmp_path / "metrics.jsonl").write_text(f"{whole}\n{broken}\n{whole}\n")
    with pytest.raises(DataError, match=f"{name} holds what is no number"):
        read_metrics(tmp_path)


# --- Comparisons with the reference ---------------------------------------------------------------


@pytest.mark.parametrize("got", [*BAD, 1.0])
@pytest.mark.parametrize("expected", [*BAD, 1.0])
def test_what_is_no_number_is_equal_to_nothing(got: float, expected: float) -> None:
    from resnet_spec.parity.comparison import difference

    found = difference("x", np.array([1.0, got]), np.array([1.0, expected]))
    assert (found.max_rel == 0) == (got == expected == 1.0)
    assert np.isinf(found.max_rel) or got == expected == 1.0


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("side", ["got", "expected"])
def test_predictions_from_what_is_no_number_are_not_equal(bad: float, side: str) -> None:
    from types import SimpleNamespace

    from resnet_spec.parity.levels import LEVELS

    sound = np.array([[1.0, 0.0], [0.0, 1.0]])
    broken = sound.copy()
    broken[0, 1] = bad
    sides: Any = {"got": sound, "expected": sound, side: broken}
    made: Any = [SimpleNamespace(dataset_logits=sides[name]) for name in ("got", "expected")]
    (found,) = LEVELS["accuracy"].compare(*made)
    assert np.isinf(found.max_rel)


@pytest.mark.parametrize("bad", BAD)
def test_no_margin_is_left_by_what_is_no_number(bad: float) -> None:
    from resnet_spec.describing.spec import Spec
    from resnet_spec.parity.kink_margin import margin
    from resnet_spec.planning.lowering import lower

    plan = lower(Spec.from_dict({**SPEC_FIELDS, "input": {"size": 8}}))
    outputs = {name: np.full((1, 4, 8, 8), bad) for name in plan.observed}
    assert margin(plan, outputs).value == 0.0
