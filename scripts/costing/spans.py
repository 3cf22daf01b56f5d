"""What a run's time went into: spans that are noted on the way, and their sums between two epochs.

What the run writes by itself (`metrics.jsonl`) says when each epoch's steps were done; the spans
say what was done between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")

TRAIN, WAIT, EVALUATE, PREDICT, READ, SAVE, METRICS = (
    *("train", "wait", "evaluate", "predict", "read", "save", "metrics"),
)
"""`Session.train`, and waiting for a batch in it; evaluation, in it the session's `predict`, and in
that reading images; the state fetched and checkpoints written; the metrics' line."""


class Span(NamedTuple):
    """What was done from `begin` to `end`, in seconds. steps: those of `Session.train`, else 0."""

    name: str
    begin: float
    end: float
    steps: int = 0


@dataclass
class Spans:
    """Notes spans."""

    noted: list[Span] = field(default_factory=list[Span])

    @contextmanager
    def of(self, name: str, steps: int = 0) -> Generator[None]:
        """Note what is done in the block."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.noted.append(Span(name, begin, time.perf_counter(), steps))

    def pulled(self, name: str, items: Iterable[_T]) -> Iterator[_T]:
        """Yield `items`, and note how long each had to be waited for."""
        waiting = iter(items)
        while True:
            with self.of(name):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item

    def write(self, path: Path) -> None:
        """Write all that was noted, for `read_spans`."""
        path.write_text(json.dumps(self.noted), encoding="utf-8")


def read_spans(path: Path) -> list[Span]:
    """Return what `Spans.write` wrote."""
    return [Span(*row) for row in json.loads(path.read_text(encoding="utf-8"))]


class Went(NamedTuple):
    """Seconds of a part of a run, by what they went into; together they are all of it.

    steps: in `Session.train`, without the wait. wait: for batches. forward: in `Session.predict`,
    without reading images. evaluation: the rest of it. saving: fetching the state and writing
    checkpoints and metrics. other: all else.
    """

    steps: float
    wait: float
    forward: float
    evaluation: float
    saving: float
    other: float

    @property
    def whole(self) -> float:
        """All of it."""
        return sum(self)


def went(spans: Sequence[Span], first: int, last: int, seconds: float) -> Went:
    """Return what went into the time from the end of step `first` to the end of step `last`.

    seconds: that time by the run's own clock. Both must end a call of `Session.train`, as the last
    step of an epoch does. Raises ValueError where one does not.
    """
    begin, end = (_end_of(spans, step) for step in (first, last))
    took = dict.fromkeys((TRAIN, WAIT, EVALUATE, PREDICT, READ, SAVE, METRICS), 0.0)
    for span in spans:
        if begin <= span.begin and span.end <= end:
            took[span.name] += span.end - span.begin
    saving = took[SAVE] + took[METRICS]
    return Went(
        steps=took[TRAIN] - took[WAIT],
        wait=took[WAIT],
        forward=took[PREDICT] - took[READ],
        evaluation=took[EVALUATE] - took[PREDICT] + took[READ],
        saving=saving,
        other=seconds - took[TRAIN] - took[EVALUATE] - saving,
    )


def _end_of(spans: Sequence[Span], step: int) -> float:
    done = 0
    for span in spans:
        done += span.steps
        if span.steps and done == step:
            return span.end
    raise ValueError(f"step {step} ends no call of Session.train")
