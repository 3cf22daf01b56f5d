"""What a person should know of parts side by side: images in two of them, and what is no part."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from resnet_spec.data.classes import few
from resnet_spec.data.list_files import has_columns
from resnet_spec.data.splits import NAMES
from resnet_spec.data.walking import entries_of, has_image
from resnet_spec.errors import DataError

_MOST_LOOKED_AT = 100
"""Folders in a folder, of which one without an image may not be the last."""


def in_two(parts: Mapping[str, Sequence[str]], what: str = "files") -> tuple[str, ...]:
    """Return a note for each two parts that have some paths in common, with their number and one.

    parts: the paths of each part, by what it is called.
    """
    notes: list[str] = []
    for (one, first), (other, second) in combinations(parts.items(), 2):
        known = set(first)
        shared = [path for path in dict.fromkeys(second) if path in known]
        if shared:
            which = f"{shared[0]} is" if len(shared) == 1 else f"{len(shared)} {what} are"
            example = "" if len(shared) == 1 else f", as {shared[0]}"
            rule = f"{which} in the {one} part and in the {other} part{example}"
            notes.append(f"{rule}: {_so(one)}")
    return tuple(notes)


def _so(one: str) -> str:
    if one == "training":
        return "what is evaluated there has been trained on"
    return "the best epoch is chosen by images that it is tested on"


def other_folders(path: Path, parts: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on folders beside `parts` in `path` that hold images, and are no split."""
    known = {part.name for part in parts}
    return _passed_over(
        path,
        [
            f"{entry.name}/"
            for entry in entries_of(path)
            if entry.is_folder and entry.name not in known and _has_images(entry.path)
        ],
    )


def _has_images(folder: str) -> bool:
    """Whether a folder has images, or folders of them, as those of classes are."""
    try:
        inner = [it.path for it in entries_of(folder) if it.is_folder]
        return has_image(folder) or any(map(has_image, inner[:_MOST_LOOKED_AT]))
    except DataError:  # It may not be read.
        return False


def other_lists(path: Path, parts: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on lists of images beside `parts` in `path` that are no split's."""
    known = {part.name for part in parts}
    return _passed_over(
        path,
        [
            entry.name
            for entry in entries_of(path)
            if entry.is_file and entry.name not in known and _is_list(Path(entry.path))
        ],
    )


def _is_list(path: Path) -> bool:
    if path.suffix.lower() != ".csv":
        return False
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), None)
            return header is not None and has_columns(header)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _passed_over(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    are = "are" if len(names) > 1 else "is"
    known = f"the splits of {path} are called {', '.join(NAMES)}; rename what is one"
    return (f"{few(names)} {are} passed over: {known}",)


def same_folders(parts: Mapping[str, Path], classes: Sequence[str]) -> Iterator[str]:
    """Yield a note for each two parts some of whose classes are one folder, by links."""
    places = {
        part: [str((folder / name).resolve()) for name in classes if (folder / name).is_dir()]
        for part, folder in parts.items()
    }
    yield from in_two(places, "folders of classes")
