"""Tables: backends by levels, the worst items of a level, and what was run where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from resnet_spec.printing.markup import Markup, element, join, small, times
from resnet_spec.reporting.html.words import SIGNS, summary
from resnet_spec.reporting.report import SEVERITY, Item, Report, Row, Verdict

_MOST = 200
"""Rows of a table of items."""
_HEADS = (
    ("backend", "item", "verdict"),
    ("error", "floor", "× floor", "absolute", "by element", "1 − cosine", "at index"),
)


def matrix(report: Report, anchors: Mapping[str, str]) -> Markup:
    """Return backends by levels; every cell links to its level's section."""
    backends = list(dict.fromkeys(row.backend for row in report.rows))
    cells = {(row.backend, row.level): row for row in report.rows}
    head = element("tr", element("th", "backend"), *(element("th", level) for level in anchors))
    body: list[Markup] = []
    for backend in backends:
        line = [_cell(cells.get((backend, level)), anchors[level]) for level in anchors]
        body.append(element("tr", element("th", backend, scope="row"), *line))
    table = element("table", _head(head), element("tbody", *body), class_="matrix")
    return element("div", table, class_="wide")


def items_table(rows: Sequence[Row], unfolded: bool = False) -> Markup | None:
    """Return the worst items of one level, folded away unless asked not to; None without items."""
    ranked = sorted(
        ((row, item) for row in rows for item in row.items),
        key=lambda pair: (SEVERITY[pair[1].verdict], -_rank(pair[1])),
    )
    if not ranked:
        return None
    shown = ranked[:_MOST]
    words, numbers = _HEADS
    head = [element("th", name) for name in words]
    head += [element("th", name, class_="n") for name in numbers]
    table = element(
        "table",
        _head(element("tr", *head)),
        element("tbody", *(_line(row, item) for row, item in shown)),
        class_="items",
    )
    count = f"{len(shown)} item{'s' * (len(shown) > 1)}, worst first"
    if len(ranked) > len(shown):
        rest = len(ranked) - len(shown)
        count = f"the worst {len(shown)} of {len(ranked)} items ({rest} more are not shown)"
    whole = element("div", table, class_="wide")
    return element("details", element("summary", count), whole, open=unfolded)


def facts(setting: Mapping[str, Any]) -> Markup:
    """Return names and values, one a line; nested values as JSON."""
    lines = [
        element("tr", element("th", name, scope="row"), element("td", _plain(value)))
        for name, value in setting.items()
    ]
    table = element("table", element("tbody", *lines), class_="facts")
    return element("div", table, class_="wide")


def environments(environment: Mapping[str, Mapping[str, str]]) -> Markup:
    """Return what every backend ran on, one a column."""
    keys = list(dict.fromkeys(key for info in environment.values() for key in info))
    head = element("tr", element("th", ""), *(element("th", name) for name in environment))
    lines = [
        element(
            "tr",
            element("th", key, scope="row"),
            *(element("td", str(info.get(key, "–"))) for info in environment.values()),
        )
        for key in keys
    ]
    table = element("table", _head(head), element("tbody", *lines), class_="facts")
    return element("div", table, class_="wide")


def badge(verdict: Verdict, more: str = "") -> Markup:
    """Return a verdict as a coloured word with its sign."""
    return element("span", f"{SIGNS[verdict]} {verdict}{more}", class_=f"badge {verdict}")


def _head(line: Markup) -> Markup:
    return element("thead", line)


def _cell(row: Row | None, anchor: str) -> Markup:
    if row is None:
        return element("td", "–", title="not compared")
    multiples = row.worst.floor_multiples
    shows = row.verdict not in ("equal", "undecided") and math.isfinite(multiples)
    times_floor = element("small", f"{times(multiples)} × floor" if shows else "\xa0")
    told = "; ".join(text for text in (summary(row), row.note) if text)
    link = element("a", f"{SIGNS[row.verdict]} {row.verdict}", href=f"#{anchor}")
    return element("td", link, times_floor, class_=row.verdict, title=told or None)


def _line(row: Row, item: Item) -> Markup:
    cosine = max(0.0, 1 - item.cosine) if math.isfinite(item.cosine) else math.inf
    numbers = (
        small(item.max_rel),
        small(item.floor) if item.floor else "exact",
        times(item.floor_multiples),
        small(item.max_abs),
        small(item.element_rel),
        small(cosine),
        ", ".join(map(str, item.index)),
    )
    return element(
        "tr",
        element("td", row.backend),
        element("td", item.name),
        element("td", f"{SIGNS[item.verdict]} {item.verdict}", class_=f"v {item.verdict}"),
        *_numbers(numbers),
    )


def _numbers(texts: Iterable[str]) -> Iterable[Markup]:
    return (element("td", text, class_="n") for text in texts)


def _rank(item: Item) -> float:
    multiples = item.floor_multiples
    return math.inf if math.isnan(multiples) else multiples


def _plain(value: Any) -> Markup:
    if isinstance(value, Mapping | list | tuple):
        return join([json.dumps(value, default=str, ensure_ascii=False)])
    return join([str(value)])
