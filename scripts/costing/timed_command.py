"""`resnet-spec` in a process of its own that notes what its time goes into.

    python -m costing.timed_command SPANS train ...

Functions that the run calls are wrapped in ones that look at a clock before and after, which takes
some microseconds for a batch. What the command does, and its exit status, are its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from costing.spans import EVALUATE, METRICS, PREDICT, READ, SAVE, TRAIN, WAIT, Spans
from resnet_spec.cli.main import main as command
from resnet_spec.running import fit, run_folder, sessions, training


def watched(session: Any, spans: Spans) -> Any:
    """Return the session, whose training and predictions are noted from now on."""
    train, predict = session.train, session.predict

    def timed_train(batches: Iterable[Any], rates: Any, *more: Any) -> Any:
        with spans.of(TRAIN, len(rates)):
            return train(spans.pulled(WAIT, batches), rates, *more)

    def timed_predict(batches: Iterable[Any]) -> Iterator[Any]:
        return spans.pulled(PREDICT, predict(spans.pulled(READ, batches)))

    session.train, session.predict = timed_train, timed_predict
    return session


def noted(spans: Spans, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a note of each call."""

    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        with spans.of(name):
            return function(*given, **named)

    return timed


def watch(spans: Spans) -> None:
    """Note what runs of this process do from now on."""
    opened = training.open_session

    def open_session(*given: Any, **named: Any) -> Any:
        return watched(opened(*given, **named), spans)

    training.open_session = open_session
    wrapped = (
        (sessions.Sessions, "evaluate", EVALUATE),
        (sessions.Sessions, "evaluate_weights", EVALUATE),
        (fit._Going, "_checkpoint", SAVE),
        (run_folder.RunFolder, "save_last", SAVE),
        (run_folder.RunFolder, "save_best", SAVE),
        (run_folder.RunFolder, "add_epoch", METRICS),
    )
    for owner, name, what in wrapped:
        setattr(owner, name, noted(spans, what, getattr(owner, name)))


def main() -> int:
    """Return the command's exit status."""
    spans, path = Spans(), Path(sys.argv[1])
    watch(spans)
    status = command(sys.argv[2:])
    spans.write(path)
    return status


if __name__ == "__main__":
    sys.exit(main())
