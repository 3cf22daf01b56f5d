"""The folder of a cell: a run's folder, and beside it what a comparison keeps of the run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from resnet_spec.describing.from_text import Fields
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import dump_json
from resnet_spec.files.writing import write_json, write_text, writing
from resnet_spec.recipe import Recipe
from resnet_spec.running.run_folder import RunFolder

CELL, FAILURE, LOG = "cell.json", "failure.json", "log.txt"


@dataclass(frozen=True)
class CellFolder(RunFolder):
    """A run's folder, through which everything that a comparison leaves there is written, too."""

    @property
    def cell(self) -> Path:
        """Where it is kept which cell this is."""
        return self.path / CELL

    @property
    def log(self) -> Path:
        """What the run has printed."""
        return self.path / LOG

    @property
    def spec(self) -> Path:
        """The network that the run reads."""
        return self.path / "spec.json"

    @property
    def recipe(self) -> Path:
        """The recipe that the run reads."""
        return self.path / "recipe.json"

    def begin(
        self, spec: Spec, recipe: Recipe, cell: Fields, arguments: Sequence[str]
    ) -> IO[bytes]:
        """Write what the run reads and what tells of it; return its log, open.

        arguments: the run's command, without the program. What an earlier try came to is removed.
        Raises BusyError when another run holds the folder, and OutputError.
        """
        with self.locked(lambda line: None):
            write_text(self.spec, dump_json(spec))
            write_json(self.recipe, recipe.to_dict())
            write_json(self.cell, cell)
            with writing(self.log):
                log = self.log.open("ab")
                log.write(f"$ resnet-spec {shlex.join(arguments)}\n".encode())
                log.flush()
            (self.path / FAILURE).unlink(missing_ok=True)
            self.drop_summary()
            return log

    def write_failure(self, error: str, status: int) -> None:
        """Note that the run failed with `error` and exit status `status`."""
        write_json(self.path / FAILURE, {"error": error, "status": status})
