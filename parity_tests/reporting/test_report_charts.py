"""The charts of the HTML report: bars, bands, curves and their axes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
from html_reports import LIMIT, Page, an_item

from resnet_spec.printing.markup import element
from resnet_spec.reporting.html.axes import Axis, linear_axis, log_axis
from resnet_spec.reporting.html.bars import error_chart
from resnet_spec.reporting.html.curves import curve_charts, extremes, loss_error
from resnet_spec.reporting.report import Item, Row


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
