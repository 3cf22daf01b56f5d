"""The smallest network that trains, as a file: what tests of runs, grids and pictures train."""

from __future__ import annotations

from pathlib import Path

import pytest

TINY = """
block = "basic"
stem = {widths = [4], kernel = 3, stride = 1, pool = false}
stages = [{width = 4, blocks = 1}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test stands in, with the network in `tiny.toml`."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    return tmp_path
