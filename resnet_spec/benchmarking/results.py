"""What was measured, and what follows from it: medians, spreads, ratios round by round, shares."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Measured:
    """A contestant's numbers, a turn for each round.

    info: what it says of itself. start_s: from the start of its process to a network with weights.
    first_step_s: of the first step, which compiles where something is compiled. turns: seconds of
    each round's turn. products: FLOP/s of its framework's matrix product in each round; () where it
    has none. memory_mb, device_mb: the most that its process and its device held, in 10^6 bytes;
    None where unknown. idle: processors that it took while it waited for others.
    """

    entry: Entry
    info: Mapping[str, str]
    start_s: float
    first_step_s: float
    turns: tuple[float, ...]
    products: tuple[float, ...] = ()
    product_size: int | None = None
    memory_mb: float | None = None
    device_mb: float | None = None
    idle: float = 0.0

    @property
    def name(self) -> str:
        """What it is called."""
        return self.entry.name

    @property
    def product(self) -> float | None:
        """FLOP/s of its matrix product, the median over rounds."""
        return statistics.median(self.products) if self.products else None

    @property
    def device(self) -> str:
        """The kind of device that it says it computes on, as cpu; "cpu" where it says none."""
        word = self.info.get("device", "cpu").partition(":")[0].partition(" ")[0].lower()
        return {"cuda": "gpu"}.get(word, word)


@dataclass(frozen=True)
class Result:
    """A benchmark, done.

    steps: of every turn. measured: all who took every turn, in the order asked for. failed: why
    others did not, by who they are. left_out: a line for each who was not started. profiles: where
    they were asked for, of the backends that could be profiled. not_profiled: why others could not,
    by name.
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
        """Return images per second."""
        return Spread.of([self.asked.batch * self.steps / seconds for seconds in one.turns])

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
        """Return the speed of its base by its own, round by round: above 1 the base is faster."""
        base = self.base(one)
        if base is None:
            return None
        return Spread.of([s / t for s, t in zip(one.turns, base.turns, strict=True)])

    @property
    def is_sound(self) -> bool:
        """Whether somebody was measured, and profiled if asked, and none of ours failed."""
        is_whole = not any(entry.is_ours for entry in self.failed)
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

    def _profiles(self) -> dict[str, Any]:
        """Return the fields of what was profiled."""
        found = [profiled.to_dict() for profiled in self.profiles]
        return {"profiles": found, "not_profiled": dict(self.not_profiled)}

    def _fields(self, one: Measured) -> dict[str, Any]:
        base, ratio, reference = self.base(one), self.ratio(one), self.reference(one)
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
        }


SPREAD_CONVENTION = "median over rounds, and the quartiles below and above it"
