"""The Report: what was compared, worst first; a table for the terminal, JSON for machines.

Holds findings and knows nothing of how they were reached. Imports nothing of the project.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

Verdict = Literal["equal", "rounding", "undecided", "different"]
"""No error at all; an error within the tolerance; one that may be either; one that is real."""

_SEVERITY = {"different": 0, "undecided": 1, "rounding": 2, "equal": 3}
_COLOURS = {
    "different": "bold red",
    "undecided": "yellow",
    "rounding": "green",
    "equal": "bold green",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One backend at one level against the reference.

    worst: the tensor, or other thing, that is furthest off; "" when nothing was compared.
    max_abs: its largest absolute error.
    max_rel: that error over the largest magnitude in the reference's tensor.
    tolerance: the largest `max_rel` that counts as rounding; 0 where equality is asked for.
    note: what a reader must know besides, in a few words.
    """

    backend: str
    level: str
    verdict: Verdict
    worst: str
    max_abs: float
    max_rel: float
    tolerance: float
    note: str = ""

    @property
    def excess(self) -> float:
        """The error in multiples of the tolerance; 0 for no error, infinite without tolerance."""
        if self.max_rel == 0:
            return 0.0
        return self.max_rel / self.tolerance if self.tolerance else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain JSON types; None stands for an infinite error."""
        return {
            "verdict": self.verdict,
            "worst": self.worst,
            "max_abs": _finite(self.max_abs),
            "max_rel": _finite(self.max_rel),
            "tolerance": self.tolerance,
            "note": self.note,
        }


@dataclass(frozen=True)
class Report:
    """All rows of a comparison, and what they were computed with.

    setting: what was compared (network, input, batch, steps ...).
    environment: backend name -> framework, version, device, precision and math mode.
    """

    title: str
    rows: tuple[Row, ...]
    setting: Mapping[str, Any] = field(default_factory=dict[str, Any])
    environment: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )

    @property
    def verdict(self) -> Literal["agree", "differ", "undecided"]:
        """`agree` when every row is `equal` or `rounding`, `differ` when one is `different`."""
        verdicts = {row.verdict for row in self.rows}
        if "different" in verdicts:
            return "differ"
        return "undecided" if "undecided" in verdicts else "agree"

    @property
    def worst_first(self) -> list[Row]:
        """Rows by severity, then by how much of the tolerance is used."""
        return sorted(self.rows, key=lambda row: (_SEVERITY[row.verdict], -row.excess))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types: `verdict`, and per backend `levels`."""
        backends: dict[str, Any] = {
            name: {"environment": dict(info), "levels": {}}
            for name, info in self.environment.items()
        }
        for row in self.rows:
            entry = backends.setdefault(row.backend, {"environment": {}, "levels": {}})
            entry["levels"][row.level] = row.to_dict()
        return {
            "verdict": self.verdict,
            "title": self.title,
            "setting": dict(self.setting),
            "backends": backends,
        }

    def to_table(self) -> Table:
        """Return a table for the terminal, worst first."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", caption_justify="left")
        for head in ("backend", "level", "verdict", "worst"):
            table.add_column(head, overflow="fold")
        for head in ("max abs", "max rel", "tolerance"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in self.worst_first:
            verdict = Text(row.verdict, _COLOURS[row.verdict])
            name = f"{row.worst} ({row.note})" if row.note else row.worst
            table.add_row(row.backend, row.level, verdict, Text(name), *_numbers(row))
        table.caption = "\n".join(_captions(self))
        return table


def _captions(report: Report) -> Iterator[str]:
    for name, info in report.environment.items():
        yield f"{name}: {', '.join(f'{key} {value}' for key, value in info.items())}"


def _numbers(row: Row) -> tuple[str, str, str]:
    tolerance = f"{row.tolerance:.1e}" if row.tolerance else "exact"
    return f"{row.max_abs:.1e}", f"{row.max_rel:.1e}", tolerance


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
