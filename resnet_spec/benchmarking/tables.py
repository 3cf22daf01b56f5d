"""A benchmark's result in words: a table for a terminal or a pipe, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from resnet_spec.benchmarking import profile_tables
from resnet_spec.benchmarking.asked import FLOPS_CONVENTION, Asked
from resnet_spec.benchmarking.profile_tables import Profiles
from resnet_spec.benchmarking.results import Measured, Result, Spread
from resnet_spec.printing.columns import GAP, Column, fitted, pairs
from resnet_spec.printing.consoles import PAGE


class _Field(NamedTuple):
    """A column. drop: see `Column`."""

    head: str
    drop: int = 0
    right: bool = True


_BETWEEN = _Field("between starts", 9)
_SPEED = (_Field("contestant", right=False), _Field("images/s"), _Field("spread", 5))
_OTHERS = (
    _Field("ratio"),
    _Field("its spread", 4),
    _Field("base", 7, right=False),
    _Field("GFLOP/s", 2),
    _Field("share", 6),
    _Field("first step (s)", 3),
    _Field("start (s)", 1),
    _Field("memory (MB)", 8),
)
_WAITING = 0.02
"""Processors that a waiting contestant may take before it is told: two clicks in a hundred."""


def lines(result: Result, width: int | None) -> list[str]:
    """Return the table and what belongs to it in lines of `width`; None: as long as they are."""
    page = width or PAGE
    found = [*_wrapped(_heading(result), page), ""]
    if result.measured:
        columns = [_column(field) for field in _fields(result)]
        found += [*fitted(columns, _rows(result), width), ""]
    for note in notes(result):
        found += _wrapped(note, page)
    for label, values in _settings(result):
        found += pairs(label, values, page)
    if result.asked.profile:
        found += profile_tables.lines(profiles_of(result), width)
    return found


def profiles_of(result: Result) -> Profiles:
    """Return what was profiled, for its tables."""
    asked = result.asked
    told = asked.title, asked.plan, asked.mode == "train"
    return Profiles(*told, result.profiles, result.not_profiled)


def markdown(result: Result) -> str:
    """Return the same as Markdown, complete."""
    fields = _fields(result)
    heads = [field.head for field in fields]
    rule = ["---:" if field.right else "---" for field in fields]
    table = [heads, rule, *([_escaped(cell) for cell in row] for row in _rows(result))]
    rows = [f"| {' | '.join(row)} |" for row in table] if result.measured else []
    settings = [f"- {_escaped(f'{label}: {_joined(of)}')}" for label, of in _settings(result)]
    told = [f"- {_escaped(note)}" for note in notes(result)]
    return "\n".join([f"# {_heading(result)}", "", *rows, "", *told, *settings]) + "\n"


def notes(result: Result) -> list[str]:
    """Return what a reader of the table should know, a line each."""
    return list(_notes(result))


def _fields(result: Result) -> list[_Field]:
    """Return the columns; starts are compared where there are several."""
    return [*_SPEED, *[_BETWEEN] * (result.asked.starts > 1), *_OTHERS]


def _column(field: _Field) -> Column:
    is_whole = bool(field.drop) or field.right
    return Column(field.head, field.right, 0 if is_whole else 12, drop=field.drop)


def _joined(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {text}" for key, text in values.items())


def turns_of(result: Result) -> str:
    """Return how many turns everyone had, and how long they were, in words."""
    asked, steps = result.asked, result.steps
    starts = f"{asked.starts} starts of " if asked.starts > 1 else ""
    return f"{starts}{_counted(asked.rounds, 'round')} of {_counted(steps, 'step')}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def _heading(result: Result) -> str:
    return f"{result.asked.title}: {turns_of(result)}"


def _rows(result: Result) -> list[list[str]]:
    return [_row(result, one) for one in result.measured]


def _row(result: Result, one: Measured) -> list[str]:
    base, ratio, share = result.base(one), result.ratio(one), result.share(one)
    between = result.between_starts(one)
    apart = "" if between is None else f"{between.lowest - 1:+.1%} to {between.highest - 1:+.1%}"
    return [
        one.name,
        _short(result.speed(one).median),
        _between(result.speed(one)),
        *[apart] * (result.asked.starts > 1),
        "" if ratio is None else f"{ratio.median:.2f}",
        "" if ratio is None else f"{ratio.low:.2f} to {ratio.high:.2f}",
        "" if base is None else base.name,
        _short(result.gflops(one)),
        "" if share is None else f"{share:.0%}",
        f"{one.first_step_s:.1f}",
        f"{one.start_s:.1f}",
        _memory(one),
    ]


def _memory(one: Measured) -> str:
    held = [one.memory_mb, one.device_mb]
    return " + ".join(f"{value:.0f}" for value in held if value is not None)


def _notes(result: Result) -> Iterator[str]:
    kept = {one.entry: len(one.starts) for one in result.measured}
    for entry, line in result.failed.items():
        row = f"; its row is of {_counted(kept[entry], 'start')}" if entry in kept else ""
        yield f"failed: {entry.name}: {line}{row}"
    yield from result.left_out
    for one in result.measured:
        idle = result.disturbing(one)
        if idle > _WAITING:
            much = f"{idle:.2f} of a processor"
            yield f"{one.name} took {much} while others had their turn: their times are too long"
    yield from result.machine.doubts
    if not result.measured:
        return
    yield "spread: from the lower to the upper quartile of the rounds"
    yield from _starts(result.asked)
    if any(result.base(one) for one in result.measured):
        what = "the speed of the base by that of the row, round by round"
        yield f"ratio: {what}; above 1 the row is slower"
    yield f"GFLOP/s: {FLOPS_CONVENTION}"
    yield from _products(result)
    if any(one.device_mb is not None for one in result.measured):
        yield "memory: of the process, and of its device"


def _starts(asked: Asked) -> Iterator[str]:
    """Say what is of all starts, where there are several."""
    if asked.starts > 1:
        rounds = _counted(asked.rounds, "round")
        what = "the medians of the slowest and the fastest, as less or more than that of all rounds"
        yield f"{asked.starts} starts of {rounds} each, with new processes; between starts: {what}"
        yield "first step, start: the median over starts; memory: the most of one"


def _products(result: Result) -> Iterator[str]:
    """Say what each share is of."""
    told: list[str] = []
    for one in result.measured:
        found = result.reference(one)
        if found is not None and found.name not in told and found.product is not None:
            told.append(found.name)
            size = found.product_size
            what = f"{found.name}'s product of {size} x {size} matrices in the same rounds"
            yield f"share: of {found.product / 1e9:.3g} GFLOP/s, {what}"


def _settings(result: Result) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield labels with pairs: the machine's, and every contestant's."""
    machine = result.machine
    told: dict[str, object] = {"CPU": machine.cpu, "ISA": machine.isa or "unknown"}
    told |= {"processors": machine.processors, "threads": result.asked.threads}
    told |= {"system": machine.system, "Python": machine.python, **machine.settings}
    yield "machine", told
    for one in result.measured:
        if one.info:
            yield one.name, dict(one.info)


def _short(value: float) -> str:
    """Return three digits of a number, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _between(spread: Spread) -> str:
    return f"{_short(spread.low)} to {_short(spread.high)}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=GAP, break_on_hyphens=False) or [""]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
