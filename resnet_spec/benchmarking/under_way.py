"""A contestant under way: what its process is told, and what it has answered so far."""

from __future__ import annotations

import time
from typing import Any, Protocol

from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.process import FailedError
from resnet_spec.benchmarking.profiles import Profiled, profiled_of
from resnet_spec.benchmarking.results import Start, largest

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
        self.memory_mb = largest([self.memory_mb, answer["memory_mb"]])
        self.device_mb = largest([self.device_mb, answer["device_mb"]])
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

    def start(self) -> Start:
        """Return its numbers."""
        return Start(
            start_s=self.start_s,
            first_step_s=self.first_step_s,
            turns=tuple(self.turns),
            products=tuple(self.products),
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
