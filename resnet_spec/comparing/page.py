"""A comparison as one HTML file that loads nothing: tables, figures, runs and environments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from resnet_spec.comparing.comparison import Comparison
from resnet_spec.comparing.number_text import duration, number
from resnet_spec.comparing.results import Result
from resnet_spec.comparing.tables import Table, tables_of
from resnet_spec.data.held_out import OWN
from resnet_spec.printing.markup import Markup, element
from resnet_spec.reporting.html.document import document
from resnet_spec.reporting.html.tables import environments
from resnet_spec.reporting.plot_text import drawable


def page(comparison: Comparison, figures: Mapping[str, tuple[Any, str]]) -> Markup:
    """Return the whole document. figures: those of `drawing.figures_of`, or {}."""
    return document(comparison.title, _body(comparison, figures), figures=True)


def _body(comparison: Comparison, figures: Mapping[str, tuple[Any, str]]) -> Iterator[Markup]:
    count = sum(result.state == "complete" for result in comparison.results)
    runs = f"{count} of {len(comparison.results)} runs are complete."
    about = f"{comparison.about}. {runs}" if comparison.about else runs
    yield element(
        "header",
        element("h1", comparison.title),
        element("p", about),
        *(element("p", note) for note in comparison.notes),
        class_="banner undecided" if comparison.notes else "banner agree",
    )
    for table in tables_of(comparison):
        shown = [(name, *figures[name]) for name in table.figures if name in figures]
        yield _section(table, [_figure(*it) for it in shown])
    yield _runs(comparison)
    yield from _environments(comparison)


def _section(table: Table, figures: Sequence[Markup]) -> Markup:
    notes = element("p", " ".join(table.notes), class_="quiet")
    return element("section", element("h2", table.title), _table(table), notes, *figures)


def _figure(name: str, figure: Any, caption: str) -> Markup:
    drawn = element("figure", _svg(figure, name, caption), element("figcaption", caption))
    return element("div", drawn, class_="wide", id=f"figure-{name}")


def _table(table: Table) -> Markup:
    def cell(tag: str, place: int, text: str) -> Markup:
        return element(tag, text, class_="n" if place >= table.left else None)

    head = element("tr", *(cell("th", i, text) for i, text in enumerate(table.heads)))
    lines = [
        element("tr", *(cell("td", i, text) for i, text in enumerate(row))) for row in table.rows
    ]
    whole = element("table", element("thead", head), element("tbody", *lines), class_="facts")
    return element("div", whole, class_="wide")


def _runs(comparison: Comparison) -> Markup:
    """Return every run in a line, folded away."""
    heads = ("network", "backend", "seed", "state", "test accuracy", "best", "best of")
    heads = (*heads, "its test accuracy", "images/s", "wall")
    rows = tuple(_run_row(result) for result in comparison.results)
    table = _table(Table("Runs", (*heads, "folder"), rows, 2))
    return element("details", element("summary", f"All {len(rows)} runs"), table)


def _run_row(result: Result) -> tuple[str, ...]:
    summary = result.summary
    return (
        *result.group,
        str(result.seed),
        result.state,
        number(summary.final_accuracy if summary else None, 4),
        number(summary.best_accuracy if summary else None, 4),
        summary.best_of if summary else "-",
        number(summary.test_accuracy_of_best if summary else None, 4),
        number(result.images_per_second, 0),
        duration(summary.wall_s if summary else None),
        result.folder.name,
    )


def _environments(comparison: Comparison) -> Iterator[Markup]:
    """Return what the runs were made with: data, recipes, and where each backend ran."""
    recipes: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for result in comparison.results:
        recipes.setdefault(result.cell["network"], _recipe(result))
        if result.summary is not None:
            found.setdefault(result.summary.backend, result.summary.environment)
    rows = tuple(recipes.items())
    head = element("h2", "Setting")
    yield element("section", head, _table(Table("", ("network", "data and recipe"), rows, 2)))
    if found:
        yield element("section", element("h2", "Environment"), environments(found))


def _recipe(result: Result) -> str:
    recipe = result.cell["recipe"]
    length = f"{recipe['epochs']} epochs" if recipe["epochs"] else f"{recipe['steps']} steps"
    schedule = f"{recipe['schedule']['kind']} {recipe['schedule']['rate']:g}"
    parts = (recipe["name"], length, f"batch {recipe['batch']}", schedule, recipe["precision"])
    held = result.cell.get("validation")
    validation = "" if held is None else f" ({_held_out(held)} for validation)"
    return f"{result.cell['data']}{validation}: {', '.join(parts)}"


def _held_out(told: float | str) -> str:
    return "its own part" if told == OWN else f"{told:g} of the training images"


def _svg(figure: Any, name: str, caption: str) -> Markup:
    """Return the figure as an element of the page, with names that no other figure has.

    Labels stay text, which matplotlib has escaped.
    """
    import matplotlib as untyped

    matplotlib: Any = untyped
    buffer = StringIO()
    look = {"svg.fonttype": "none", "svg.hashsalt": "resnet-spec"}
    with matplotlib.rc_context(look), drawable(figure):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for unwanted in _UNWANTED:
        text = unwanted.sub("", text)
    for before in (' id="', 'xlink:href="#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    label = element("svg", role="img", class_="plot", aria_label=caption).partition(">")[0]
    return Markup(text.replace("<svg", label, 1))


# The style is in page.css, for the page's policy refuses others; metadata only tell of matplotlib.
_UNWANTED: Sequence[re.Pattern[str]] = (
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"<style[^>]*>.*?</style>", re.DOTALL),
)
