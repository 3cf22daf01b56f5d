"""The runs of a grid, each resolved and checked before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_spec.comparing.cell_folder import CellFolder
from resnet_spec.comparing.grid import Grid, Network
from resnet_spec.data import load_data
from resnet_spec.data.absent import training_split
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.describing.from_text import Fields
from resnet_spec.errors import GridError, ResnetSpecError, problem
from resnet_spec.loader import check_backend
from resnet_spec.running.job import Job, job_of
from resnet_spec.running.reach import Reach
from resnet_spec.running.request import Request
from resnet_spec.running.runs import Run

RUNS = "runs"
"""The folder, below a comparison's own, that holds a folder per run."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid: what is trained, and what it is called."""

    network: str
    seed: int
    run: Run
    input_size: int | None
    device: str

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.run.backend

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.run.out

    @property
    def place(self) -> CellFolder:
        """That folder, to be written to."""
        return CellFolder(self.run.out)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, the last one perhaps not whole."""
        return -(-self.run.total_steps // self.run.epoch_steps)

    def to_dict(self) -> Fields:
        """Return what decides the run's numbers, as plain JSON types; `cell.json` keeps it."""
        return {
            "network": self.network,
            "backend": self.backend,
            "seed": self.seed,
            "data": self.run.data_name,
            "input_size": self.input_size,
            "device": self.device,
            "validation": None if self.run.held_out is None else self.run.held_out.told,
            "spec": self.run.spec.to_dict(),
            "recipe": self.run.recipe.to_dict(),
        }


def cells_of(grid: Grid, out: Path) -> list[Cell]:
    """Return the runs of `grid` in the order in which they are run: seed by seed.

    A job is made of each network on each backend, as `train` makes it; seeds change no more than
    the seed. Nothing is written, and no framework imported. Raises the error of what is wrong,
    with the network it belongs to.
    """
    for backend in grid.backends:
        check_backend(backend)
    data = load_data(grid.data, size=grid.input_size)
    training_split(data)  # Raises where there is none; for no network in particular.
    reach = Reach(data=lambda source, size: data, backend=check_backend)
    runs = [
        (network.title, _job(grid, network, backend, out, reach).run)
        for network in grid.networks
        for backend in grid.backends
    ]
    known = Fingerprint.of(data)
    cells = [
        Cell(label, seed, _seeded(run, label, seed, out, known), grid.input_size, grid.device)
        for seed in grid.seeds
        for label, run in runs
    ]
    _check_folders(cells)
    return cells


def _job(grid: Grid, network: Network, backend: str, out: Path, reach: Reach) -> Job:
    """Return the job of a cell, for all its seeds."""
    with _said_of(network.title):
        request = Request(
            spec=network.spec,
            backend=backend,
            data=grid.data,
            recipe=grid.recipe,
            settings=_one_length([*grid.set, *network.set]),
            input_size=grid.input_size,
            device=grid.device,
            validation=grid.validation,
            out=_folder(out, network.title, backend, grid.seeds[0]),
            overwrite=True,  # Whose run is there is for `standing` to say.
        )
        return job_of(request, lambda note: None, reach)


def _seeded(run: Run, label: str, seed: int, out: Path, known: Fingerprint) -> Run:
    recipe = run.recipe.model_copy(update={"seed": seed})
    return replace(run, recipe=recipe, out=_folder(out, label, run.backend, seed), read=known)


def _one_length(settings: Sequence[str]) -> list[str]:
    """Return the settings without `epochs` before a later `steps`, and the other way round.

    The grid's come first, so that a network's own length is taken.
    """
    lengths = [key for setting in settings if (key := _key(setting)) in _LENGTHS]
    return [s for s in settings if _key(s) not in _LENGTHS or _key(s) == lengths[-1]]


_LENGTHS = ("epochs", "steps")


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip().removeprefix("recipe.")


@contextmanager
def _said_of(label: str) -> Generator[None]:
    """Put the network's label before errors."""
    try:
        yield
    except ResnetSpecError as error:
        raise type(error)(*(f"{label}: {line}" for line in error.problems)) from None


def _folder(out: Path, label: str, backend: str, seed: int) -> Path:
    return out / RUNS / f"{re.sub(r'[^A-Za-z0-9_.+=-]+', '_', label)}-{backend}-seed{seed}"


def _check_folders(cells: Sequence[Cell]) -> None:
    """Refuse labels that come to the same folder, as on a file system without capitals."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.folder.name.casefold(), cell)
        if other is not cell:
            rule = f"would be kept in the same folder as {other.network}"
            raise GridError(problem("networks", cell.network, rule, "give it another label"))
