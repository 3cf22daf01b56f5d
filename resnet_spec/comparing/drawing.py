"""The figures of a comparison: curves with bands, final accuracies, and what the runs cost.

Needs matplotlib: pip install 'resnet-spec[plots]'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resnet_spec.comparing.comparison import Comparison
from resnet_spec.comparing.statistics import Group, Sample
from resnet_spec.reporting.plot_text import printable
from resnet_spec.reporting.plots import COLOURS, MARKERS, keep_within, new_figure, solid_text
from resnet_spec.running.metrics import Epoch

Value = Callable[[Epoch], float | None]
Figures = dict[str, tuple[Any, str]]
"""File name without ending -> figure, and what it shows in a sentence."""
NAMES = ("curves", "accuracy", "cost")
"""Those file names."""


def figures_of(comparison: Comparison) -> Figures:
    """Return the figures, by file name; {} without a complete run. Raises DataError."""
    groups = [group for group in comparison.groups if group.complete]
    if not groups:
        return {}
    figures = (
        (_curves(comparison, groups), _curves_caption(comparison.show, groups)),
        (_accuracy(comparison, groups), _accuracy_caption(groups)),
        (_cost(comparison, groups), "Training speed and memory; means over seeds."),
    )
    return dict(zip(NAMES, figures, strict=True))


class _Curve(NamedTuple):
    """A quantity over epochs: its mean over seeds, and the least and most of them."""

    at: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def _curve(group: Group, value: Value) -> _Curve:
    """Return the curve of those epochs at which all of the group's seeds have the quantity."""
    runs = [{e.epoch: v for e in r.epochs if (v := value(e)) is not None} for r in group.complete]
    at = sorted(epoch for epoch in runs[0] if all(epoch in run for run in runs))
    values = [[run[epoch] for run in runs] for epoch in at]
    return _Curve(
        at, [sum(v) / len(v) for v in values], [min(v) for v in values], [max(v) for v in values]
    )


def _percent_wrong(accuracy: float | None) -> float | None:
    return None if accuracy is None else 100 * (1 - accuracy)


_ACCURACY: tuple[Value, Value] = (lambda e: e.train_accuracy, lambda e: e.accuracy)
_ERROR: tuple[Value, Value] = (
    lambda e: _percent_wrong(e.train_accuracy),
    lambda e: _percent_wrong(e.accuracy),
)
_LOSS: tuple[Value, Value] = (lambda e: e.train_loss, lambda e: e.loss)
_LABELS = {"loss": "loss", "accuracy": "accuracy", "error": "error in %"}


def _curves(comparison: Comparison, groups: Sequence[Group]) -> Any:
    columns = _columns([comparison.label(group) for group in groups])
    lines = -(-len(groups) // columns)
    figure = new_figure(11, 4.4 + 0.22 * lines, comparison.heading)
    left, right = figure.subplots(1, 2)
    second = _ERROR if comparison.show == "error" else _ACCURACY
    for axes, name, values in ((left, "loss", _LOSS), (right, comparison.show, second)):
        drawn = [_draw(axes, group, i, values) for i, group in enumerate(groups)]
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{_LABELS[name]} (dashed: train, solid: {_solid(groups)})")
        axes.grid(alpha=0.3)
        if name != "loss":
            keep_within(axes.yaxis, 0, 100 if name == "error" else 1)
        if name == "error":
            _show_the_later_part(axes, [curve for pair in drawn for curve in pair])
        if max(max(curve.at, default=0) for pair in drawn for curve in pair) <= _FEW_EPOCHS:
            axes.xaxis.get_major_locator().set_params(integer=True)
    _make_logarithmic(left)
    lines_drawn = [line for line in right.get_lines() if line.get_linestyle() == "-"]
    labels = [_plain(comparison.label(group)) for group in groups]
    figure.legend(lines_drawn, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _solid(groups: Sequence[Group]) -> str:
    """Return what the solid lines are of."""
    return solid_text([e for group in groups for r in group.complete for e in r.epochs])


_FEW_EPOCHS = 12


def _draw(axes: Any, group: Group, place: int, values: tuple[Value, Value]) -> list[_Curve]:
    """Draw training (dashed) and evaluation (solid), and bands where there are several seeds."""
    curves = [_curve(group, value) for value in values]
    colour = COLOURS[place % len(COLOURS)]
    # Another marker for the same colour, where there are more groups than colours.
    marker = MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
    train, test = {"ls": "--", "mfc": "white"}, {"ls": "-"}
    for curve, style, alpha in zip(curves, (train, test), (0.08, 0.18), strict=True):
        look = {"marker": marker, "markersize": 4, "markevery": max(1, len(curve.at) // 10)}
        axes.plot(curve.at, curve.mean, color=colour, linewidth=1.4, **look, **style)
        if len(group.complete) > 1:
            axes.fill_between(curve.at, curve.low, curve.high, color=colour, alpha=alpha, lw=0)
    return curves


def _make_logarithmic(axes: Any) -> None:
    """Make the upright axis logarithmic, with ticks that say plain numbers.

    It stays as it is where nothing on it is above zero, as for runs whose metrics are lost.
    """
    if not any(value > 0 for line in axes.get_lines() for value in line.get_ydata()):
        return
    from matplotlib import ticker as untyped

    ticker: Any = untyped
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _show_the_later_part(axes: Any, curves: Sequence[_Curve]) -> None:
    """Let the first tenth of a long run leave the picture at the top, as in He et al., figure 6."""
    last = max((curve.at[-1] for curve in curves if curve.at), default=0)
    if last < _LONG:
        return
    later = [
        high
        for curve in curves
        for at, high in zip(curve.at, curve.high, strict=True)
        if at > last / 10
    ]
    axes.set_ylim(0, 1.05 * max(later))
    for line in axes.get_lines():
        line.set_clip_on(True)


_LONG = 30
"""Epochs from which on a run is long."""


def _curves_caption(show: str, groups: Sequence[Group]) -> str:
    solid = _solid(groups)
    told = f"Loss and {show} over epochs: dashed training, solid {solid}; means over seeds"
    return f"{told}, bands from the lowest to the highest seed."


def _accuracy(comparison: Comparison, groups: Sequence[Group]) -> Any:
    """Draw a line per group: its seeds as dots, the mean with its interval."""
    figure = new_figure(8, _height(groups), comparison.heading)
    axes = figure.subplots()
    for i, group in enumerate(groups):
        colour = COLOURS[i % len(COLOURS)]
        sample = group.sample("final_accuracy")
        values = [100 * value for value in sample.values]
        below = [i + 0.27] * len(values)
        axes.plot(values, below, "o", color=colour, alpha=0.6, markersize=5, mew=0)
        if sample.mean is None:
            continue
        half = sample.half_width or None  # Seeds that are all alike have no interval.
        axes.errorbar(
            100 * sample.mean,
            i,
            xerr=None if half is None else 100 * half,
            fmt="|",
            color=colour,
            markersize=16,
            markeredgewidth=2,
            capsize=5,
        )
    _name_lines(axes, comparison, groups)
    axes.set_xlabel("final test accuracy in %")
    keep_within(axes.xaxis, 0, 100)
    axes.grid(axis="x", alpha=0.3)
    return figure


def _accuracy_caption(groups: Sequence[Group]) -> str:
    several = any(group.sample("final_accuracy").half_width for group in groups)
    bars = ", whiskers its 95 % interval (Student's t)" if several else "; no interval"
    return f"Final test accuracy: dots are seeds, the bar is their mean{bars}."


def _cost(comparison: Comparison, groups: Sequence[Group]) -> Any:
    figure = new_figure(11, _height(groups), comparison.heading)
    speeds, memories = figure.subplots(1, 2, sharey=True)
    _bars(speeds, [group.speed for group in groups])
    _bars(memories, [group.sample("peak_memory_mb") for group in groups])
    _name_lines(speeds, comparison, groups)
    speeds.set_xlabel("training speed in images/s")
    memories.set_xlabel("most main memory in MB")
    return figure


def _bars(axes: Any, samples: Sequence[Sample]) -> None:
    known = [(i, sample) for i, sample in enumerate(samples) if sample.mean is not None]
    for i, sample in known:
        colour = COLOURS[i % len(COLOURS)]
        axes.barh(i, sample.mean, color=colour, xerr=sample.std, height=0.6, capsize=3)
        end = (sample.mean or 0) + (sample.std or 0)
        text = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{sample.mean:.0f}", (end, i), fontsize=9, **text)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.margins(x=0.15)
    if known:
        axes.set_xlim(left=0)


def _name_lines(axes: Any, comparison: Comparison, groups: Sequence[Group]) -> None:
    """Write the groups' names beside their lines, the first one on top."""
    axes.set_yticks(range(len(groups)), [_plain(comparison.label(group)) for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)


def _height(groups: Sequence[Group]) -> float:
    return 1.5 + 0.42 * len(groups)


def _columns(labels: Sequence[str]) -> int:
    """Return how many labels have room beside each other below a figure of 11 inches."""
    return max(1, min(len(labels), 120 // (max(map(len, labels)) + 8)))


def _plain(label: str) -> str:
    """Return the label so that matplotlib takes no part of it as a formula."""
    return printable(label).replace("$", r"\$")
