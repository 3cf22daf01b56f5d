"""What a benchmark leaves in a folder: every turn as JSON, the table as Markdown, and its bars."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.benchmarking.drawing import bars_figure
from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.tables import markdown
from resnet_spec.errors import DataError
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.writing import check_folder, write_json, write_text
from resnet_spec.reporting.plots import both_files, can_draw, write_figure
from resnet_spec.running.run_folder import RunFolder

_NAME = "bench"


def check_files(out: Path, *, overwrite: bool) -> None:
    """Raise DataError or OutputError where nothing can be left in `out`; nothing is touched.

    A run's folder is never written to.
    """
    check_folder(out, "a benchmark with its figure")
    if RunFolder(out).holds_run:
        raise DataError(f"--out = {out}: holds a run, which stays as it is; name another folder")
    for file in _files(out):
        check_destination(file, overwrite=overwrite)


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
