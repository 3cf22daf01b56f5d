"""A benchmark from beginning to end: all are started, warmed up, and then take turns.

One after the other is started, so that nobody's start is slowed by another's. A turn's steps are
found once, and are the same for all. Every round begins with another contestant, so that none
always follows the same one.

Two processes of one program may differ by more than the rounds of either, so all may be started
several times. A set is everybody's start, rounds and end; the next one begins when its processes
are gone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.exported import exported
from resnet_spec.benchmarking.machine import this_machine
from resnet_spec.benchmarking.process import FailedError, WorkerProcess
from resnet_spec.benchmarking.profiles import LEAST_STEPS, MOST_STEPS, Profiled
from resnet_spec.benchmarking.results import Measured, Result
from resnet_spec.benchmarking.under_way import Line, Running

Tick = Callable[[str], None]
"""Is told what begins."""

_PRODUCT_SHARE = 0.2
"""Of a turn's seconds that a matrix product is repeated for."""

Open = Callable[[Entry], Line]


class _Field:
    """All contestants; who fails is out, with a line, and the others go on."""

    def __init__(self, asked: Asked, tick: Tick) -> None:
        self.asked, self.tick = asked, tick
        self.set = 0
        self.running: list[Running] = []
        self.ended: dict[Entry, list[Running]] = {}
        self.exported: dict[str, Path] = {}
        self.failed: dict[Entry, str] = {}
        self.profiles: list[Profiled] = []
        self.not_profiled: dict[str, str] = {}

    @contextmanager
    def trying(self, entry: Entry, what: str) -> Generator[None]:
        """Say what `entry` begins with; it is out where that fails, of the sets to come, too."""
        what = self.in_set(what)
        self.tick(f"{entry.name}: {what}")
        try:
            yield
        except FailedError as error:
            self.failed[entry] = f"{what}: {error}"
            out = [one for one in self.running if one.entry == entry]
            self.running = [one for one in self.running if one.entry != entry]
            for one in out:
                one.line.close()

    def in_set(self, what: str) -> str:
        """Return `what` with the number of the set, where there are several."""
        starts = self.asked.starts
        return f"start {self.set + 1} of {starts}, {what}" if starts > 1 else what

    def start(self, entries: Sequence[Entry], open_line: Open, open_ends: ExitStack) -> None:
        """Start one after the other, each to the end of its first step."""
        files = self.exported
        for entry in [entry for entry in entries if entry not in self.failed]:
            with self.trying(entry, "starting"):
                if entry.format and entry.format not in files:
                    made = exported(self.asked, entry.format)
                    files[entry.format] = open_ends.enter_context(made)
                line = open_line(entry)
                open_ends.callback(line.close)
                self.running.append(one := Running(entry, line))
                task = {"asked": self.asked.to_dict(), "entry": asdict(entry)}
                one.begin({**task, "file": str(files[entry.format]) if entry.format else None})

    def steps(self) -> int:
        """Return the steps of a turn: the middle of what each would take in the seconds."""
        found: list[float] = []
        for one in list(self.running):
            with self.trying(one.entry, "warming up"):
                found.append(math.log(one.step_s(self.asked.seconds)))
        if not found:
            return 1
        return max(1, round(self.asked.seconds / math.exp(statistics.median(found))))

    def round(self, number: int, steps: int) -> None:
        """Let everyone take a turn."""
        for one in rotated(self.running, self.set * self.asked.rounds + number):
            with self.trying(one.entry, f"round {number + 1} of {self.asked.rounds}"):
                one.turns.append(one.turn(steps))
                one.multiply(self.asked.seconds * _PRODUCT_SHARE)

    def profile(self, steps: int) -> None:
        """Have each backend profile a few steps; who cannot has its turns all the same."""
        few = max(LEAST_STEPS, min(steps, MOST_STEPS))
        for one in [one for one in self.running if one.entry.is_ours]:
            self.tick(f"{one.entry.name}: {self.in_set('profiling')}")
            try:
                found = one.profile(few, statistics.median(one.turns) / steps)
            except FailedError as error:
                found = str(error)
            if isinstance(found, str):
                self.not_profiled[one.entry.name] = found
            else:
                self.profiles.append(found)

    def end(self) -> None:
        """End everyone's process; who ends well has been measured in this set."""
        for one in list(self.running):
            with self.trying(one.entry, "ending"):
                one.end()
                self.ended.setdefault(one.entry, []).append(one)
        self.running.clear()


def rotated(of: Sequence[Running], number: int) -> list[Running]:
    """Return the order of a round: each begins with the one after the one before."""
    start = number % len(of) if of else 0
    return [*of[start:], *of[:start]]


def measure(
    asked: Asked,
    entries: Sequence[Entry],
    left_out: Sequence[str] = (),
    tick: Tick = lambda what: None,
    open_line: Open | None = None,
    steps: int | None = None,
) -> Result:
    """Return what every contestant of `entries` takes.

    left_out: lines on those that are not started, for the result. open_line: starts a contestant's
    process. steps: of every turn; None: as many as take `asked.seconds`, found in the first set.
    Whoever fails is in the result with a line, and the others go on; sets that it has ended before
    are kept. When this returns, or raises, no process is left.
    """
    machine, field = this_machine(), _Field(asked, tick)
    with ExitStack() as open_ends:
        for field.set in range(asked.starts):
            field.start(entries, open_line or _opened(asked), open_ends)
            found = field.steps()  # It warms them up, too.
            steps = found if steps is None else steps
            for number in range(asked.rounds):
                field.round(number, steps)
            if asked.profile and field.set == asked.starts - 1:
                field.profile(steps)
            field.end()
    assert steps is not None
    measured = tuple(_measured(field.ended[entry]) for entry in entries if entry in field.ended)
    told = (field.failed, tuple(left_out), tuple(field.profiles), field.not_profiled)
    return Result(asked, machine, steps, measured, *told)


def _measured(runs: Sequence[Running]) -> Measured:
    """Return the numbers of a contestant, of its processes."""
    first = runs[0]
    size = first.product["size"] if first.product else None
    return Measured(first.entry, first.info, tuple(run.start() for run in runs), size)


def _opened(asked: Asked) -> Open:
    return lambda entry: WorkerProcess(asked.threads)


def ticks(asked: Asked, entries: Sequence[Entry]) -> int:
    """Return how often `measure` ticks where nobody fails."""
    ours = sum(entry.is_ours for entry in entries)
    return asked.starts * len(entries) * (asked.rounds + 3) + ours * asked.profile
