"""The files below a folder: sub-folders too, hidden ones not, links followed and never in circles.

In the order of torchvision's ImageFolder: a folder's own files by name, then its sub-folders'.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from resnet_spec.data.images import SUFFIXES
from resnet_spec.errors import DataError

_SKIPPED = frozenset(("__MACOSX", "__pycache__", "@eaDir", "Thumbs.db", "desktop.ini"))
"""What systems leave in folders beside names that begin with a dot; never anybody's data."""


@dataclass
class Left:
    """What was seen and not read: files by their ending, and links that lead nowhere new."""

    files: Counter[str] = field(default_factory=Counter[str])
    links: int = 0

    def notes(self, where: str) -> tuple[str, ...]:
        """Return one note on all of it, or none."""
        kinds = [f"{count} {kind}" for kind, count in self.files.most_common()]
        shown = kinds[:5] + ([f"{len(kinds) - 5} kinds more"] if len(kinds) > 5 else [])
        what = [f"{self.files.total()} files ({', '.join(shown)})"] if kinds else []
        what += [f"{self.links} links to nothing or to folders read already"] if self.links else []
        return (f"left out in {where}: {' and '.join(what)}",) if what else ()


class Entry(NamedTuple):
    """What is in a folder. A link that leads nowhere is neither a folder nor a file."""

    name: str
    path: str
    is_folder: bool
    is_file: bool


def entries_of(folder: str | os.PathLike[str]) -> list[Entry]:
    """Return what is in `folder`, by name, without hidden files. Raises DataError."""
    try:
        with os.scandir(os.fspath(folder)) as entries:
            found = [
                Entry(it.name, it.path, _safely(it.is_dir), _safely(it.is_file))
                for it in entries
                if not it.name.startswith(".") and it.name not in _SKIPPED
            ]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    return sorted(found)


def _safely(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # A link to itself, or into a folder that may not be read.
        return False


def is_image(name: str) -> bool:
    """Whether a file called `name` is an image, by its ending."""
    return name.lower().endswith(SUFFIXES)


def images_below(folder: str, left: Left) -> list[str]:
    """Return the paths of the images in `folder` and its sub-folders; count the rest in `left`."""
    found: dict[str, list[str]] = {}
    waiting, seen = [folder], {_identity(folder)}
    while waiting:
        current = waiting.pop()
        files: list[str] = []
        for entry in entries_of(current):
            if entry.is_folder:
                identity = _identity(entry.path)
                if identity in seen:
                    left.links += 1
                else:
                    seen.add(identity)
                    waiting.append(entry.path)
            elif not entry.is_file:
                left.links += 1
            elif is_image(entry.name):
                files.append(entry.path)
            else:
                count_file(entry.name, left)
        found[current] = files
    return [path for place in sorted(found) for path in found[place]]


def count_file(name: str, left: Left) -> None:
    """Count a file that is not read, by its ending."""
    ending = PurePath(name).suffix.lower()
    left.files[ending or "without an ending"] += 1


def has_image(folder: str) -> bool:
    """Whether an image lies in `folder`, and not below."""
    return any(is_image(entry.name) and entry.is_file for entry in entries_of(folder))


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    return status.st_dev, status.st_ino
