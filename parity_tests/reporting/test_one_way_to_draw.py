"""One way to draw for each purpose, as the text of `reporting.plots` says."""

from __future__ import annotations

import re
from pathlib import Path

CORE = Path(__file__).parents[2] / "resnet_spec"
SHAPES = re.compile(r"""element\(\s*["'](path|rect|line|polyline|circle|polygon)["']""")
MATPLOTLIB = re.compile(r"^\s*(import|from) (matplotlib|resnet_spec\.reporting\.plots)\b", re.M)


def places_of(pattern: re.Pattern[str]) -> set[str]:
    """Return the folders of the core in whose modules `pattern` is found."""
    paths = [path for path in CORE.rglob("*.py") if pattern.search(path.read_text("utf-8"))]
    return {path.parent.relative_to(CORE).as_posix() for path in paths}


def test_shapes_are_put_into_pages_by_the_parity_report_alone() -> None:
    assert places_of(SHAPES) == {"reporting/html"}


def test_the_parity_report_needs_no_matplotlib() -> None:
    assert places_of(MATPLOTLIB) == {
        "reporting",
        "benchmarking",
        "comparing",
        "showing",
        "cli",
    }
