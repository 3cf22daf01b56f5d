"""The runs of a grid, each resolved and checked before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.comparing.grid import Grid, Network
from resnet_spec.data import data_place, load_data
from resnet_spec.data.absent import training_split
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.describing.from_text import Fields
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.describing.split_settings import sorted_settings
from resnet_spec.errors import GridError, ResnetSpecError, problem
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.fine_tuning import fine_tuned
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe
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
            "spec": self.run.spec.to_dict(),
            "recipe": self.run.recipe.to_dict(),
        }


@dataclass(frozen=True)
class _Resolved:
    """A network of the grid with its recipe, which lacks the seed."""

    label: str
    spec: Spec
    plan: Plan
    recipe: Recipe


def cells_of(grid: Grid, out: Path) -> list[Cell]:
    """Return the runs of `grid` in the order in which they are run: seed by seed.

    All is resolved here: every network is lowered, every recipe fitted to the data. Raises the
    error of what is wrong, with the network it belongs to.
    """
    for backend in grid.backends:
        if backend not in installed_backends():
            load_backend(backend)  # Says what is wrong with it; the others stay unimported.
    data = load_data(grid.data, size=grid.input_size)
    training_split(data)  # Raises where there is none.
    networks = [_resolved(grid, network, data) for network in grid.networks]
    cells = list(_cells(grid, networks, data, out))
    for cell in cells[: len(grid.networks) * len(grid.backends)]:
        with _said_of(cell.network):
            # Raises for a batch larger than the data, and for a warm-up longer than the run.
            rates(cell.run.recipe, cell.run.epoch_steps)
    _check_folders(cells)
    return cells


def _cells(grid: Grid, networks: Sequence[_Resolved], data: Dataset, out: Path) -> Iterator[Cell]:
    place, known = data_place(grid.data), Fingerprint.of(data)
    for seed in grid.seeds:
        for network in networks:
            for backend in grid.backends:
                folder = out / RUNS / _folder_name(network.label, backend, seed)
                recipe = network.recipe.model_copy(update={"seed": seed})
                run = Run(
                    network.spec, network.plan, recipe, backend, data, place, folder, read=known
                )
                yield Cell(network.label, seed, run, grid.input_size, grid.device)


def _resolved(grid: Grid, network: Network, data: Dataset) -> _Resolved:
    with _said_of(network.title):
        for_recipe, for_spec = sorted_settings([*grid.set, *network.set])
        recipe = load_recipe(grid.recipe, _one_length(for_recipe))
        spec, _ = fitted(load_spec(network.spec, for_spec), data)
        return _Resolved(network.title, spec, fine_tuned(lower(spec), recipe), recipe)


def _one_length(settings: Sequence[str]) -> list[str]:
    """Return the settings without `epochs` before a later `steps`, and the other way round."""
    lengths = [key for setting in settings if (key := _key(setting)) in _LENGTHS]
    return [s for s in settings if _key(s) not in _LENGTHS or _key(s) == lengths[-1]]


_LENGTHS = ("epochs", "steps")


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()


@contextmanager
def _said_of(label: str) -> Generator[None]:
    """Put the network's label before errors."""
    try:
        yield
    except ResnetSpecError as error:
        raise type(error)(*(f"{label}: {line}" for line in error.problems)) from None


def _folder_name(label: str, backend: str, seed: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.+=-]+', '_', label)}-{backend}-seed{seed}"


def _check_folders(cells: Sequence[Cell]) -> None:
    """Refuse labels that come to the same folder, as on a file system without capitals."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.folder.name.casefold(), cell)
        if other is not cell:
            rule = f"would be kept in the same folder as {other.network}"
            raise GridError(problem("networks", cell.network, rule, "give it another label"))
