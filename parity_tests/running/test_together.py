"""Processes that agree, played by threads: who decides, who writes, and what is shared out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pets import SPEC

import resnet_spec
from resnet_spec.contract import Batch
from resnet_spec.data.batches import train_batches
from resnet_spec.errors import (
    BackendError,
    DataError,
    LostError,
    OutputError,
    RecipeError,
    ResnetSpecError,
)
from resnet_spec.group import ALONE, Group
from resnet_spec.recipe import Recipe
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.fit import _Going, fit
from resnet_spec.running.job import job_of
from resnet_spec.running.meeting import joined
from resnet_spec.running.opening import open_session
from resnet_spec.running.request import Request
from resnet_spec.running.together import Together, by_rank, check_can_join, shared_out
from resnet_spec.running.tracking.forwarding import Watches
from resnet_spec.weights.checkpoint import load_checkpoint


class Threads:
    """The members of a group that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size, timeout=60)
        self.given: list[Any] = [None] * size

    def of(self, rank: int) -> Together:
        members: Any = SimpleNamespace(gather=lambda values: self._all(rank, values))
        return Together(Group(rank, self.size), members)

    def _all(self, rank: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        self.given[rank] = values
        self.barrier.wait()
        found = np.stack(self.given)
        self.barrier.wait()
        return found


def in_threads(size: int, action: Callable[[Together], Any]) -> list[Any]:
    threads = Threads(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: action(threads.of(rank)), range(size)))


# --- Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (2, 1), (2, 3), (4, 2), (3, 4)])
def test_every_part_is_shared_out_in_the_order_of_ranks(size: int, parts: int) -> None:
    count = 2 * size * parts
    whole = np.arange(count).reshape(parts, size, -1)
    for rank in range(size):
        rows = [np.arange(count)[cut] for cut in Group(rank, size).shares(count, parts)]
        assert np.array_equal(np.stack(rows), whole[:, rank])


def test_shares_of_batches_are_rows_of_the_whole_ones() -> None:
    data = resnet_spec.load_data("digits")
    spec = resnet_spec.load_spec("resnet20_cifar", ["dropout=0.5", "stochastic_depth=0.2"])
    noises = resnet_spec.lower(spec).noises
    recipe = Recipe(batch=24, steps=3, accumulate=2, augment={"pad": 2, "flip": True})  # pyright: ignore
    fixed = noises, data.train, recipe, 58, 61  # Across the end of an epoch.
    shares = [list(train_batches(*fixed, Group(rank, 3))) for rank in range(3)]
    for step, whole in enumerate(train_batches(*fixed)):
        each = [shares[rank][step] for rank in range(3)]
        for name in ("images", "labels", "indices", "crop", "flip"):
            assert np.array_equal(_joined(each, name), getattr(whole, name)), name
        for name, factors in whole.noise.items():
            parts = [batch.noise[name] for batch in each]
            assert np.array_equal(_in_parts(parts), factors)


def _joined(batches: list[Batch], name: str) -> Any:
    return _in_parts([getattr(batch, name) for batch in batches])


def _in_parts(arrays: list[Any]) -> Any:
    """Return the whole of what three processes have of two parts."""
    return np.concatenate([np.split(array, 2)[part] for part in range(2) for array in arrays])


# --- What is agreed on ----------------------------------------------------------------------------


def test_anybody_may_say_yes() -> None:
    assert in_threads(3, lambda it: it.any(it.group.rank == 2)) == [True] * 3
    assert in_threads(2, lambda it: it.any(False)) == [False] * 2


def test_other_things_than_rank_0_s_are_told_in_every_process() -> None:
    def check(it: Together) -> tuple[str, ...]:
        with pytest.raises(BackendError) as caught:
            it.check_same({"data": "digits", "recipe": {"batch": 8 + it.group.rank // 2}})
        return caught.value.problems

    line = "rank 2: has another recipe than rank 0; give all processes the same"
    assert in_threads(3, check) == [(line,)] * 3
    in_threads(2, lambda it: it.check_same({"data": "digits"}))


def test_a_backend_that_cannot_join_is_refused_by_name() -> None:
    line = "cannot be one of 2 processes: it offers no join"
    with pytest.raises(BackendError, match=line):
        check_can_join("numpy", Group(0, 2))
    check_can_join("numpy", ALONE)
    with joined("numpy", ALONE) as alone:
        assert alone.is_first and alone.gather(np.ones(2)).tolist() == [[1.0, 1.0]]


def test_a_batch_that_cannot_be_shared_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_spec.running.together.check_can_join", lambda backend, group: None)
    given: dict[str, Any] = {"spec": SPEC, "backend": "numpy", "out": tmp_path / "run"}
    request = Request(**given, settings=["batch=12", "accumulate=2"])
    line = "batch = 12: must be a multiple of accumulate x processes = 2 x 4"
    with pytest.raises(RecipeError, match=line):
        job_of(request, lambda line: None, group=Group(0, 4))
    assert job_of(request, lambda line: None, group=Group(2, 3)).group == Group(2, 3)


@pytest.mark.parametrize(
    ("error", "group", "lines"),
    [
        (OutputError("a", OSError(28, "is full")), ALONE, ("a: cannot be written: is full",)),
        (
            OutputError("a", OSError(28, "is full")),
            Group(0, 2),
            ("rank 0: a: cannot be written: is full",),
        ),
        (DataError("a", "b"), Group(1, 2), ("rank 1: a", "rank 1: b")),
        (LostError("rank 1: it is gone"), Group(1, 2), ("rank 1: it is gone",)),
        (RecipeError("the loss became nan"), Group(1, 2), ("the loss became nan",)),
    ],
)
def test_an_error_of_one_process_names_it(
    error: ResnetSpecError, group: Group, lines: tuple[str, ...]
) -> None:
    with pytest.raises(type(error)) as caught, by_rank(group):
        raise error
    assert caught.value.problems == lines


# --- Evaluation and the loop ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
def test_an_evaluation_that_is_shared_out_is_the_same_to_the_bit(size: int) -> None:
    data = resnet_spec.load_data("digits", size=8)

    def evaluated(it: Together) -> Any:
        made = resnet_spec.session("resnet20_cifar", "numpy", input_size=8, seed=3)
        return evaluate(made, data.test, 50, together=it)

    (alone,) = in_threads(1, evaluated)
    for found in in_threads(size, evaluated):
        assert (found.loss, found.accuracy, found.ties) == (alone.loss, alone.accuracy, alone.ties)
        assert np.array_equal(found.predictions, alone.predictions)
        assert np.array_equal(found.margins, alone.margins)


def test_batches_are_shared_out_in_turn() -> None:
    assert [list(shared_out(5, Group(rank, 2))) for rank in range(2)] == [[0, 2, 4], [1, 3]]


class Whole:
    """A session that trains on whole batches in every process, and counts its chunks."""

    def __init__(self, inner: Any, source: Iterator[Batch]) -> None:
        self.inner, self.source, self.chunks = inner, source, list[int]()
        self.info = inner.info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def train(self, batches: Iterator[Batch], rates: NDArray[np.float64]) -> Any:
        self.chunks.append(len(rates))
        wholes = []
        for _ in rates:
            share, whole = next(iter(batches)), next(self.source)
            assert set(share.indices.tolist()) < set(whole.indices.tolist())
            wholes.append(whole)
        return self.inner.train(wholes, rates)


@pytest.mark.parametrize("validation", [None, 0.2])
def test_one_process_writes_and_all_take_the_same_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: float | None
) -> None:
    monkeypatch.setattr("resnet_spec.running.together.check_can_join", lambda backend, group: None)
    settings = ["batch=60", "epochs=2", "evaluate_every=1"]
    clock = threading.local()
    noted = _Going._note_best

    def only_first(self: Any, *given: Any) -> None:
        if not self.position.best_epoch:
            noted(self, *given)

    if validation is not None:  # Then the first process reads the best weights for all, to test.
        monkeypatch.setattr(_Going, "_note_best", only_first)

    def steps(speed: Any, left: int) -> int:
        del speed
        return min(left, 3 + 2 * clock.rank)  # Every process would take chunks of its own.

    monkeypatch.setattr("resnet_spec.running.speed.Speed.chunk_steps", steps)

    def train(it: Together, out: Path) -> tuple[Any, list[int]]:
        clock.rank = it.group.rank
        given: dict[str, Any] = {"spec": SPEC, "backend": "numpy", "out": out, "input_size": 8}
        given["validation"] = validation
        job = job_of(Request(**given, settings=settings), lambda line: None, group=it.group)
        run = job.run
        inner = open_session("numpy", run.plan, run.recipe)
        source = train_batches((), run.data.train, run.recipe, 0, run.total_steps)
        made: Any = Whole(inner, source) if it.group.size > 1 else inner
        summary = fit(run, made, made, Watches(), together=it)
        return summary, getattr(made, "chunks", [])

    def several(it: Together) -> tuple[Any, list[int]]:
        return train(it, tmp_path / f"run{it.group.rank}")

    (first, chunks), (second, others) = in_threads(2, several)
    assert chunks == others and set(chunks) == {3, 2 if validation is None else 1}
    assert not (tmp_path / "run1").exists()
    alone, _ = train(Together(), tmp_path / "alone")
    same = ("best_accuracy", "best_test_accuracy", "final_accuracy", "held_out")
    for name in (*same, "final_loss", "steps", "complete"):
        assert getattr(first, name) == getattr(alone, name), name
    assert (first.best_test_accuracy is None) == (validation is None)
    assert validation is None or (first.best_epoch, second.best_epoch) == (1, 1)
    assert second.best_test_accuracy == first.best_test_accuracy
    assert second.final_loss is None and second.best_accuracy == alone.best_accuracy
    mine, expected = (
        load_checkpoint(tmp_path / name / "last.safetensors").state for name in ("run0", "alone")
    )
    assert all(np.array_equal(mine[name], array) for name, array in expected.items())
