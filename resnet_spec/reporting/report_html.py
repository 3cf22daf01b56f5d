"""A Report as one self-contained HTML file, for a browser, a printer or a paper's appendix.

The file loads nothing, from the network or elsewhere, and is complete without its script, which
only sorts tables. The same report gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from resnet_spec.files.writing import write_text
from resnet_spec.reporting.html.page import page
from resnet_spec.reporting.report import Report


def to_html(report: Report) -> str:
    """Return the report as an HTML document."""
    return str(page(report))


def write_html(report: Report, path: Path) -> None:
    """Write the report to `path`, whole or not at all. Raises OSError."""
    write_text(path, to_html(report))
