"""A case with a backend and a precision, and both sides' results, computed once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from cases import CASES
from deviations import deviations

from resnet_spec.contract import Precision
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.kink_margin import Margin
from resnet_spec.parity.setup import make_recipe
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import REFERENCE, margin_of_run, smooth_side
from resnet_spec.parity.verdicts import first_look
from resnet_spec.reporting.report import Row

PRECISIONS: tuple[Precision, ...] = ("float32", "float64")


@dataclass(frozen=True)
class Pair:
    """One cell of the matrix; equal pairs share their sessions."""

    case: str
    backend: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.case}-{self.backend}-{self.precision}"

    @property
    def got(self) -> Side:
        return side(self.case, self.backend, self.precision)

    @property
    def expected(self) -> Side:
        return reference(self.case)[0]

    @property
    def floors(self) -> Floors:
        return floors(self.case, self.precision)

    @property
    def margin(self) -> Margin:
        return reference(self.case)[1]

    def check(self, level: str) -> None:
        """Fail when the pair differs at `level`, or when a known deviation has gone."""
        row = first_look(level, self.got, self.floors)
        reason = deviations(self.backend).get((self.case, level, self.precision))
        if reason is not None:
            assert row.is_wrong, f"{self}: stale known deviation ({reason})"
        else:
            assert not row.is_wrong, _line(row)


@cache
def reference(case: str) -> tuple[Side, Margin]:
    return smooth_side(CASES[case].plan, make_recipe(), whole_run=True)


@cache
def side(case: str, backend: str, precision: Precision) -> Side:
    return Side(backend, reference(case)[0].setup, precision)


@cache
def floors(case: str, precision: Precision) -> Floors:
    return Floors(reference(case)[0], precision)


@cache
def run_margin(case: str) -> float:
    return margin_of_run(reference(case)[0]).value


# XLA takes half a minute to compile a case's programs; these have every kind of op among them.
_FEW = ("bottleneck", "groups", "zero_pad_both", "noise", "pre_activation_everything")


def pairs() -> list[Pair]:
    """Return the whole matrix of installed backends, the reference against itself left out."""
    return [
        Pair(case, backend, precision)
        for case in CASES
        for backend in installed_backends()
        for precision in PRECISIONS
        if precision in load_backend(backend).PRECISIONS
        and (backend, precision) != (REFERENCE, "float64")
        and not ((backend, precision) == ("flax", "float64") and case not in _FEW)
    ]


_FEWER = ("bottleneck", "pre_activation_everything")
SLOW = ("flax", "mindspore")
"""Backends that compile every network and every function of it for seconds."""
_QUICK = ("numpy", "torch")
# With the tests of each one's numbers, which compile padded channels and SAME, these have every
# kind of op, and every option that the plan does not resolve into numbers of ops.
_ENOUGH = (
    *("bottleneck", "groups", "noise", "pre_activation_everything"),
    *("imagenet_stem", "dilation"),
)
_COVERED = {
    "flax": ("groups", "imagenet_stem", "dilation"),
    "mindspore": ("groups", "dilation", "noise"),
}
"""Of these, what each one's tests of numbers compare with the reference in their own networks."""


def cell(pair: Pair, is_thorough: bool = False) -> Any:
    """Return `pair` as a parameter of a test, in its case's group."""
    marks = [pytest.mark.xdist_group(pair.case)]
    is_more = pair.backend in SLOW and pair.case not in _ENOUGH
    is_more |= pair.case in _COVERED.get(pair.backend, ())
    if is_thorough or is_more or _is_repeated(pair):
        marks.append(pytest.mark.thorough)
    return pytest.param(pair, marks=marks)


def _is_repeated(pair: Pair) -> bool:
    """Whether another precision shows the same: in float64 few cases of each backend are enough.

    Of Flax, few cases are compiled in float64, and others not.
    """
    in_float64 = pair.precision == "float64"
    if pair.backend == "flax":
        return in_float64 != (pair.case in _FEWER)
    return pair.backend in _QUICK and in_float64 and pair.case not in _ENOUGH


def cells_of_few() -> list[Any]:
    """Return all pairs of quick backends and few of those that compile long."""
    return [cell(p, p.backend in SLOW and p.case not in _FEWER) for p in pairs()]


def _line(row: Row) -> str:
    item = row.worst
    return (
        f"{row.backend} {row.level}: {item.name} is off by {item.max_rel:.2e} (absolute "
        f"{item.max_abs:.2e}), {item.floor_multiples:.1f} floors, limit {row.limit}"
    )
