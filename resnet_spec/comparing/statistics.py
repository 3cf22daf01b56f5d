"""Means and spreads over seeds, and differences paired over seeds. Needs scipy: `compare` extra.

The final test accuracy is what is compared, not the best epoch's, which is chosen with the test
images unless a run holds others out for that. At equal seeds two runs have the same batches, crops
and flips (and the same first weights where their tensors have the same names and shapes), so that
differences are taken pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from statistics import fmean, stdev
from typing import Any, NamedTuple

from resnet_spec.comparing.results import Result

LEVEL = 0.95
"""Of confidence intervals."""


class Key(NamedTuple):
    """What seeds are gathered under."""

    network: str
    backend: str


@dataclass(frozen=True)
class Sample:
    """Numbers of several seeds. std has n - 1 in its denominator; None for fewer than two."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """The mean; None without numbers."""
        return fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half of the mean's 95 % interval by Student's t; None for one number or without scipy."""
        if self.std is None or not has_scipy():
            return None
        n = len(self.values)
        return float(_special().stdtrit(n - 1, (1 + LEVEL) / 2)) * self.std / math.sqrt(n)


@dataclass(frozen=True)
class Group:
    """The complete runs of one network on one backend, and the others' errors."""

    key: Key
    results: tuple[Result, ...]

    @property
    def complete(self) -> list[Result]:
        """The runs that are done, by seed."""
        return sorted((r for r in self.results if r.state == "complete"), key=lambda r: r.seed)

    @property
    def judged_by(self) -> set[str]:
        """Which images the runs that are done have chosen their best epochs by."""
        return {r.summary.best_of for r in self.complete if r.summary is not None}

    @property
    def errors(self) -> list[str]:
        """Why runs failed, each with its seed."""
        return [f"seed {r.seed}: {r.error}" for r in self.results if r.state == "failed"]

    def sample(self, name: str) -> Sample:
        """Return a field of the summaries, of those runs that have it."""
        return _known(getattr(r.summary, name) for r in self.complete)

    @property
    def train_accuracy(self) -> Sample:
        """Shares of the last epoch's training images that were told right."""
        return _known(r.final_train_accuracy for r in self.complete)

    @property
    def speed(self) -> Sample:
        """Images per second of training."""
        return _known(r.images_per_second for r in self.complete)

    def seconds_to(self, target: float | None) -> Sample:
        """Return the times to an accuracy, of those runs that reached it."""
        return _known(r.seconds_to(target) for r in self.complete)

    def by_seed(self) -> dict[int, float]:
        """Return the final test accuracies."""
        return {
            r.seed: r.summary.final_accuracy
            for r in self.complete
            if r.summary is not None and r.summary.final_accuracy is not None
        }


def _known(values: Iterable[float | None]) -> Sample:
    return Sample(tuple(float(value) for value in values if value is not None))


def groups_of(results: Sequence[Result]) -> list[Group]:
    """Return the results by network and backend, in the order in which they first occur."""
    found: dict[Key, list[Result]] = {}
    for result in results:
        found.setdefault(Key(*result.group), []).append(result)
    return [Group(key, tuple(members)) for key, members in found.items()]


@dataclass(frozen=True)
class Difference:
    """How much more accurate `one` is than `other`, paired over the seeds that both have.

    low, high: the mean's 95 % interval by Student's t. p: of the paired t-test, two-sided;
    p_holm: that, corrected for all differences of the table (Holm 1979). None for one seed, for
    which there is no interval, and without scipy; p is None, too, where all seeds differ alike.
    """

    one: Key
    other: Key
    sample: Sample
    p: float | None
    p_holm: float | None = None

    @property
    def n(self) -> int:
        """Seeds in common."""
        return len(self.sample.values)

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        width = self.sample.half_width
        return None if width is None else fmean(self.sample.values) - width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        width = self.sample.half_width
        return None if width is None else fmean(self.sample.values) + width

    @property
    def label(self) -> str:
        """What is compared, without what both have in common."""
        if self.one.backend == self.other.backend:
            return f"{self.one.network} - {self.other.network} ({self.one.backend})"
        if self.one.network == self.other.network:
            return f"{self.one.backend} - {self.other.backend} ({self.one.network})"
        return f"{'/'.join(self.one)} - {'/'.join(self.other)}"


def differences(groups: Sequence[Group], baseline: str | None) -> list[Difference]:
    """Return the differences that the baseline asks for, with p values corrected for their number.

    baseline: a network, a backend, or NETWORK/BACKEND; None: see `Grid.baseline`.
    """
    values = {group.key: group.by_seed() for group in groups}
    found: list[Difference] = []
    for one, other in _pairs(list(values), baseline):
        seeds = sorted(values[one].keys() & values[other].keys())
        if seeds:
            pairs = ((values[one][seed], values[other][seed]) for seed in seeds)
            # Accuracies are fractions of whole numbers: what is alike is to be so after rounding.
            sample = Sample(tuple(round(a - b, 12) for a, b in pairs))
            found.append(Difference(one, other, sample, _p_value(sample)))
    return _holm(found)


def _pairs(keys: Sequence[Key], baseline: str | None) -> Iterator[tuple[Key, Key]]:
    """Yield (one, other), networks before backends; `other` is the baseline, or the earlier one."""
    if baseline is not None and "/" in baseline:
        other = Key(*baseline.rsplit("/", 1))
        yield from ((one, other) for one in keys if one != other and other in keys)
        return
    for what, alike in ((0, 1), (1, 0)):
        for earlier, later in combinations(keys, 2):
            if earlier[alike] != later[alike] or earlier[what] == later[what]:
                continue
            if baseline in (None, earlier[what]):
                yield later, earlier
            elif later[what] == baseline:
                yield earlier, later


def _p_value(sample: Sample) -> float | None:
    """Return the p value of the mean being 0; None for one seed, and for differences all equal."""
    if not sample.std or not has_scipy():
        return None
    n = len(sample.values)
    statistic = fmean(sample.values) / (sample.std / math.sqrt(n))
    return 2 * float(_special().stdtr(n - 1, -abs(statistic)))


def _holm(found: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p values that hold for all of them at once (Holm 1979)."""
    known = [(d.p, i) for i, d in enumerate(found) if d.p is not None]
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[i] = highest
    return [replace(d, p_holm=corrected.get(i)) for i, d in enumerate(found)]


@dataclass(frozen=True)
class Spread:
    """How far a network's final accuracies are apart over seeds, and over backends.

    within: standard deviation over seeds in a backend, pooled over backends. between: standard
    deviation over backends at equal seeds, pooled over seeds. Both of the seeds that all have.
    """

    network: str
    backends: tuple[str, ...]
    seeds: int
    within: float
    between: float


def spreads(groups: Sequence[Group]) -> list[Spread]:
    """Return the spreads of every network with two backends and two common seeds, or more."""
    by_network: dict[str, dict[str, Mapping[int, float]]] = {}
    for group in groups:
        by_network.setdefault(group.key.network, {})[group.key.backend] = group.by_seed()
    found: list[Spread] = []
    for network, values in by_network.items():
        have = {backend: seeds for backend, seeds in values.items() if seeds}
        if len(have) < 2:
            continue
        common = sorted(_common(list(have.values())))
        if len(common) < 2:
            continue
        table = [[have[backend][seed] for seed in common] for backend in have]
        columns = list(zip(*table, strict=True))
        spread = Spread(network, tuple(have), len(common), _pooled(table), _pooled(columns))
        found.append(spread)
    return found


def _common(found: Sequence[Mapping[int, float]]) -> set[int]:
    """Return the seeds that all have."""
    return {seed for seed in found[0] if all(seed in values for values in found)}


def _pooled(rows: Sequence[Sequence[float]]) -> float:
    """Return the square root of the mean variance of rows of one length."""
    return math.sqrt(fmean(stdev(row) ** 2 for row in rows))


def has_scipy() -> bool:
    """Whether intervals and p values can be had."""
    return find_spec("scipy") is not None


def _special() -> Any:
    """Return the module with Student's t distribution (stdtr, its inverse stdtrit)."""
    return import_module("scipy.special")  # scipy.stats has it, too, and takes seconds to import.
