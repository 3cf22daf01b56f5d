"""The run that another one replaces: set aside, whole, until the new one has a checkpoint.

Whenever a process is killed in between, no file is lost: what it left is put right by `settle`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_ASIDE = ".replaced"
"""Below the folder: the run that is being replaced, whole."""
_MOVING = ".replaced-moving"
"""The same while files are moved there or back; they belong where they were."""


@dataclass(frozen=True)
class ReplacedRun:
    """The run that is replaced in `folder`. files: patterns of a run's own files there."""

    folder: Path
    files: Sequence[str]

    @staticmethod
    def owner_of(place: Path) -> Path:
        """Return the folder of the run whose files lie in `place`, as they are or set aside."""
        return place.parent if place.name in (_ASIDE, _MOVING) else place

    @property
    def places(self) -> tuple[Path, Path]:
        """Where files may lie that were set aside."""
        return self.folder / _ASIDE, self.folder / _MOVING

    def set_aside(self) -> None:
        """Move the run's files away; a process that is killed on the way leaves `_MOVING`."""
        aside, moving = self.places
        names = self._own(self.folder)
        if names:
            _move(names, self.folder, moving)
            moving.rename(aside)

    def give_up(self) -> None:
        """Remove what was set aside."""
        shutil.rmtree(self.places[0], ignore_errors=True)

    def put_back(self) -> bool:
        """Put what was set aside in the place of the new run; return whether there was any."""
        aside, moving = self.places
        if not aside.is_dir():
            return False
        for name in self._own(self.folder):
            (self.folder / name).unlink()
        aside.rename(moving)
        self._move_back()
        return True

    def settle(self, has_checkpoint: Callable[[], bool]) -> None:
        """End what a killed process left. has_checkpoint: whether the new run came to one."""
        if self.places[1].is_dir():
            self._move_back()
        if has_checkpoint():
            self.give_up()
        self.put_back()

    def _move_back(self) -> None:
        moving = self.places[1]
        _move(self._own(moving), moving, self.folder)
        shutil.rmtree(moving)

    def _own(self, folder: Path) -> list[Path]:
        """Return a run's files in `folder`, relative to it."""
        found = (path for name in self.files for path in sorted(folder.glob(name)))
        return [path.relative_to(folder) for path in found]


def _move(names: Sequence[Path], source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
