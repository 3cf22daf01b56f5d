"""Known deviations: one file per backend, a reason on each entry."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "known_deviations"


@cache
def deviations(backend: str) -> dict[tuple[str, str, str], str]:
    """Return (case, level, precision) -> reason for `backend`; none where it has no file."""
    path = FOLDER / f"{backend}.toml"
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text()).get("deviation", [])
    return {(e["case"], e["level"], e["precision"]): e["reason"] for e in entries}
