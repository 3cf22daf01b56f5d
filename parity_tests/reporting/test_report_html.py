"""The HTML report: well formed, self-contained, escaped, the same every time, and small."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browsing import looked_at

from resnet_spec.printing.markup import element
from resnet_spec.reporting.html.axes import Axis, linear_axis, log_axis
from resnet_spec.reporting.html.bars import error_chart
from resnet_spec.reporting.html.curves import curve_charts, extremes, loss_error
from resnet_spec.reporting.report import SEVERITY, Finding, Item, Report, Row, Verdict
from resnet_spec.reporting.report_html import to_html, write_html

EVIL = "<script>alert('&\"')</script>"
BACKENDS = ("torch", "flax", "mindspore")
LIMIT = 8.0


def an_item(name: str, multiples: float, floor: float = 1e-7) -> Item:
    """Return an item that is `multiples` of its floor off, with the verdict that this means."""
    verdict: Verdict = "different"
    bounds: dict[Verdict, float] = {"suspect": 10 * LIMIT, "rounding": LIMIT, "equal": 0.0}
    for better, bound in bounds.items():
        if multiples <= bound:
            verdict = better
    error = multiples * floor
    return Item(name, verdict, 3 * error, error, 9 * error, 1 - error**2, (0, 2, 1), floor)


def many(count: int, factor: float = 1.0) -> tuple[Item, ...]:
    """Return items of four stages with floors that grow, errors around half their limit."""
    return tuple(
        an_item(
            f"layer{1 + 4 * n // count}.{n}.conv{1 + n % 3} (train)",
            factor * (2 + math.sin(n) + math.sin(0.13 * n)),
            1e-8 * 1.004**n,
        )
        for n in range(count)
    )


def full_report(count: int = 40) -> Report:
    """Return a report with every verdict, infinite errors, empty rows and names that bite."""
    lost = Item("fc.weight", "different", math.inf, math.inf, math.inf, math.nan, (), 1e-7)
    exact = Item("conv1.weight", "different", 1e-3, 1e-2)
    odd = (an_item(EVIL, 3), an_item("fine", 0), an_item("high", 40), an_item("bad", 4e4), lost)
    steps = range(30)
    losses = tuple(2.3 * math.exp(-0.03 * step) for step in steps)
    curves = {
        "loss": tuple(x * (1 + 1e-7 * 1.2**step) for step, x in enumerate(losses)),
        "reference loss": losses,
        "weights": tuple(1e-7 * 1.2**step for step in steps),
        EVIL: (0.0, 1e-6, math.nan, 1e-5, math.inf, 1e-5),
    }
    ends = (an_item("loss", 5), an_item("weights", 2))
    rows = (
        Row("torch", "names", "equal"),
        Row("flax", "names", "different", (exact,)),
        *(Row(name, "activations", "rounding", many(count), LIMIT) for name in BACKENDS[:2]),
        Row("mindspore", "activations", "different", (*many(count, 1.4), *odd), LIMIT),
        Row("torch", "statistics", "suspect", odd[:3], LIMIT, note=f"a note {EVIL}"),
        Row("flax", "statistics", "undecided", note="out of memory"),
        Row("torch", "trajectory", "rounding", ends, LIMIT, curves=curves),
        Row("mindspore", "trajectory", "rounding", ends, LIMIT, curves=curves),
    )
    setting = {"network": EVIL, "batch": 8, "input": (64, 64), "recipe": {"momentum": 0.9}}
    environment = {
        name: {"framework": name, "version": "1.0", "device": "cpu"} for name in BACKENDS
    }
    findings = (
        Finding("mindspore", "forward", EVIL, 4e4, "padding", "padded (0, 1), not (1, 0)", ("fc",)),
        Finding("flax", "update", "fc.weight", math.inf),
    )
    return Report(f"parity of {EVIL}", rows, setting, environment, findings)


class Page(HTMLParser):
    """Reads a page; notes elements that do not balance, and keeps the others."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag: str, class_: str = "") -> int:
        classes = [(a.get("class") or "").split() for t, a in self.found if t == tag]
        return sum(not class_ or class_ in each for each in classes)


def table_cells(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table of items in the section called `heading`, line by line."""
    section = page[page.index(f"<h2>{heading}</h2>") :]
    body = section[section.index('class="items"') : section.index("</tbody>")]
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in body.split("<tr>")[2:]]


# --- The page -------------------------------------------------------------------------------------


def test_elements_balance() -> None:
    for report in (full_report(), Report("nothing", ())):
        page = Page(to_html(report))
        assert page.wrong == []
        assert page.found[0][0] == "html"


def test_a_tag_left_open_is_seen() -> None:
    assert Page("<p><b>x</p>").wrong
    assert Page("<p>").wrong == ["p"]


def test_nothing_is_loaded_or_referred_to() -> None:
    text = to_html(full_report())
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import|@font-face", text)
    for tag, attributes in Page(text).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "use", "image")
        assert not attributes.keys() & {"src", "srcset", "action", "style", "onclick", "onload"}
        assert (attributes.get("href") or "#").startswith("#")


def test_links_lead_to_sections() -> None:
    found = Page(to_html(full_report())).found
    places = [a["id"] for _, a in found if "id" in a]
    links = {a["href"] for tag, a in found if tag == "a"}
    assert links == {f"#{place}" for place in places}
    assert len(places) == len(set(places)) == 4


def test_names_and_notes_are_escaped() -> None:
    page = Page(to_html(full_report()))
    assert page.count("script") == 1
    assert "alert" not in "".join(page.texts["script"])
    shown = "".join("".join(texts) for tag, texts in page.texts.items() if tag != "script")
    # The title twice, the finding, the note, the setting, items, tooltips and curves.
    assert shown.count(EVIL) >= 8


@pytest.mark.parametrize("name", ["\x00\x1b[31m", "a\ud800b", "\u202egnp.exe", "]]><!--", "\uffff"])
def test_a_name_that_cannot_be_printed_is_written_all_the_same(name: str, tmp_path: Path) -> None:
    report = Report(name, (Row(name, name, "different", (an_item(name, 1e4),), LIMIT, name),))
    write_html(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).wrong == []
    assert not re.search("[\x00-\x08\x0e-\x1f\u202e\uffff]", text)


def test_the_policy_allows_the_page_s_own_script_and_style_only() -> None:
    page = Page(to_html(full_report()))
    (policy,) = (a["content"] for _, a in page.found if "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256("".join(page.texts[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_html(full_report(), path)
    first = path.read_bytes()
    write_html(full_report(), path)
    assert path.read_bytes() == first == to_html(full_report()).encode()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_html(full_report(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_thousand_items_of_three_backends_stay_small() -> None:
    rows = [Row(name, "activations", "rounding", many(1000), LIMIT) for name in BACKENDS]
    text = to_html(Report("large", tuple(rows)))
    assert len(text.encode()) < 500_000
    levels = ("activations", "gradients", "statistics", "update")
    every = [replace(row, level=level) for level in levels for row in rows]
    assert len(to_html(Report("larger", tuple(every))).encode()) < 1_500_000


def test_every_verdict_has_its_banner() -> None:
    titles: dict[str, str] = {}
    for verdict in SEVERITY:
        text = to_html(Report("title", (Row("torch", "logits", verdict),)))
        (titles[verdict],) = Page(text).texts["h1"]
    assert titles["equal"] == titles["rounding"] == "They agree"
    assert titles["different"] == "They differ"
    assert len(set(titles.values())) == 4


def test_a_report_without_rows_does_not_say_that_they_agree() -> None:
    text = to_html(Report("nothing", ()))
    assert Page(text).texts["h1"] == ["Nothing was compared"]
    assert '"banner undecided"' in text and "agree" not in text.partition("<body>")[2]


def test_what_was_found_is_said_in_words() -> None:
    page = to_html(full_report())
    told = "".join(Page(page).texts["li"])
    assert "worst: fc.weight, infinitely far off" in told
    assert "worst: conv1.weight, where nothing may differ" in told
    assert "Comparisons: 2 different, 1 suspect, 1 undecided, 4 rounding, 1 equal." in page
    assert "worst: high, 40 × its floor; rounding up to 8 × the floor; a note" in told


def test_findings_stand_before_everything_else() -> None:
    heads = Page(to_html(full_report())).texts["h2"]
    levels = ["names", "activations", "statistics", "trajectory"]
    assert heads[:2] == ["Where and why", "Summary"]
    assert heads[3:] == [*levels, "Setting", "Environment"]


def test_what_differs_without_a_finding_is_said_to_have_none() -> None:
    report = Report("title", (Row("torch", "logits", "different"),))
    assert "No single node was found" in to_html(report)
    assert "Where and why" not in to_html(Report("title", (Row("torch", "logits", "equal"),)))


def test_the_matrix_has_a_cell_for_every_backend_and_level() -> None:
    text = to_html(full_report())
    matrix = text[text.index('class="matrix"') :].partition("</table>")[0]
    assert matrix.count("<td") == len(BACKENDS) * 4
    assert matrix.count('title="not compared"') == 3
    assert "4e+04 × floor" not in matrix  # The infinite error is the worst one, without a number.
    assert "40 × floor" in matrix


def test_levels_without_a_difference_share_a_section() -> None:
    rows = (
        *(Row(name, "names", "equal") for name in BACKENDS),
        Row("torch", "init", "equal", (an_item("a", 0), an_item("b", 0))),
        Row("torch", "logits", "rounding", (an_item("a", 1),), LIMIT),
        Row("flax", "counts", "equal", note="a note"),
    )
    page = to_html(Report("title", rows))
    heads = Page(page).texts["h2"]
    assert heads == ["Summary", "How to read it", "logits", "counts", "Equal, bit by bit"]
    assert '<li id="level-1"><b>names</b>: torch, flax, mindspore</li>' in page
    assert '<li id="level-2"><b>init</b> (2 items): torch</li>' in page
    assert page.count('href="#level-1"') == 3


@pytest.mark.parametrize("width", [360, 600])
def test_a_narrow_window_keeps_the_page_and_its_words_whole(width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_html(full_report(), page)
    assert looked_at(page, width, tmp_path) == (width, 0)


# --- Tables ---------------------------------------------------------------------------------------


def test_a_table_has_the_worst_first() -> None:
    lines = table_cells(to_html(full_report()), "activations")
    assert [line[1] for line in lines[:3]] == ["fc.weight", "bad", "high"]
    assert lines[0][3:6] == ["∞", "1.0e-07", "∞"]
    assert lines[1][0] == "mindspore" and lines[1][5] == "4e+04" and lines[1][9] == "0, 2, 1"


def test_a_table_holds_200_items_and_says_how_many_more() -> None:
    rows = tuple(Row(name, "update", "rounding", many(100), LIMIT) for name in BACKENDS)
    text = to_html(Report("title", rows))
    assert len(table_cells(text, "update")) == 200
    assert "the worst 200 of 300 items (100 more are not shown)" in text
    short = to_html(Report("title", rows[:2]))
    assert "200 items, worst first" in short and "not shown" not in short


def test_a_few_items_are_told_by_an_unfolded_table_alone() -> None:
    items = tuple(an_item(f"i{n}", 1 + n) for n in range(5))
    for count, charts in ((4, 0), (5, 1)):
        rows = (Row("torch", "logits", "rounding", items[:count], LIMIT),)
        page = Page(to_html(Report("title", rows)))
        assert page.count("svg") == charts
        assert sum("open" in a for _, a in page.found) == 1 - charts


# --- Charts ---------------------------------------------------------------------------------------


def bars(chart: str, verdict: str) -> list[tuple[float, ...]]:
    """Return x, foot and head of every bar of a verdict."""
    paths = re.findall(rf'class="bar {verdict}" d="([^"]*)"', chart)
    return [
        tuple(map(float, re.findall(r"[\d.]+", bar))) for d in paths for bar in d.split("M")[1:]
    ]


def chart_of(rows: Sequence[Row]) -> str:
    chart = error_chart(rows)
    assert chart is not None
    return chart


def test_bars_rise_by_powers_of_ten() -> None:
    errors = [an_item(f"i{n}", multiples) for n, multiples in enumerate((0.01, 0.1, 1.0))]
    drawn = bars(chart_of([Row("torch", "logits", "rounding", tuple(errors), LIMIT)]), "rounding")
    tops = [top for _, _, top in drawn]
    assert len(drawn) == 3
    assert tops[0] - tops[1] == pytest.approx(tops[1] - tops[2], abs=0.2) and tops[2] < tops[1]
    assert drawn[0][0] < drawn[1][0] < drawn[2][0]
    assert drawn[0][1] - drawn[0][2] > 5  # The least error is a power of ten, and is seen.


def test_an_infinite_error_rises_above_the_axis_and_zero_does_not_rise() -> None:
    off = Item("off", "different", math.inf, math.inf)
    items = (an_item("fine", 0), an_item("large", 1e6), off)
    chart = chart_of([Row("torch", "logits", "different", items, LIMIT)])
    large, infinite = bars(chart, "different")
    ((_, foot, top),) = bars(chart, "equal")
    assert infinite[2] < large[2] and "∞" in chart
    assert foot - top == 1.5


def test_items_of_all_backends_share_their_columns() -> None:
    some = (an_item("b", 1), an_item("c", 2))
    rows = [
        Row("torch", "logits", "rounding", some[1:], LIMIT),
        Row("flax", "logits", "rounding", (an_item("a", 1), *some), LIMIT),
    ]
    lone, *others = bars(chart_of(rows), "rounding")
    assert lone[0] == others[2][0]
    titles = Page(chart_of(rows)).texts["title"]
    assert [title.splitlines()[0] for title in titles] == ["a", "b", "c"]
    assert titles[0].splitlines()[1:] == ["flax: 1.0e-07 = 1 × 1.0e-07 rounding"]
    assert [line.partition(":")[0] for line in titles[2].splitlines()[1:]] == ["torch", "flax"]


def test_the_band_reaches_from_the_floor_to_the_limit() -> None:
    row = Row("torch", "logits", "rounding", (an_item("a", 1), an_item("b", 1)), 10.0)
    chart = chart_of([row])
    (floor,) = re.findall(r'class="floor" d="M[\d.]+ ([\d.]+)H[\d.]+"', chart)
    (band,) = re.findall(r'class="band" d="([^"]*)"', chart)
    ((_, _, top), _) = bars(chart, "rounding")
    lower, upper = re.findall(r"[ML][\d.]+ ([\d.]+)", band)
    assert float(floor) == float(lower) == top
    (tick,) = re.findall(r'y="([\d.]+)">1e-06<', chart)
    assert float(upper) == pytest.approx(float(tick) - 3.5, abs=0.11)


def test_many_items_are_labelled_by_stage_and_mode() -> None:
    modes = [f"layer{n}.{i}.conv1 ({m})" for m in ("eval", "train") for n in (1, 2) for i in "abc"]
    slots = [f"momentum/layer1.{n}.weight" for n in range(40)]
    items = tuple(an_item(name, 1) for name in (*modes, *slots))
    texts = Page(chart_of([Row("torch", "update", "rounding", items, LIMIT)])).texts["text"]
    labels = [text for text in texts if text[0].isalpha()]
    stages = ["layer1", "layer2", "layer1", "layer2", "layer1"]
    assert labels == ["torch", *stages, "eval", "train", "momentum"]


def test_items_without_a_floor_interrupt_the_band() -> None:
    items = (an_item("a", 1), Item("b", "different", 1.0, 1.0), an_item("c", 1))
    chart = chart_of([Row("torch", "logits", "different", items, LIMIT)])
    (band,) = re.findall(r'class="band" d="([^"]*)"', chart)
    assert band.count("M") == band.count("Z") == 2


def test_a_level_without_any_error_has_no_chart() -> None:
    assert error_chart([Row("torch", "init", "equal", (an_item("a", 0),))]) is None
    assert error_chart([Row("torch", "init", "undecided")]) is None


def test_losses_have_an_axis_of_their_own() -> None:
    curves = {"loss": (2.0, 1.0), "reference loss": (2.0, 0.5), "weights": (1e-7, 1e-6)}
    charts = curve_charts(Row("torch", "trajectory", "rounding", curves=curves))
    assert charts is not None
    page = Page(charts)
    assert page.count("figure") == 2
    assert page.texts["span"] == [" loss", " reference loss", " error of the loss", " weights"]
    assert curve_charts(Row("torch", "trajectory", "equal")) is None


def test_the_error_of_the_loss_is_relative_to_the_largest_loss() -> None:
    losses = {"loss": (4.0, 1.5), "reference loss": (4.0, 1.0)}
    assert loss_error(losses) == {"error of the loss": (0.0, 0.125)}
    assert loss_error({"loss": (4.0,)}) == {}
    assert loss_error({"loss": (4.0,), "reference loss": (4.0, 1.0)}) == {}


def test_a_curve_breaks_where_it_has_no_place() -> None:
    curves = {"weights": (1e-6, 1e-5, 0.0, 1e-5, math.inf, math.nan, 1e-5, 1e-5)}
    charts = curve_charts(Row("torch", "trajectory", "rounding", curves=curves))
    (path,) = re.findall(
        r'class="curve c0" d="(M[^"]*)"', str(charts).partition("</figcaption>")[2]
    )
    assert path.count("M") == 3 and path.count("L") == 2


def test_a_long_curve_keeps_its_extremes() -> None:
    values = [1.0] * 10_000
    values[1234], values[8765], values[5000] = 7.0, -3.0, math.nan
    kept = extremes(values)
    assert len(kept) < 1000
    assert (1234, 7.0) in kept and (8765, -3.0) in kept
    assert any(math.isnan(value) for _, value in kept)
    assert [step for step, _ in kept] == sorted(step for step, _ in kept)
    assert extremes([1.0, 2.0]) == [(0, 1.0), (1, 2.0)]


# --- Axes and markup ------------------------------------------------------------------------------


def test_a_logarithmic_axis_spans_whole_decades() -> None:
    axis = log_axis([3e-8, 0.0, 2e-5, math.inf], 100, 0)
    assert axis is not None
    assert (axis.low, axis.high) == pytest.approx((1e-8, 1e-4), rel=1e-12)
    assert axis.at(1e-6) == pytest.approx(50) and axis.at(1e-30) == pytest.approx(100)
    assert axis.ticks() == pytest.approx([1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
    assert len(Axis(1e-20, 1.0, 100, 0, log=True).ticks()) == 6
    assert log_axis([0.0, math.nan], 100, 0) is None


def test_a_single_value_has_an_axis() -> None:
    for value in (0.0, 1.0, -5.0, 1e-12, 1e12):
        axis = linear_axis([value], 100, 0)
        assert axis is not None and axis.at(value) == pytest.approx(50)
        assert 2 <= len(axis.ticks()) <= 8
        one = log_axis([abs(value) or 1.0], 100, 0)
        assert one is not None and one.low < one.high


def test_linear_ticks_are_round_and_on_the_axis() -> None:
    assert Axis(0.13, 2.41, 100, 0).ticks() == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert Axis(0, 19, 0, 100).ticks() == pytest.approx([0, 5, 10, 15])


def test_elements_escape_texts_and_attributes() -> None:
    made = element("p", "<b>", element("i", "&"), class_='"', title=None, hidden=True, x=1.25)
    assert made == '<p class="&quot;" hidden x="1.2">&lt;b&gt;<i>&amp;</i></p>'
