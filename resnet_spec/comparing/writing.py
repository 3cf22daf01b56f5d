"""Everything a comparison leaves to read: the page, the tables in Markdown, and the figures."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.comparing.comparison import Comparison
from resnet_spec.comparing.drawing import NAMES, figures_of
from resnet_spec.comparing.page import page
from resnet_spec.comparing.results import write_results
from resnet_spec.comparing.tables import tables_of
from resnet_spec.files.writing import write_text
from resnet_spec.reporting.out_folder import leave_only
from resnet_spec.reporting.plots import both_files, can_draw, write_figure


def write_report(out: Path, comparison: Comparison) -> list[Path]:
    """Write `report.html`, `report.md`, the results and, with matplotlib, figures.

    Figures of an earlier report that this one has none of are taken away. Returns what was written,
    without the results. Raises OutputError.
    """
    figures = figures_of(comparison) if can_draw() else {}
    texts = {"report.html": page(comparison, figures), "report.md": _markdown(comparison)}
    written = [out / name for name in texts]
    earlier = [file for name in NAMES for file in both_files(out / name)]
    was_reported = all(path.exists() for path in written)
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
    for name, (figure, _) in figures.items():
        written += write_figure(figure, both_files(out / name))
    leave_only(written, earlier if was_reported else [])
    write_results(out, comparison.results, comparison.target, comparison.notes)
    return written


def _markdown(comparison: Comparison) -> str:
    head = [f"# {comparison.title}", *([comparison.about] if comparison.about else [])]
    notes = ["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []
    tables = [table.markdown() for table in tables_of(comparison)]
    return "\n\n".join([*head, *notes, *tables]) + "\n"
