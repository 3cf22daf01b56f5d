"""A benchmark from beginning to end: all are started, warmed up, and then take turns.

One after the other is started, so that nobody's start is slowed by another's. A turn's steps are
found once, and are the same for all. Every round begins with another contestant, so that none
always follows the same one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.exported import exported
from resnet_spec.benchmarking.machine import this_machine
from resnet_spec.benchmarking.process import FailedError, WorkerProcess
from resnet_spec.benchmarking.profiles import LEAST_STEPS, MOST_STEPS, Profiled, profiled_of
from resnet_spec.benchmarking.results import Measured, Result

Tick = Callable[[str], None]
"""Is told what begins."""

_PRODUCT_SHARE = 0.2
"""Of a turn's seconds that a matrix product is repeated for."""
_LONG_ENOUGH = 0.1
"""Of a turn's seconds: steps are doubled until they take so long, for a few say little."""
_MOST_STEPS = 1_000_000
_LEAST_STEP_S = 1e-6
"""A step of fewer seconds is none: to call a function at all takes a tenth of it."""


class Line(Protocol):
    """Whoever answers: a `WorkerProcess`, or what a test puts in its place."""

    began: float

    def ask(self, told: dict[str, Any]) -> dict[str, Any]:
        """See `WorkerProcess.ask`."""
        ...

    def close(self) -> None:
        """See `WorkerProcess.close`."""
        ...


Open = Callable[[Entry], Line]


class Running:
    """A contestant under way, and what it has answered so far."""

    def __init__(self, entry: Entry, line: Line) -> None:
        self.entry, self.line = entry, line
        self.info: dict[str, str] = {}
        self.start_s = self.first_step_s = 0.0
        self.turns: list[float] = []
        self.products: list[float] = []
        self.product: dict[str, int] | None = None
        self.can_profile = self.is_over = False
        self.product_count = 0
        self.memory_mb: float | None = None
        self.device_mb: float | None = None
        self._waited_s = self._idle_s = 0.0

    def begin(self, task: dict[str, Any]) -> None:
        """Have the network made, and take the first step."""
        answer = self.line.ask(task)
        self.start_s = time.perf_counter() - self.line.began
        self.info, self.product = answer["info"], answer["product"]
        self.can_profile = answer.get("can_profile", False)
        self.first_step_s = self.turn(1)

    def turn(self, steps: int) -> float:
        """Return the seconds of a turn."""
        answer = self.line.ask({"turn": steps})
        self._waited(answer)
        self.memory_mb = _most(self.memory_mb, answer["memory_mb"])
        self.device_mb = _most(self.device_mb, answer["device_mb"])
        return answer["seconds"]

    def step_s(self, seconds: float) -> float:
        """Return the seconds of a step, of turns that are doubled until they are long enough.

        One is taken before: something may be compiled at the second step, too. Raises FailedError
        for turns that take no steps.
        """
        self.turn(1)
        steps = 1
        while (took := self.turn(steps)) < seconds * _LONG_ENOUGH and steps < _MOST_STEPS:
            steps *= 2
        if took < steps * _LEAST_STEP_S:
            rule = "its turn has to take the steps, and to wait for the last"
            raise FailedError(f"a turn of {steps} steps took {took:.1g} s; {rule}")
        return took / steps

    def multiply(self, seconds: float) -> None:
        """Measure the matrix product, where there is one, for about `seconds`."""
        if self.product is None:
            return
        if self.product_count == 0:  # The first compiles, the second says how many to take.
            self._product(1)
            self.product_count = max(1, round(seconds / self._product(1)))
        took = self._product(self.product_count)
        self.products.append(self.product["flops"] * self.product_count / took)

    def profile(self, steps: int, plain_s: float) -> Profiled | str:
        """Return where the time of `steps` steps goes; where nobody can tell, why.

        Raises FailedError where the process is lost; it is over then.
        """
        if not self.can_profile:
            return "its backend brings no function for it (bench.profile)"
        try:
            answer = self.line.ask({"profile": steps})
        except FailedError:
            self.is_over = True
            raise
        self._waited(answer)
        if "not_profiled" in answer:
            return str(answer["not_profiled"])
        return profiled_of(self.entry.name, answer, steps, plain_s)

    def end(self) -> None:
        """Hear how the last wait was, and end the process."""
        if not self.is_over:
            self._waited(self.line.ask({"end": True}))
        self.line.close()

    def measured(self) -> Measured:
        """Return its numbers."""
        return Measured(
            entry=self.entry,
            info=self.info,
            start_s=self.start_s,
            first_step_s=self.first_step_s,
            turns=tuple(self.turns),
            products=tuple(self.products),
            product_size=self.product["size"] if self.product else None,
            memory_mb=self.memory_mb,
            device_mb=self.device_mb,
            idle=self._idle_s / self._waited_s if self._waited_s else 0.0,
        )

    def _product(self, count: int) -> float:
        answer = self.line.ask({"product": count})
        self._waited(answer)
        return answer["seconds"]

    def _waited(self, answer: dict[str, Any]) -> None:
        self._waited_s += answer["waited_s"]
        self._idle_s += answer["idle_s"]


def _most(before: float | None, now: float | None) -> float | None:
    found = [value for value in (before, now) if value is not None]
    return max(found) if found else None


class _Field:
    """All contestants; who fails is out, with a line, and the others go on."""

    def __init__(self, asked: Asked, tick: Tick) -> None:
        self.asked, self.tick = asked, tick
        self.running: list[Running] = []
        self.failed: dict[Entry, str] = {}
        self.profiles: list[Profiled] = []
        self.not_profiled: dict[str, str] = {}

    @contextmanager
    def trying(self, entry: Entry, what: str) -> Generator[None]:
        """Say what `entry` begins with; it is out where that fails."""
        self.tick(f"{entry.name}: {what}")
        try:
            yield
        except FailedError as error:
            self.failed[entry] = f"{what}: {error}"
            out = [one for one in self.running if one.entry == entry]
            self.running = [one for one in self.running if one.entry != entry]
            for one in out:
                one.line.close()

    def start(self, entries: Sequence[Entry], open_line: Open, open_ends: ExitStack) -> None:
        """Start one after the other, each to the end of its first step."""
        files: dict[str, Path] = {}
        for entry in entries:
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
        for one in rotated(self.running, number):
            with self.trying(one.entry, f"round {number + 1} of {self.asked.rounds}"):
                one.turns.append(one.turn(steps))
                one.multiply(self.asked.seconds * _PRODUCT_SHARE)

    def profile(self, steps: int) -> None:
        """Have each backend profile a few steps; who cannot has its turns all the same."""
        few = max(LEAST_STEPS, min(steps, MOST_STEPS))
        for one in [one for one in self.running if one.entry.is_ours]:
            self.tick(f"{one.entry.name}: profiling")
            try:
                found = one.profile(few, statistics.median(one.turns) / steps)
            except FailedError as error:
                found = str(error)
            if isinstance(found, str):
                self.not_profiled[one.entry.name] = found
            else:
                self.profiles.append(found)


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
    process. steps: of every turn; None: as many as take `asked.seconds`. Whoever fails is in the
    result with a line, and the others go on. When this returns, or raises, no process is left.
    """
    machine, field = this_machine(), _Field(asked, tick)
    with ExitStack() as open_ends:
        field.start(entries, open_line or _opened(asked), open_ends)
        found = field.steps()  # It warms them up, too.
        steps = found if steps is None else steps
        for number in range(asked.rounds):
            field.round(number, steps)
        if asked.profile:
            field.profile(steps)
        for one in list(field.running):
            with field.trying(one.entry, "ending"):
                one.end()
    measured = tuple(one.measured() for one in field.running)
    told = (field.failed, tuple(left_out), tuple(field.profiles), field.not_profiled)
    return Result(asked, machine, steps, measured, *told)


def _opened(asked: Asked) -> Open:
    return lambda entry: WorkerProcess(asked.threads)


def ticks(asked: Asked, entries: Sequence[Entry]) -> int:
    """Return how often `measure` ticks where nobody fails."""
    ours = sum(entry.is_ours for entry in entries)
    return len(entries) * (asked.rounds + 3) + ours * asked.profile
