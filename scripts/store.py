"""What a long script has done, one JSON line each, so that it is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def read(path: Path | None) -> dict[str, Cell]:
    if path is None or not path.exists():
        return {}
    return dict(json.loads(line) for line in path.read_text().splitlines())


def append(path: Path | None, key: str, value: Cell) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")
