"""The page, from the verdict down to single items. Reads a Report; computes nothing about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.printing.markup import Markup, element, join, times
from resnet_spec.reporting.html.bars import error_chart
from resnet_spec.reporting.html.curves import curve_charts
from resnet_spec.reporting.html.document import document
from resnet_spec.reporting.html.tables import badge, environments, facts, items_table, matrix
from resnet_spec.reporting.html.words import MEANINGS, SIGNS, banner, counted, summary
from resnet_spec.reporting.report import Finding, Report, Row

_READING = (
    "An error is the largest difference in a tensor over the largest magnitude in the reference's "
    "tensor, the reference being the same network in float64.",
    "The floor is the error that rounding alone makes there: how far the reference itself lands "
    "from float64 when its sums are taken in another legitimate order.",
    "In a chart, the line on the bars is the floor and the shaded band above it is what counts as "
    "rounding: look at what rises above the band, among activations first of all at the leftmost.",
)

_FEW = 4
"""Up to so many items are told by their table alone, which is unfolded then."""


def page(report: Report) -> Markup:
    """Return the whole document."""
    title = f"{report.title}: {banner(report)[0].lower()}"
    return document(title, _body(report))


def _body(report: Report) -> Iterator[Markup]:
    levels = list(dict.fromkeys(row.level for row in report.rows))
    anchors = {level: f"level-{place}" for place, level in enumerate(levels, 1)}
    title, sentence = banner(report)
    yield element(
        "header",
        element("p", report.title, class_="title"),
        element("h1", title),
        element("p", sentence, f" Comparisons: {counted(report.rows)}." if report.rows else ""),
        class_=f"banner {report.verdict if report.rows else 'undecided'}",
    )
    yield _findings(report)
    if levels:
        yield element("section", element("h2", "Summary"), matrix(report, anchors), _legend())
    reading = element("p", " ".join(_READING))
    yield element("section", element("h2", "How to read it"), reading)
    rows = {level: [row for row in report.rows if row.level == level] for level in levels}
    alike = [level for level in levels if all(map(_is_told_by_its_verdict, rows[level]))]
    for level, anchor in anchors.items():
        if level not in alike:
            yield _level(level, anchor, rows[level])
    if alike:
        told = [_alike(level, anchors[level], rows[level]) for level in alike]
        head = element("h2", "Equal, bit by bit")
        yield element("section", head, element("ul", *told, class_="rows"))
    yield from _circumstances(report)


def _is_told_by_its_verdict(row: Row) -> bool:
    """Whether a row has nothing to show but that there is no difference."""
    return row.verdict == "equal" and not row.note and not row.curves


def _alike(level: str, anchor: str, rows: Sequence[Row]) -> Markup:
    """Return in a line who is equal to the reference at a level, and in how many items."""
    count = max(len(row.items) for row in rows)
    items = f" ({count} item{'s' * (count > 1)})" if count else ""
    names = ", ".join(row.backend for row in rows)
    return element("li", element("b", level), f"{items}: {names}", id=anchor)


def _findings(report: Report) -> Markup:
    if not any(row.is_wrong for row in report.rows) and not report.findings:
        return Markup("")
    head = element("h2", "Where and why")
    if not report.findings:
        return element("section", head, element("p", "No single node was found to be wrong."))
    return element("section", head, *(_finding(finding) for finding in report.findings))


def _finding(finding: Finding) -> Markup:
    place = element("p", finding.backend, ", ", finding.mode, ": ", element("b", finding.node))
    size = f"{times(finding.multiples)} times what rounding makes of the same inputs there"
    parts = [place, element("p", finding.detail or "No cause of the catalogue explains it.")]
    more = [f"cause: {finding.cause}", size] if finding.cause else [size]
    if finding.others:
        more.append(f"also off by themselves: {', '.join(finding.others)}")
    return element("article", *parts, element("p", "; ".join(more), class_="quiet"))


def _legend() -> Markup:
    words = [
        element("span", badge(verdict), " ", MEANINGS[verdict], class_="legend")
        for verdict in SIGNS
    ]
    return element("p", join(words, " "), class_="quiet")


def _level(level: str, anchor: str, rows: Sequence[Row]) -> Markup:
    parts = [element("h2", level), element("ul", *map(_told, rows), class_="rows")]
    is_short = max(len(row.items) for row in rows) <= _FEW
    chart = None if is_short else error_chart(rows)
    if chart is not None:
        caption = (
            "error by item, in order of execution; line: floor; band: rounding; point at a column "
            "for its numbers"
        )
        figure = element("figure", element("figcaption", caption), chart)
        parts.append(element("div", figure, class_="wide"))
    parts += [charts for row in rows if (charts := curve_charts(row)) is not None]
    table = items_table(rows, unfolded=is_short)
    if table is not None:
        parts.append(table)
    return element("section", *parts, id=anchor)


def _told(row: Row) -> Markup:
    """Return a row in one line."""
    limit = f"rounding up to {row.limit:g} × the floor" if row.limit else ""
    told = [text for text in (summary(row), limit, row.note) if text]
    return element("li", element("b", row.backend), " ", badge(row.verdict), " ", "; ".join(told))


def _circumstances(report: Report) -> Iterator[Markup]:
    if report.setting:
        yield element("section", element("h2", "Setting"), facts(report.setting))
    if report.environment:
        head = element("h2", "Environment")
        yield element("section", head, environments(report.environment))
