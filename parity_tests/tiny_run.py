"""The smallest network that trains, as a file: what tests of runs, grids and pictures train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Position

TINY = """
block = "basic"
stem = {widths = [4], kernel = 3, stride = 1, pool = false}
stages = [{width = 4, blocks = 1}]
"""


NETWORK: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
"""The same as data."""


class Stopped(Exception):
    """What `Stops` ends a run with."""


class Stops:
    """Ends a run in its second epoch, before that is evaluated and saved."""

    def __init__(self) -> None:
        self._done = 0

    def chunk(self, position: Position, speed: float) -> None:
        if self._done == 1:
            raise Stopped

    def epoch(self, epoch: Epoch) -> None:
        self._done = epoch.epoch


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test stands in, with the network in `tiny.toml`."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    return tmp_path
