"""The Report: what was compared, worst first; a table for the terminal, JSON for machines.

Holds findings and knows nothing of how they were reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from resnet_spec.printing.cards import Card, Shown
from resnet_spec.printing.coloured_table import StyledTable
from resnet_spec.printing.columns import Column

Verdict = Literal["equal", "rounding", "suspect", "undecided", "different"]
"""No error at all; an error that rounding makes; one above that, but less than ten times so; not
compared, or not comparable; one that is real."""

SEVERITY: dict[Verdict, int] = {
    "different": 0,
    "suspect": 1,
    "undecided": 2,
    "rounding": 3,
    "equal": 4,
}
_COLOURS: dict[Verdict, str] = {
    "different": "bold red",
    "suspect": "bold yellow",
    "undecided": "yellow",
    "rounding": "green",
    "equal": "bold green",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor, or other thing, of a level.

    max_abs: the largest absolute error.
    max_rel: that over the largest magnitude in the reference's tensor: the smallest tolerance,
        relative to the tensor, that would have passed.
    element_rel: the largest error of an element over that element.
    cosine: of the angle between both tensors.
    index: where `max_abs` is, in the canonical layout.
    floor: the `max_rel` that rounding alone makes (see parity.floors); 0 where nothing may differ.
    """

    name: str
    verdict: Verdict
    max_abs: float
    max_rel: float
    element_rel: float = 0.0
    cosine: float = 1.0
    index: tuple[int, ...] = ()
    floor: float = 0.0

    @property
    def floor_multiples(self) -> float:
        """The error in multiples of the floor; 0 for no error, infinite without a floor."""
        if self.max_rel == 0:
            return 0.0
        return self.max_rel / self.floor if self.floor else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain JSON types; None stands for an infinite number."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "max_abs": _finite(self.max_abs),
            "max_rel": _finite(self.max_rel),
            "element_rel": _finite(self.element_rel),
            "cosine": _finite(self.cosine),
            "index": list(self.index),
            "floor": self.floor,
            "floor_multiples": _finite(self.floor_multiples),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One backend at one level against the reference.

    items: everything that was compared, in order of execution; () where nothing could be.
    limit: the multiples of the floor that count as rounding.
    note: what a reader must know besides, in a few words.
    curves: of a trajectory: name -> one value per step.
    """

    backend: str
    level: str
    verdict: Verdict
    items: tuple[Item, ...] = ()
    limit: float = 0.0
    note: str = ""
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def worst(self) -> Item:
        """The item furthest above its floor; one without a name when nothing was compared."""
        nothing = Item("", "equal", 0.0, 0.0)
        return max(self.items, key=lambda i: (-SEVERITY[i.verdict], _rank(i)), default=nothing)

    @property
    def is_wrong(self) -> bool:
        """Whether the level shows more than rounding."""
        return self.verdict in ("different", "suspect")

    @property
    def is_off(self) -> bool:
        """Whether there is any error at all."""
        return self.verdict != "equal"

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """Return the findings as plain JSON types, with every item where `details`."""
        worst = self.worst
        numbers = worst.to_dict()
        del numbers["name"], numbers["verdict"]
        found: dict[str, Any] = {"verdict": self.verdict, "worst": worst.name, **numbers}
        found |= {"limit": self.limit, "note": self.note}
        if details:
            found["items"] = [item.to_dict() for item in self.items]
            found["curves"] = {name: list(values) for name, values in self.curves.items()}
        return found


def _rank(item: Item) -> float:
    return item.floor_multiples if math.isfinite(item.floor_multiples) else math.inf


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a backend first does something else than the reference, given the same inputs.

    mode: forward, backward, statistics or update.
    node: the name of the node, or of the tensor in an update.
    multiples: its error in multiples of the floor.
    cause: a name of the catalogue, "" when none explains it.
    detail: the cause with its numbers, or what is known without one.
    others: further nodes that are off by themselves, in the order searched.
    """

    backend: str
    mode: str
    node: str
    multiples: float
    cause: str = ""
    detail: str = ""
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        why = f": {self.detail}" if self.detail else ""
        return f"{self.backend}, {self.mode}: the first wrong node is {self.node}{why}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON types."""
        return {
            "backend": self.backend,
            "mode": self.mode,
            "node": self.node,
            "floor_multiples": _finite(self.multiples),
            "cause": self.cause,
            "detail": self.detail,
            "others": list(self.others),
        }


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """All rows of a comparison, and what they were computed with.

    setting: what was compared (network, input, batch, steps ...).
    environment: backend name -> framework, version, device, precision and math mode.
    findings: for levels that differ, where and why.
    """

    title: str
    rows: tuple[Row, ...]
    setting: Mapping[str, Any] = field(default_factory=dict[str, Any])
    environment: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Literal["agree", "suspect", "differ", "undecided"]:
        """`agree` when every row is `equal` or `rounding`, `differ` when one is `different`."""
        verdicts = {row.verdict for row in self.rows}
        if not verdicts:
            return "undecided"
        if "different" in verdicts:
            return "differ"
        if "suspect" in verdicts:
            return "suspect"
        return "undecided" if "undecided" in verdicts else "agree"

    @property
    def worst_first(self) -> list[Row]:
        """Rows by severity, then by how far they are above the floor."""
        return sorted(self.rows, key=lambda row: (SEVERITY[row.verdict], -_rank(row.worst)))

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """Return the report as plain JSON types: `verdict`, and per backend `levels`."""
        backends: dict[str, Any] = {
            name: {"environment": dict(info), "levels": {}}
            for name, info in self.environment.items()
        }
        for row in self.rows:
            entry = backends.setdefault(row.backend, {"environment": {}, "levels": {}})
            entry["levels"][row.level] = row.to_dict(details)
        return {
            "verdict": self.verdict,
            "title": self.title,
            "setting": dict(self.setting),
            "backends": backends,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def card(self) -> Card:
        """See `cards.Shown`: the rows worst first, and where it goes wrong."""
        rows = [
            (row.backend, row.level, row.verdict, row.worst.name * row.is_off, *_numbers(row))
            for row in self.worst_first
        ]
        heads = ("backend", "level", "verdict", "worst", "error", "floor", "x floor")
        return Card(f"{self.verdict}: {self.title}", rows, heads, [*map(str, self.findings)])

    def to_table(self) -> StyledTable:
        """Return a table for the terminal, worst first, that rich's console prints."""
        rows = self.worst_first
        return StyledTable(
            self.title,
            _COLUMNS,
            [(r.backend, r.level, r.verdict, r.worst.name * r.is_off, *_numbers(r)) for r in rows],
            {"verdict": [_COLOURS[row.verdict] for row in rows]},
            [f"{row.backend}, {row.level}: {row.note}" for row in rows if row.note],
            list(self.environment.items()),
        )


_COLUMNS = (
    Column("backend"),
    Column("level"),
    Column("verdict"),
    Column("worst", least=12),
    Column("error", right=True, drop=2),
    Column("floor", right=True, drop=1),
    Column("x floor", right=True),
)


def _numbers(row: Row) -> tuple[str, str, str]:
    """Return error (relative to the tensor's largest magnitude), floor, and their ratio."""
    item = row.worst
    if row.verdict == "undecided":
        return "", "", ""
    if row.verdict == "equal":
        return "0", f"{item.floor:.1e}" if item.floor else "exact", ""
    floor = f"{item.floor:.1e}" if item.floor else "exact"
    multiples = f"{item.floor_multiples:.3g}" if math.isfinite(item.floor_multiples) else ""
    return f"{item.max_rel:.1e}", floor, multiples


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
