"""What a range test of the learning rate leaves in a folder: its numbers, and their figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spec.files.writing import write_json
from resnet_spec.reporting.out_folder import check_out, leave_only
from resnet_spec.reporting.plots import both_files, can_draw, rate_figure, write_figure
from resnet_spec.running.rate_range import Range, RateCurve
from resnet_spec.running.runs import Run

_NAME = "rates"


def check_files(out: Path, *, overwrite: bool) -> None:
    """Raise DataError or OutputError where nothing can be left in `out`; nothing is touched.

    See `check_out`.
    """
    check_out(out, "a curve with its figure", _files(out), overwrite=overwrite)


def write_files(out: Path, run: Run, asked: Range, curve: RateCurve) -> list[Path]:
    """Write rates.json and, with matplotlib, rates.png and rates.svg; return what was written.

    Without it, figures of an earlier test are taken away. Raises OutputError.
    """
    title = f"{run.spec.name} on {run.data.name}, {run.backend}, recipe {run.recipe.name}"
    data, *figures = _files(out)
    write_json(data, _record(run, asked, curve))
    drawn = write_figure(rate_figure(curve, title), figures) if can_draw() else []
    leave_only(drawn, figures)
    return [data, *drawn]


def _files(out: Path) -> list[Path]:
    return [out / f"{_NAME}.json", *both_files(out / _NAME)]


def _record(run: Run, asked: Range, curve: RateCurve) -> dict[str, Any]:
    return {
        "spec": run.spec.name,
        "data": run.data.name,
        "backend": run.backend,
        "recipe": run.recipe.to_dict(),
        "low": asked.low,
        "high": asked.high,
        "steps": asked.steps,
        "suggested": curve.suggested,
        "tenth_of_lowest": curve.tenth,
        "diverged": curve.diverged,
        "rate": curve.rates.tolist(),
        "loss": curve.losses.tolist(),
        "smoothed": curve.smoothed.tolist(),
    }
