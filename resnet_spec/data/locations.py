"""Where a dataset is, as a person writes it: a path, and perhaps the split to evaluate on."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.errors import DataError


def parted(text: str) -> tuple[Path, str | None]:
    """Return the path in `text` and the split behind its last '@'; a path that exists is whole."""
    before, sign, split = text.rpartition("@")
    if not sign or not before or not split.isalpha() or is_there(Path(text)):
        return _at_home(text), None
    return _at_home(before), split


def _at_home(text: str) -> Path:
    """Return a path, whose `~` no shell has replaced, as in a file. Raises DataError."""
    path = Path(text)
    if not text.startswith("~") or is_there(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise DataError(f"data = {text}: nobody has this home; write the whole path") from None


def is_there(path: Path) -> bool:
    """Whether `path` exists. Raises DataError for what no system call takes."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data = {path}: cannot be looked for ({reason})") from None
