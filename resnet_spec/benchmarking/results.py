"""What was measured, and what follows from it: medians, spreads, ratios round by round, shares."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet_spec.benchmarking.asked import FLOPS_CONVENTION, Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.machine import Machine
from resnet_spec.benchmarking.profiles import Profiled


class Spread(NamedTuple):
    """The middle of some numbers, and the quartiles below and above it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of `values`, of which there is one at least; quartiles are interpolated."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Between(NamedTuple):
    """The median speed of the slowest and of the fastest start, by that of all rounds."""

    lowest: float
    highest: float


@dataclass(frozen=True)
class Start:
    """The numbers of one process of a contestant, a turn for each round.

    start_s: from the start of the process to a network with weights. first_step_s: of the first
    step, which compiles where something is compiled. turns: seconds of each round's turn. products:
    FLOP/s of its framework's matrix product in each round; () where it has none. memory_mb,
    device_mb: the most that the process and its device held, in 10^6 bytes; None where unknown.
    idle: processors that it took while it waited for others.
    """

    start_s: float
    first_step_s: float
    turns: tuple[float, ...]
    products: tuple[float, ...] = ()
    memory_mb: float | None = None
    device_mb: float | None = None
    idle: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A contestant's numbers.

    info: what it says of itself. starts: one for each set from the first on, as many as it ended.
    """

    entry: Entry
    info: Mapping[str, str]
    starts: tuple[Start, ...]
    product_size: int | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.entry.name

    @property
    def turns(self) -> tuple[float, ...]:
        """Seconds of all rounds' turns, of one start after the other."""
        return tuple(seconds for start in self.starts for seconds in start.turns)

    @property
    def products(self) -> tuple[float, ...]:
        """FLOP/s of the matrix product in all rounds; () where there is none."""
        return tuple(rate for start in self.starts for rate in start.products)

    @property
    def start_s(self) -> float:
        """Seconds to a network with weights, the median over starts."""
        return statistics.median(start.start_s for start in self.starts)

    @property
    def first_step_s(self) -> float:
        """Seconds of the first step, the median over starts."""
        return statistics.median(start.first_step_s for start in self.starts)

    @property
    def memory_mb(self) -> float | None:
        """The most that one of its processes held."""
        return largest([start.memory_mb for start in self.starts])

    @property
    def device_mb(self) -> float | None:
        """The most that the device of one of its processes held."""
        return largest([start.device_mb for start in self.starts])

    @property
    def idle(self) -> float:
        """Processors that it took while it waited for others, in the start that took the most."""
        return max(start.idle for start in self.starts)

    @property
    def product(self) -> float | None:
        """FLOP/s of its matrix product, the median over rounds."""
        return statistics.median(self.products) if self.products else None

    @property
    def device(self) -> str:
        """The kind of device that it says it computes on, as cpu; "cpu" where it says none."""
        word = self.info.get("device", "cpu").partition(":")[0].partition(" ")[0].lower()
        return {"cuda": "gpu"}.get(word, word)


def largest(values: Iterable[float | None]) -> float | None:
    """Return the largest of the values that are known; None where none is."""
    return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class Result:
    """A benchmark, done.

    steps: of every turn. measured: all who took every turn of a start, in the order asked for.
    failed: why others, or they in a later start, did not, by who they are. left_out: a line for
    each who was not started. profiles: where they were asked for, of the backends that could be
    profiled. not_profiled: why others could not, by name.
    """

    asked: Asked
    machine: Machine
    steps: int
    measured: tuple[Measured, ...]
    failed: Mapping[Entry, str] = field(default_factory=dict[Entry, str])
    left_out: tuple[str, ...] = ()
    profiles: tuple[Profiled, ...] = ()
    not_profiled: Mapping[str, str] = field(default_factory=dict[str, str])

    def speed(self, one: Measured) -> Spread:
        """Return images per second, over all rounds of all starts."""
        return self._speed(one.turns)

    def between_starts(self, one: Measured) -> Between | None:
        """Return how far the starts of `one` are apart; None where it has one alone."""
        if len(one.starts) == 1:
            return None
        medians = [self._speed(start.turns).median for start in one.starts]
        middle = self.speed(one).median
        return Between(min(medians) / middle, max(medians) / middle)

    def gflops(self, one: Measured) -> float:
        """Return 10^9 floating-point operations per second: the plan's, at the median speed."""
        return self.asked.flops / self.asked.batch * self.speed(one).median / 1e9

    def reference(self, one: Measured) -> Measured | None:
        """Return who has the fastest matrix product on the same kind of device; None for nobody."""
        able = [other for other in self.measured if other.products and other.device == one.device]
        return max(able, key=lambda other: other.product or 0.0, default=None)

    def share(self, one: Measured) -> float | None:
        """Return what is achieved of the fastest matrix product's speed; None without one."""
        found = self.reference(one)
        product = None if found is None else found.product
        return None if not product else self.gflops(one) * 1e9 / product

    def base(self, one: Measured) -> Measured | None:
        """Return whom `one` is compared with: a peer with its framework's backend, else the first.

        None for whoever is the first backend itself, and where no backend was measured.
        """
        ours = [other for other in self.measured if other.entry.is_ours]
        own = [other for other in ours if other.entry.backend == one.entry.backend]
        found = next(iter(own if own and not one.entry.is_ours else ours), None)
        return None if found is one else found

    def ratio(self, one: Measured) -> Spread | None:
        """Return the speed of its base by its own, round by round: above 1 the base is faster.

        A round's two turns are of one set: of the sets that both have ended, which are the first.
        """
        base = self.base(one)
        if base is None:
            return None
        both = min(len(one.starts), len(base.starts))
        sets = zip(one.starts[:both], base.starts[:both], strict=True)
        turns = (pair for a, b in sets for pair in zip(a.turns, b.turns, strict=True))
        return Spread.of([own / others for own, others in turns])

    @property
    def is_sound(self) -> bool:
        """Whether somebody was measured, and profiled if asked, and none failed who must not.

        A ready-made peer may: it knows only some networks.
        """
        is_whole = not any(entry.is_ours or entry.is_own for entry in self.failed)
        return bool(self.measured) and is_whole and (not self.asked.profile or bool(self.profiles))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, with every turn."""
        return {
            "asked": self.asked.to_dict(),
            "title": self.asked.title,
            "flops_of_a_step": self.asked.flops,
            "conventions": {"flops": FLOPS_CONVENTION, "spread": SPREAD_CONVENTION},
            "machine": self.machine.to_dict(),
            "steps_of_a_turn": self.steps,
            "contestants": [self._fields(one) for one in self.measured],
            "failed": {entry.name: line for entry, line in self.failed.items()},
            "left_out": list(self.left_out),
            **(self._profiles() if self.asked.profile else {}),
        }

    def disturbing(self, one: Measured) -> float:
        """Return the processors that `one` took at the most while others had their turn.

        Of a set in which it was alone nothing counts: it disturbed nobody.
        """
        others = max((len(other.starts) for other in self.measured if other is not one), default=0)
        return max((start.idle for start in one.starts[:others]), default=0.0)

    def _speed(self, turns: Sequence[float]) -> Spread:
        return Spread.of([self.asked.batch * self.steps / seconds for seconds in turns])

    def _profiles(self) -> dict[str, Any]:
        """Return the fields of what was profiled."""
        found = [profiled.to_dict() for profiled in self.profiles]
        return {"profiles": found, "not_profiled": dict(self.not_profiled)}

    def _fields(self, one: Measured) -> dict[str, Any]:
        base, ratio, reference = self.base(one), self.ratio(one), self.reference(one)
        between = self.between_starts(one)
        return {
            "name": one.name,
            "backend": one.entry.backend,
            "is_peer": not one.entry.is_ours,
            "images_per_second": self.speed(one)._asdict(),
            "compared_with": None if base is None else base.name,
            "ratio": None if ratio is None else ratio._asdict(),
            "gflops": self.gflops(one),
            "share_of_product": self.share(one),
            "product_of": None if reference is None else reference.name,
            "product_size": one.product_size,
            "product_gflops": [value / 1e9 for value in one.products],
            "start_s": one.start_s,
            "first_step_s": one.first_step_s,
            "turns_s": list(one.turns),
            "memory_mb": one.memory_mb,
            "device_memory_mb": one.device_mb,
            "processors_while_waiting": one.idle,
            "info": dict(one.info),
            "between_starts": None if between is None else between._asdict(),
            "starts": [self._start_fields(start) for start in one.starts],
        }

    def _start_fields(self, start: Start) -> dict[str, Any]:
        return {
            "images_per_second": self._speed(start.turns)._asdict(),
            "product_gflops": [value / 1e9 for value in start.products],
            "start_s": start.start_s,
            "first_step_s": start.first_step_s,
            "turns_s": list(start.turns),
            "memory_mb": start.memory_mb,
            "device_memory_mb": start.device_mb,
            "processors_while_waiting": start.idle,
        }


SPREAD_CONVENTION = "median over rounds, and the quartiles below and above it"
