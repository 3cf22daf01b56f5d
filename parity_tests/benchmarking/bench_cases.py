"""Made-up contestants of benchmarks: answers given by hand, and turns that sleep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tiny_run import NETWORK

from resnet_spec import load_spec
from resnet_spec.bench import Case, Turn
from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.machine import Machine
from resnet_spec.benchmarking.process import FailedError
from resnet_spec.benchmarking.results import Measured, Result, Start

SLEEP_S = 0.02


def asked(**changes: Any) -> Asked:
    """Return a question about the smallest network."""
    spec = load_spec({**NETWORK, "classes": 2}, ["input.size=8"])
    return Asked(spec, **{"mode": "predict", "batch": 4, "rounds": 3, **changes})


OURS, OTHER = Entry("torch", "torch"), Entry("flax", "flax")
PEER, OWN = Entry("timm", "torch", "a.b:c"), Entry("d:e", "", "d:e")
LINEN = Entry("linen", "flax", "a.b:d")


def measured(entry: Entry, *turns: float, **changes: Any) -> Measured:
    """Return numbers of a contestant with these turns, in seconds."""
    size = changes.pop("product_size", None)
    return Measured(entry, {"device": "cpu"}, (Start(1.5, 0.25, turns, **changes),), size)


def started(entry: Entry, *starts: Sequence[float]) -> Measured:
    """Return numbers of a contestant with these turns of each start, in seconds."""
    numbers = (Start(1.5, 0.25, tuple(turns)) for turns in starts)
    return Measured(entry, {"device": "cpu"}, tuple(numbers))


def result(*of: Measured, steps: int = 5, **changes: Any) -> Result:
    """Return a result of turns of five steps of four images."""
    machine = Machine("a CPU", "AVX2", 2, "Linux", "3.11.0", 0.1)
    return Result(asked(), machine, steps, of, **changes)


class Line:
    """Answers as a contestant whose steps and products take so long; keeps what it was told.

    fails_at: the number of the line at which it fails. profile: its answer; None: it has none.
    began: as in `WorkerProcess`.
    """

    def __init__(
        self, log: list[tuple[str, str]], name: str, step_s: float, fails_at: int = 0
    ) -> None:
        self.profile: dict[str, Any] | None = None
        self._log, self._name, self._step_s, self._fails_at = log, name, step_s, fails_at
        self._told = 0
        self.began = time.perf_counter()
        self.is_closed = False
        self.steps: list[int] = []

    def ask(self, told: dict[str, Any]) -> dict[str, Any]:
        self._told += 1
        if self._told == self._fails_at:
            raise FailedError("out of memory")
        waited = {"waited_s": 1.0, "idle_s": 0.25}
        if "asked" in told:
            self._log.append((self._name, "start"))
            product = {"size": 10, "flops": 2000}
            can = {"can_profile": self.profile is not None}
            return {"info": {"device": "cpu"}, "product": product, **can}
        if "profile" in told:
            self.steps.append(told["profile"])
            return {**(self.profile or {}), **waited}
        if "turn" in told:
            self._log.append((self._name, "turn"))
            self.steps.append(told["turn"])
            seconds = self._step_s * told["turn"]
            return {"seconds": seconds, "memory_mb": 7.0, "device_mb": None, **waited}
        if "product" in told:
            return {"seconds": 1e-3 * told["product"], **waited}
        return waited

    def close(self) -> None:
        self.is_closed = True


def sleeper(case: Case) -> Turn:
    """A factory as `--against` takes one: each step sleeps."""

    def turn(steps: int) -> None:
        time.sleep(SLEEP_S * steps)

    return turn


def endless(case: Case) -> Turn:
    """A factory whose turns do not end, and do not look at anything meanwhile."""

    def turn(steps: int) -> None:
        time.sleep(3600)

    return turn


def broken(case: Case) -> Turn:
    """A factory that cannot make its network."""
    raise ValueError("has no\nsuch network") from None


def late(case: Case) -> Turn:
    """A factory whose second turn fails."""
    turns: list[int] = []

    def turn(steps: int) -> None:
        turns.append(steps)
        if len(turns) > 1:
            raise MemoryError("out of memory")

    return turn


def spinner(case: Case) -> Turn:
    """A factory whose threads go on when its turn is over."""
    import threading

    def spin() -> None:
        while True:
            pass

    def turn(steps: int) -> None:
        threading.Thread(target=spin, daemon=True).start()

    return turn


def number(case: Case) -> Any:
    """A factory that gives no function."""
    return 3


Factory = Callable[[Case], Any]
