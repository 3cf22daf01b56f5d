"""Which process a NaN came from: by what each has of its own, as its loss is everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Array
from resnet_spec.errors import RecipeError
from resnet_spec.group import Group
from resnet_spec.loader import load_backend
from resnet_spec.running import origin_of_nan as origins
from resnet_spec.running.fit import fit
from resnet_spec.running.job import job_of
from resnet_spec.running.request import Request
from resnet_spec.running.runs import Run
from resnet_spec.running.together import Together

SPEC: Any = {
    "block": "basic",
    "dropout": 0.5,
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
NOISE = "has dropout factors that are not finite"
LOGITS = "computes logits that are not finite from the initial weights, too"


def make_run(out: Path) -> Run:
    settings = ["steps=2", "batch=600"]
    request = Request(spec=SPEC, backend="numpy", input_size=8, settings=settings, out=out)
    return job_of(request, lambda line: None).run


class Others:
    """The other processes: all say `own`, or, where it is None, what this one does."""

    def __init__(self, rank: int, own: int | None) -> None:
        self.rank, self.own = rank, own

    def gather(self, values: Array) -> Array:
        other = values if self.own is None else np.full_like(values, self.own)
        rows = [other, other, other]
        rows[self.rank] = values
        return np.stack(rows)

    def leave(self) -> None:
        """Nothing was joined."""


def together(rank: int, own: int | None = 0) -> Together:
    return Together(Group(rank=rank, size=3), Others(rank, own))


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of step 1, from 0, is no number."""
    sound = origins.train_batches

    def batches(*given: Any) -> Iterator[Any]:
        for step, batch in enumerate(sound(*given), given[3]):
            for factors in batch.noise.values() if step == 1 else ():
                factors[0] = np.nan
            yield batch

    monkeypatch.setattr(origins, "train_batches", batches)


def session_of(run: Run) -> Any:
    return load_backend("numpy").Session(run.plan, run.recipe)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("step", "rank"), [(1, 0), (1, 2), (0, 0)])
def test_noise_of_one_process(step: int, rank: int, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = origins.origin_of_nan(run, session_of(run), together(rank), step)
    assert found == ([f"rank {rank}: {NOISE}"] if step == 1 else [])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_computes_wrongly(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    session = session_of(run)
    monkeypatch.setattr(session, "predict", lambda batches: [np.full((200, 10), np.inf)])
    assert origins.origin_of_nan(run, session, together(rank), 0) == [f"rank {rank}: {LOGITS}"]
    assert origins.origin_of_nan(run, session, together(rank, own=None), 0) == []


def test_another_process_is_named_too(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = origins.origin_of_nan(run, session_of(run), together(1, own=2), 0)
    assert found == [f"rank 0: {LOGITS}", f"rank 2: {LOGITS}"]


def test_a_process_that_is_alone_is_not_looked_at(tmp_path: Path) -> None:
    nothing: Any = None
    assert origins.origin_of_nan(make_run(tmp_path), nothing, Together(), 0) == []


@pytest.mark.usefixtures("poisoned")
def test_the_error_of_a_run_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr("resnet_spec.running.fit.train_batches", origins.train_batches)
    among = together(1)  # Where the rest is settled, all are of one mind.
    monkeypatch.setattr(
        "resnet_spec.running.fit.origin_of_nan",
        lambda run, session, _, step: origins.origin_of_nan(run, session, among, step),
    )
    with np.errstate(all="ignore"), pytest.raises(RecipeError) as raised:
        fit(run, session_of(run), session_of(run), Silent(), together=together(1, own=None))
    (line,) = raised.value.problems
    assert line.startswith(f"rank 1: {NOISE}, and the loss became nan at step 2; look at ")


class Silent:
    def chunk(self, position: object, speed: float) -> None:
        pass

    def epoch(self, epoch: object) -> None:
        pass
