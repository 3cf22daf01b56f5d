"""Plots of runs as PNG and SVG files. Needs matplotlib: pip install 'resnet-spec[plots]'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.errors import DataError
from resnet_spec.metrics import Epoch

# Okabe & Ito's palette: told apart by colour-blind readers, and with markers in black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def draw_curves(runs: Mapping[str, Sequence[Epoch]], path: Path, title: str = "") -> list[Path]:
    """Draw loss and accuracy over epochs, one colour per run; return the PNG and SVG written.

    Dashed lines are training, solid ones test figures. `path` is given without an ending. Raises
    DataError when matplotlib is not installed.
    """
    figure, (losses, accuracies) = _figure(title)
    for i, (label, epochs) in enumerate(runs.items()):
        look = {"color": _COLOURS[i % 7], "marker": _MARKERS[i % 7], "markersize": 4}
        at = [epoch.epoch for epoch in epochs]
        tested = [epoch for epoch in epochs if epoch.test_accuracy is not None]
        tested_at = [epoch.epoch for epoch in tested]
        losses.plot(at, [e.train_loss for e in epochs], linestyle="--", **look)
        losses.plot(tested_at, [e.test_loss for e in tested], label=label, **look)
        accuracies.plot(at, [e.train_accuracy for e in epochs], linestyle="--", **look)
        accuracies.plot(tested_at, [e.test_accuracy for e in tested], label=label, **look)
    for axes, name in ((losses, "loss"), (accuracies, "accuracy")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} (dashed: train, solid: test)")
        axes.grid(alpha=0.3)
        axes.legend()
    losses.set_yscale("log")
    return _write(figure, path)


def _figure(title: str) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(
            "plots: need matplotlib, not installed; run: pip install 'resnet-spec[plots]'"
        ) from None
    figure: Any = Figure(figsize=(11, 4.2), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure, figure.subplots(1, 2)


def _write(figure: Any, path: Path) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for file in written:
        figure.savefig(file, dpi=120)
    return written
