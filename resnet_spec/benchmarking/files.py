"""What a benchmark leaves in a folder: every turn as JSON, the table as Markdown, and its bars."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.benchmarking.drawing import bars_figure
from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.tables import markdown
from resnet_spec.files.writing import write_json, write_text
from resnet_spec.reporting.out_folder import check_out
from resnet_spec.reporting.plots import both_files, can_draw, write_figure

_NAME = "bench"


def check_files(out: Path, *, overwrite: bool) -> None:
    """Raise DataError or OutputError where nothing can be left in `out`; nothing is touched.

    See `check_out`.
    """
    check_out(out, "a benchmark with its figure", _files(out), overwrite=overwrite)


def write_files(out: Path, result: Result) -> list[Path]:
    """Write bench.json and bench.md and, with matplotlib, the bars; return what was written.

    Where nobody was measured there are no bars. Raises OutputError.
    """
    data, text, *figures = _files(out)
    write_json(data, result.to_dict())
    write_text(text, markdown(result))
    if not (can_draw() and result.measured):
        return [data, text]
    return [data, text, *write_figure(bars_figure(result), figures)]


def _files(out: Path) -> list[Path]:
    return [out / f"{_NAME}.json", out / f"{_NAME}.md", *both_files(out / _NAME)]
