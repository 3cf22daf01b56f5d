"""CONTRIBUTING says how many files an addition touches: the numbers are those of what it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = [
    path.name for path in (ROOT / "backends").iterdir() if (path / "manifest.toml").exists()
]
PLACES = (ROOT, ROOT / "resnet_spec", ROOT / "backends" / "resnet_spec_torch")
"""What names are relative to: the whole, the core, and any backend that exports."""


def rows() -> dict[str, tuple[str, str]]:
    """Return (files, which) by change, of the table in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where do I add")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {change.strip(): (count.strip(), which) for change, count, which in cells[1:]}


def named(which: str) -> list[str]:
    """Return the files and folders to be changed that a row names, without its asides."""
    plain = re.sub(r"\([^)]*parity_tests[^)]*\)", "", which)
    return [name for name in re.findall(r"`([^`]+)`", plain) if re.search(r"[./]", name)]


COUNTED = [change for change, (count, _) in rows().items() if count]


@pytest.mark.parametrize("change", COUNTED)
def test_the_number_of_files_is_that_of_the_files_named(change: str) -> None:
    count, which = rows()[change]
    files = [name for name in named(which) if not name.startswith("formats.")]
    for name in files:
        assert any((place / name).exists() for place in PLACES), name
    each = len(BACKENDS) if "each backend" in which else 0
    # The reference needs no optimiser of its own: it takes the equation of the row.
    each += len(BACKENDS) - 1 if "each framework's backend" in which else 0
    assert len(files) + each == int(count)


def test_the_additions_that_cost_most_are_counted() -> None:
    assert {"an optimiser", "an export format"} <= set(COUNTED)
    assert len(BACKENDS) == 4
    assert len(COUNTED) >= 11
