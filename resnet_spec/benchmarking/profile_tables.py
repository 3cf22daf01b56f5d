"""Profiles in words: a table by nodes and one by kinds of ops; for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from resnet_spec.benchmarking.profiles import (
    Part,
    Profiled,
    groups_of,
    key_of,
    kinds_of,
    rows_of,
)
from resnet_spec.plan import Plan
from resnet_spec.printing.columns import GAP, Column, fitted
from resnet_spec.printing.consoles import PAGE


@dataclass(frozen=True)
class Profiles:
    """What a benchmark profiled: of each backend that could be, and why others could not."""

    title: str
    plan: Plan
    trains: bool
    all: Sequence[Profiled]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class _Table:
    head: list[str]
    rows: list[list[str]]

    def lines(self, width: int | None) -> list[str]:
        columns = [
            Column(head, right=bool(place), least=0 if place else 16, drop=_drop(head))
            for place, head in enumerate(self.head)
        ]
        return fitted(columns, self.rows, width)

    def markdown(self) -> list[str]:
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        return [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]


def _drop(head: str) -> int:
    """Return which columns go first where there is no room: directions, then shares."""
    last = head.rpartition(" ")[2]
    return {"forward": 1, "backward": 1, "share": 2}.get(last, 0)


def lines(of: Profiles, width: int | None) -> list[str]:
    """Return the tables, and what belongs to them, in lines of `width`; None: as they are."""
    page = width or PAGE
    found: list[str] = []
    for heading, table in _tables(of):
        found += ["", *textwrap.wrap(heading, page, subsequent_indent=GAP), ""]
        found += table.lines(width)
    for note in ["", *_notes(of)]:
        found += textwrap.wrap(note, page, subsequent_indent=GAP, break_on_hyphens=False) or [""]
    return found


def markdown(of: Profiles) -> str:
    """Return the same as Markdown, with every node."""
    found = [f"# Profile: {of.title}", ""]
    for heading, table in _tables(of, is_complete=True):
        found += [f"## {heading}", "", *table.markdown(), ""]
    return "\n".join([*found, *(f"- {note}" for note in _notes(of))]) + "\n"


def csv_text(of: Profiles) -> str:
    """Return every part, a line each."""
    stream, groups = io.StringIO(), groups_of(of.plan)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("backend", "node", "group", "kind", "direction", "ms_per_step", "share"))
    for one in of.all:
        for part in one.parts:
            share = f"{part.seconds / one.ops_s:.6f}" if one.ops_s else ""
            told = (part.node, groups[part.node] if part.node else "", part.kind, part.direction)
            writer.writerow((one.name, *told, f"{part.seconds * 1e3:.6f}", share))
    return stream.getvalue()


def _own(part: Part) -> str:
    return part.node or part.kind


def _tables(of: Profiles, *, is_complete: bool = False) -> Iterator[tuple[str, _Table]]:
    if not of.all:
        return
    key = _own if is_complete else key_of(of.plan, of.all)
    rows = rows_of(of.plan, key, of.all)
    yield f"milliseconds of a step, {of.title}, by node", _table(of, "node", rows, key)
    by_kind = _table(of, "kind of op", kinds_of(of.all), lambda part: part.kind)
    yield "the same by kind of op", by_kind


def _table(of: Profiles, first: str, rows: Sequence[str], key: Callable[[Part], str]) -> _Table:
    columns = [column for one in of.all for column in _columns(of, one, rows, key)]
    head = [first, *(head for head, _ in columns)]
    names = [*rows, "all ops", "step, profiled", "step, not profiled"]
    found = [[name, *(cells[place] for _, cells in columns)] for place, name in enumerate(names)]
    return _Table(head, found)


def _columns(
    of: Profiles, one: Profiled, rows: Sequence[str], key: Callable[[Part], str]
) -> Iterator[tuple[str, list[str]]]:
    sums, total = one.sums(key), one.ops_s
    whole = [sums.get(row, 0.0) for row in rows]
    ends = [total, one.step_s, one.plain_s]
    yield f"{one.name} ms", [_ms(value) for value in (*whole, *ends)]
    if of.trains:
        for direction in ("forward", "backward"):
            told = one.sums(key, direction)
            cells = [_ms(told[row]) if row in told else "" for row in rows]
            yield f"{one.name} {direction}", [*cells, _ms(sum(told.values())), "", ""]
    shares = [f"{value / total:.1%}" if total else "" for value in (*whole, total)]
    yield f"{one.name} share", [*shares, "", ""]


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 1000 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _notes(of: Profiles) -> Iterator[str]:
    for name, why in of.failed.items():
        yield f"{name}: no profile: {why}"
    if not of.all:
        return
    steps = ", ".join(f"{one.name} {one.steps}" for one in of.all)
    yield f"the mean of some steps after the rounds, under the framework's profiler: {steps}"
    yield "share: of all ops. What a step takes beyond them is Python, waiting and the profiler"
    yield "not profiled: the median of the same process's rounds"
    for one in of.all:
        yield from (f"{one.name}: {note}" for note in one.notes)
