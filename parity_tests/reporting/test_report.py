"""Item, Row, Finding and Report: what they conclude, and how they are written."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from rich.console import Console

from resnet_spec.reporting import plot_text
from resnet_spec.reporting.html.words import summary
from resnet_spec.reporting.report import SEVERITY, Finding, Item, Report, Row, Verdict

NUMBERS = {
    "max_abs",
    "max_rel",
    "element_rel",
    "cosine",
    "index",
    "floor",
    "floor_multiples",
}


def item(name: str, verdict: Verdict, max_rel: float, floor: float = 1e-7) -> Item:
    return Item(name, verdict, 2 * max_rel, max_rel, 3 * max_rel, 0.5, (1, 2), floor)


def row(verdict: Verdict, *items: Item, level: str = "logits", note: str = "") -> Row:
    return Row("torch", level, verdict, items, 8.0, note)


def printed(report: Report, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report.to_table())
    return stream.getvalue()


def json_of(value: dict[str, Any]) -> Any:
    """Return what a strict reader of JSON gets."""
    return json.loads(json.dumps(value, allow_nan=False))


# --- Item -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_rel", "floor", "multiples"),
    [(3e-7, 1e-7, 3.0), (0.0, 1e-7, 0.0), (0.0, 0.0, 0.0), (1e-9, 0.0, math.inf)],
)
def test_multiples_of_the_floor(max_rel: float, floor: float, multiples: float) -> None:
    assert item("a", "rounding", max_rel, floor).floor_multiples == pytest.approx(multiples)


def test_an_item_in_json() -> None:
    found = json_of(item("conv1", "rounding", 4e-7, 2e-7).to_dict())
    assert found.keys() == {"name", "verdict", *NUMBERS}
    assert found == {
        "name": "conv1",
        "verdict": "rounding",
        "max_abs": 8e-7,
        "max_rel": 4e-7,
        "element_rel": pytest.approx(1.2e-6),
        "cosine": 0.5,
        "index": [1, 2],
        "floor": 2e-7,
        "floor_multiples": 2.0,
    }


def test_infinite_numbers_are_none_in_json() -> None:
    lost = Item("a", "different", math.inf, math.inf, math.inf, math.nan)
    found = json_of(lost.to_dict())
    assert [found[name] for name in ("max_abs", "max_rel", "element_rel", "cosine")] == [None] * 4
    assert found["floor_multiples"] is None


# --- Row ------------------------------------------------------------------------------------------


def test_the_worst_item_is_the_one_furthest_above_its_own_floor() -> None:
    large = item("large", "rounding", 4e-5, 1e-5)
    far = item("far", "rounding", 7e-7, 1e-7)
    assert row("rounding", large, far).worst is far


def test_an_infinite_error_is_the_worst() -> None:
    lost = Item("lost", "different", math.inf, math.inf, floor=1e-7)
    assert row("different", item("far", "different", 1e3), lost).worst is lost


def test_the_verdict_goes_before_the_multiples() -> None:
    # A run's own drift may excuse an item; one that is not excused matters more.
    excused, bad = item("excused", "rounding", 1e-3), item("bad", "different", 1e-4)
    assert row("different", excused, bad).worst is bad


def test_nothing_compared_has_a_nameless_worst() -> None:
    worst = row("equal").worst
    assert (worst.name, worst.verdict, worst.max_rel) == ("", "equal", 0.0)


def test_only_errors_beyond_rounding_are_wrong() -> None:
    assert {v for v in SEVERITY if row(v).is_wrong} == {"different", "suspect"}


def test_a_row_in_json() -> None:
    curves = {"loss": (2.0, 1.0)}
    items = (item("a", "rounding", 1e-7), item("b", "rounding", 3e-7))
    found = Row("flax", "trajectory", "rounding", items, 8.0, "a note", curves)
    short = json_of(found.to_dict(details=False))
    assert short.keys() == {"verdict", "worst", "limit", "note", *NUMBERS}
    assert (short["verdict"], short["worst"], short["limit"]) == ("rounding", "b", 8.0)
    assert short["max_rel"] == 3e-7 and short["note"] == "a note"
    full = json_of(found.to_dict())
    assert full.keys() - short.keys() == {"items", "curves"}
    assert [entry["name"] for entry in full["items"]] == ["a", "b"]
    assert full["curves"] == {"loss": [2.0, 1.0]}


# --- Finding --------------------------------------------------------------------------------------


def test_a_finding_in_words() -> None:
    plain = Finding("torch", "forward", "layer1.0.conv1", 1e4)
    assert str(plain) == "torch, forward: the first wrong node is layer1.0.conv1"
    explained = Finding("torch", "forward", "conv1", 1e4, "eps", "computed with eps 1e-3")
    assert str(explained).endswith("node is conv1: computed with eps 1e-3")


def test_a_finding_in_json() -> None:
    found = Finding("torch", "update", "fc.bias", math.inf, "decay", "decayed", ("fc.weight",))
    assert json_of(found.to_dict()) == {
        "backend": "torch",
        "mode": "update",
        "node": "fc.bias",
        "floor_multiples": None,
        "cause": "decay",
        "detail": "decayed",
        "others": ["fc.weight"],
    }


# --- Report ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("equal",), "agree"),
        (("equal", "rounding"), "agree"),
        (("rounding", "undecided"), "undecided"),
        (("undecided", "suspect", "equal"), "suspect"),
        (("suspect", "undecided", "different", "equal"), "differ"),
    ],
)
def test_the_worst_verdict_is_the_report_s(verdicts: tuple[Verdict, ...], expected: str) -> None:
    for order in (verdicts, verdicts[::-1]):
        assert Report("title", tuple(row(verdict) for verdict in order)).verdict == expected


def test_rows_are_ordered_by_severity_then_by_multiples() -> None:
    lost = Item("lost", "different", math.inf, math.inf, floor=1e-7)
    wanted = [
        row("different", lost, level="infinite"),
        row("different", item("a", "different", 1e-3), level="far"),
        row("different", item("a", "different", 1e-4), level="less far"),
        row("suspect", item("a", "suspect", 1e-6), level="suspect"),
        row("undecided", level="undecided"),
        row("rounding", item("a", "rounding", 2e-7), level="more rounding"),
        row("rounding", item("a", "rounding", 1e-7), level="less rounding"),
        row("equal", level="equal"),
        row("equal", level="equal, later"),
    ]
    mixed = (*wanted[4:7], *wanted[1:4][::-1], *wanted[7:], wanted[0])
    assert [r.level for r in Report("title", mixed).worst_first] == [r.level for r in wanted]


def test_a_report_in_json() -> None:
    finding = Finding("torch", "forward", "conv1", 9.0)
    rows = (row("equal", level="names"), Row("flax", "names", "different"))
    environment = {"torch": {"version": "2"}, "mindspore": {"version": "3"}}
    report = Report("title", rows, {"batch": 8}, environment, (finding,))
    found = json_of(report.to_dict())
    assert found.keys() == {"verdict", "title", "setting", "backends", "findings"}
    assert (found["verdict"], found["title"], found["setting"]) == ("differ", "title", {"batch": 8})
    assert list(found["backends"]) == ["torch", "mindspore", "flax"]
    assert found["backends"]["torch"]["environment"] == {"version": "2"}
    assert found["backends"]["torch"]["levels"]["names"]["verdict"] == "equal"
    assert found["backends"]["flax"]["levels"]["names"]["verdict"] == "different"
    assert found["backends"]["mindspore"]["levels"] == {}
    assert found["findings"] == [finding.to_dict()]
    assert "items" in found["backends"]["torch"]["levels"]["names"]
    short = report.to_dict(details=False)
    assert "items" not in short["backends"]["torch"]["levels"]["names"]


def test_the_table_has_a_line_for_every_row_worst_first() -> None:
    lost = Item("lost", "different", math.inf, math.inf, floor=1e-7)
    rows = (
        row("equal", item("conv1", "equal", 0.0), level="init"),
        row("undecided", level="accuracy", note="no data"),
        row("rounding", item("fc", "rounding", 2.5e-7), level="logits"),
        row("suspect", item("bn1", "suspect", 1e-6, 0.0), level="statistics"),
        row("different", lost, level="gradients"),
    )
    report = Report("the title", rows, environment={"torch": {"version": "2.0", "device": "cpu"}})
    text = printed(report)
    lines = [line.split() for line in text.splitlines() if line.split()[:1] == ["torch"]]
    assert text.splitlines()[0].strip() == "the title"
    assert lines == [
        ["torch", "gradients", "different", "lost", "inf", "1.0e-07"],
        ["torch", "statistics", "suspect", "bn1", "1.0e-06", "exact"],
        ["torch", "accuracy", "undecided"],
        ["torch", "logits", "rounding", "fc", "2.5e-07", "1.0e-07", "2.5"],
        ["torch", "init", "equal", "0", "1.0e-07"],
    ]
    assert "torch, accuracy: no data" in text
    assert "torch: version 2.0, device cpu" in text


def test_the_table_shows_names_with_brackets_as_they_are() -> None:
    odd = row("different", item("[bold]x[/bold]", "different", 1.0), note="[red]")
    shown = printed(Report("title", (odd,)))
    assert "[bold]x[/bold]" in shown and "torch, logits: [red]" in shown


WORST = "momentum/layer3.1.downsample.0.weight"


@pytest.mark.parametrize(
    ("width", "found", "lost"),
    [
        (160, [WORST, "1.0e-03", "1.0e-07", "1e+04"], ""),
        (80, ["momentum/l…e.0.weight", "1.0e-03", "1.0e-07", "1e+04"], ""),
        (60, ["momentum/….0.weight", "1e+04"], "error, floor"),
        (50, ["mome…ight", "1e+04"], "error, floor"),
    ],
)
def test_a_table_keeps_whole_numbers_and_a_line_a_row(
    width: int, found: list[str], lost: str
) -> None:
    """A name is shortened in its middle; columns go in the order that is documented, and said."""
    environment = {"torch": {f"key{i}": f"some value {i}" for i in range(9)}}
    rows = (row("different", item(WORST, "different", 1e-3)), row("equal", level="trajectory"))
    lines = printed(Report("a long title " * 9, rows, {}, environment), width).splitlines()
    assert max(map(len, lines)) <= width
    top = next(i for i, line in enumerate(lines) if line.startswith("backend"))
    assert lines[top + 2].split() == ["torch", "logits", "different", *found]
    assert lines[top + 3].split()[:3] == ["torch", "trajectory", "equal"]
    told = [line for line in lines if line.startswith("no room here for: ")]
    assert told == ([f"no room here for: {lost}"] if lost else [])
    assert all(sum(f"some value {i}" in line for line in lines) == 1 for i in range(9))


def test_an_empty_table_prints() -> None:
    assert "backend" in printed(Report("title", ()))


def test_a_row_s_worst_item_is_in_words_where_it_is_off() -> None:
    assert summary(row("equal", item("fc", "equal", 0.0))) == ""
    assert summary(row("equal")) == ""
    assert summary(row("rounding", item("fc", "rounding", 2e-7))) == "worst: fc, 2 × its floor"
    exact = item("fc", "different", 1e-3, floor=0.0)
    assert summary(row("different", exact)) == "worst: fc, where nothing may differ"


def test_plots_are_written_in_fonts_that_are_there() -> None:
    manager: Any = pytest.importorskip("matplotlib.font_manager")
    there = {font.name for font in manager.fontManager.ttflist}
    assert set(plot_text._installed()) == set(plot_text._FALLBACKS) & there
