"""Plots as PNG and SVG files: the palette, the curves of runs, and how a figure is written.

Needs matplotlib: pip install 'resnet-spec[plots]'.

One way to draw for each purpose. A figure that somebody takes along, into a paper or an issue, is a
file, and matplotlib draws it, here, in `benchmarking.drawing`, `comparing.drawing` and `showing`; a
page on which such a figure stands, too, holds that very figure (`comparing.page`), which is not
drawn again. The charts of a parity report are none: they stand on its page alone, whose verdict
must be seen where only the core is installed, as the same bytes each time, with a tooltip for each
of a thousand bars and in the reader's light or dark colours. `reporting.html` draws those as SVG,
and nothing else does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.errors import DataError
from resnet_spec.files.writing import replacing
from resnet_spec.reporting.plot_text import drawable
from resnet_spec.running.metrics import TEST, Epoch, splits_of
from resnet_spec.running.rate_range import RateCurve

# Okabe & Ito's palette: told apart by colour-blind readers, and with markers in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
INSTALL = "pip install 'resnet-spec[plots]'"


def can_draw() -> bool:
    """Return whether matplotlib is installed; does not import it."""
    return importlib.util.find_spec("matplotlib") is not None


def curves_figure(runs: Mapping[str, Sequence[Epoch]], title: str = "") -> Any:
    """Return loss and accuracy over epochs, one colour per run.

    Dashed lines are training figures, solid ones those of the images that a run's epochs are
    evaluated on, test or validation; dotted ones are of the weights themselves where those are of
    an average of them. Raises DataError without matplotlib.
    """
    figure = new_figure(11, 4.2, title)
    losses, accuracies = figure.subplots(1, 2)
    solid = solid_text([epoch for epochs in runs.values() for epoch in epochs])
    for i, (label, epochs) in enumerate(runs.items()):
        look = {"color": COLOURS[i % 7], "marker": MARKERS[i % 7], "markersize": 4}
        at = [epoch.epoch for epoch in epochs]
        tested = [epoch for epoch in epochs if epoch.accuracy is not None]
        label = f"{label} ({solid_text(epochs)})" if " or " in solid else label
        tested_at = [epoch.epoch for epoch in tested]
        losses.plot(at, [e.train_loss for e in epochs], linestyle="--", **look)
        losses.plot(tested_at, [e.loss for e in tested], label=label, **look)
        accuracies.plot(at, [e.train_accuracy for e in epochs], linestyle="--", **look)
        accuracies.plot(tested_at, [e.accuracy for e in tested], label=label, **look)
        own = [epoch for epoch in tested if epoch.weights_accuracy is not None]
        if own:
            dotted = {"color": look["color"], "linestyle": ":", "label": f"{label}, no average"}
            losses.plot([e.epoch for e in own], [e.weights_loss for e in own], **dotted)
            accuracies.plot([e.epoch for e in own], [e.weights_accuracy for e in own], **dotted)
    for axes, name in ((losses, "loss"), (accuracies, "accuracy")):
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.set_ylabel(f"{name} (dashed: train, solid: {solid})")
        axes.grid(alpha=0.3)
        for label in axes.legend().get_texts():
            label.set_parse_math(False)
    losses.set_yscale("log")
    keep_within(accuracies.yaxis, 0, 1)
    return figure


def rate_figure(curve: RateCurve, title: str = "") -> Any:
    """Return the loss over the learning rate, with the rates that it suggests.

    Raises DataError without matplotlib.
    """
    figure = new_figure(7, 4.2, title)
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="0.7", linewidth=1, label="of each step")
    axes.plot(curve.rates, curve.smoothed, color=COLOURS[0], label="smoothed")
    marks = ((curve.suggested, "falls fastest", "-"), (curve.tenth, "a tenth of the lowest", "--"))
    for rate, what, style in marks:
        if rate is not None:
            at = {"color": COLOURS[1], "linestyle": style, "linewidth": 1}
            axes.axvline(rate, **at, label=f"{what}: {rate:.3g}")
    # A loss that has diverged would leave no room for the rest.
    low, high = curve.losses.min(), curve.smoothed.max()
    if high > low:
        axes.set_ylim(low - 0.1 * (high - low), high + 0.2 * (high - low))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def solid_text(epochs: Iterable[Epoch]) -> str:
    """Return which images the evaluations of `epochs` are of, in words for an axis."""
    return " or ".join(splits_of(epochs)) or TEST


def keep_within(axis: Any, least: float, most: float) -> None:
    """End an axis where its quantity does: an accuracy is at most 1, whatever margins there are.

    Markers on the edge are drawn whole; what reaches beyond, as a whisker, is cut.
    """
    low, high = axis.get_view_interval()
    if low >= high or low >= most or high <= least:  # Nothing is drawn, or nothing of it can be.
        return
    axis.axes.set(**{f"{axis.axis_name}lim": (max(low, least), min(high, most))})
    place = 0 if axis.axis_name == "x" else 1
    for line in axis.axes.get_lines():
        values = [value for value in line.get_data()[place] if value is not None]
        if line.get_marker() not in (None, "None", "", "|") and values:
            line.set_clip_on(not (least <= min(values) and max(values) <= most))


def new_figure(width: float, height: float, title: str = "") -> Any:
    """Return an empty figure of `width` x `height` inches. Raises DataError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(f"plots: need matplotlib, not installed; run: {INSTALL}") from None
    figure: Any = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def both_files(path: Path) -> list[Path]:
    """Return the PNG and the SVG file of `path`, which has no ending."""
    return [path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg")]


def write_figure(figure: Any, files: Sequence[Path], dpi: int = 120) -> list[Path]:
    """Write `figure` to each of `files`, PNG or SVG by its ending, whole or not at all.

    The same figure gives the same bytes.
    """
    import matplotlib as untyped

    matplotlib: Any = untyped
    # Images of a grid would else become one, coarser, in the SVG.
    with matplotlib.rc_context({"svg.hashsalt": "resnet-spec", "image.composite_image": False}):
        for file in files:
            kind = file.suffix[1:].lower()
            how: dict[str, Any] = (
                {"metadata": {"Date": None}}
                if kind == "svg"
                else {"pil_kwargs": {"optimize": True}}
            )
            with replacing(file) as temporary, drawable(figure):
                figure.savefig(temporary, format=kind, dpi=dpi, **how)
    return list(files)
