"""A Comparison: the results of a grid, or of any finished runs, and what is asked of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from resnet_spec.comparing.cell_folder import CELL
from resnet_spec.comparing.cells import RUNS
from resnet_spec.comparing.data_identity import (
    chosen_by,
    data_keys,
    different_data,
    different_validation,
)
from resnet_spec.comparing.grid import SCALED, Grid
from resnet_spec.comparing.results import Result, read_result
from resnet_spec.comparing.standing import read_fields, read_summary
from resnet_spec.comparing.statistics import (
    Difference,
    Group,
    Spread,
    differences,
    groups_of,
    spreads,
)
from resnet_spec.comparing.training_losses import different_losses, without_place
from resnet_spec.data.held_out import OWN
from resnet_spec.describing.from_text import Fields
from resnet_spec.errors import DataError, GridError, did_you_mean, not_one_of, problem
from resnet_spec.printing.cards import Card, Shown, rounded
from resnet_spec.running.metrics import torn
from resnet_spec.running.run_folder import LAST, PREVIOUS, SUMMARY
from resnet_spec.weights.checkpoint import checkpoint_header

GRID = "grid.json"


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """What is shown: title, about, baseline, target and show are as in `Grid`."""

    title: str
    results: tuple[Result, ...]
    about: str = ""
    notes: tuple[str, ...] = ()
    baseline: str | None = None
    target: float | None = None
    show: Literal["accuracy", "error"] = "accuracy"

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows: list[tuple[object, ...]] = []
        for group in self.groups:
            mean = rounded(group.sample("final_accuracy").mean)
            done = f"{len(group.complete)} of {len(group.results)}"
            rows.append((*group.key, done, mean))
        heads = ("network", "backend", "runs complete", "test accuracy")
        return Card(self.title, rows, heads, self.notes)

    @property
    def heading(self) -> str:
        """The title, and whether it is the small version, for figures that stand alone."""
        is_scaled = any(note.startswith(SCALED) for note in self.notes)
        return f"{self.title} ({SCALED})" if is_scaled else self.title

    @cached_property
    def groups(self) -> list[Group]:
        """The results by network and backend."""
        return groups_of(self.results)

    @cached_property
    def differences(self) -> list[Difference]:
        """The differences in final test accuracy."""
        return differences(self.groups, self.baseline)

    @cached_property
    def spreads(self) -> list[Spread]:
        """The spreads over seeds and backends."""
        return spreads(self.groups)

    def label(self, group: Group) -> str:
        """Return what tells `group` from the others."""
        networks = {g.key.network for g in self.groups}
        backends = {g.key.backend for g in self.groups}
        if len(backends) == 1:
            return group.key.network
        return group.key.backend if len(networks) == 1 else ", ".join(group.key)


def of_grid(grid: Grid, results: Sequence[Result]) -> Comparison:
    """Return the comparison that `grid` asks for."""
    return Comparison(
        title=grid.name,
        results=tuple(results),
        about=grid.about,
        notes=(*grid.notes, *different_data(results), *different_losses(results)),
        baseline=grid.baseline,
        target=grid.target_accuracy,
        show=grid.show,
    )


def of_folders(folders: Sequence[Path]) -> Comparison:
    """Return the comparison of finished runs, and of the folders that `compare` left.

    A single folder of `compare` keeps its title and questions. Raises DataError or GridError.
    """
    grids = [folder for folder in folders if (folder / GRID).is_file()]
    results: list[Result] = []
    for folder in folders:
        results += _grid_results(folder) if folder in grids else [_single(folder)]
    if not results:
        raise DataError(f"{folders[0]}: holds no runs yet")
    lost = [note for result in results if (note := torn(result.folder)) is not None]
    if len(folders) == 1 and grids:
        grid = Grid.from_dict(read_fields(grids[0] / GRID), str(grids[0] / GRID))
        return of_grid(grid.model_copy(update={"notes": (*grid.notes, *lost)}), results)
    results = _told_apart(results)
    notes = tuple(dict.fromkeys(note for grid in grids for note in _notes(grid)))
    apart = different_data(results), different_validation(results), different_losses(results)
    notes = (*notes, *(note for kind in apart for note in kind), *lost)
    return Comparison("report", tuple(results), notes=notes)


def asked(
    comparison: Comparison,
    *,
    title: str | None = None,
    baseline: str | None = None,
    target: float | None = None,
    show: Literal["accuracy", "error"] | None = None,
) -> Comparison:
    """Return the comparison with other questions, where given. Raises GridError."""
    if baseline is not None:
        keys = [group.key for group in comparison.groups]
        known = {part for key in keys for part in (*key, "/".join(key))}
        if baseline not in known:
            rule = "is no network, backend or NETWORK/BACKEND of these runs"
            raise GridError(problem("--baseline", baseline, rule, did_you_mean(baseline, known)))
    wrong = None if show is None else not_one_of("--show", show, ("accuracy", "error"))
    if wrong is not None:
        raise GridError(wrong)
    if target is not None and not 0 < target < 1:
        raise GridError(problem("--target-accuracy", target, "must be > 0 and < 1"))
    return replace(
        comparison,
        title=title or comparison.title,
        baseline=baseline or comparison.baseline,
        target=target or comparison.target,
        show=show or comparison.show,
    )


def _grid_results(folder: Path) -> list[Result]:
    """Return the runs of a comparison's folder, in the order of its grid."""
    grid = Grid.from_dict(read_fields(folder / GRID), str(folder / GRID))
    runs = sorted((folder / RUNS).glob(f"*/{CELL}"))
    results = [read_result(path.parent) for path in runs]
    wanted = [r for r in results if r.group[0] in grid.labels and r.group[1] in grid.backends]

    def place(result: Result) -> tuple[int, int, int]:
        network, backend = result.group
        return grid.labels.index(network), grid.backends.index(backend), result.seed

    return sorted((r for r in wanted if r.seed in grid.seeds), key=place)


def _single(folder: Path) -> Result:
    """Return the run in `folder`, whether `compare` or `train` made it."""
    if (folder / CELL).is_file():
        return read_result(folder)
    if not (folder / SUMMARY).is_file():
        hint = "give folders that train or compare has left"
        raise DataError(f"{folder}: holds neither a finished run nor a comparison; {hint}")
    summary = read_summary(folder)
    assert summary is not None
    asked = summary.asked or _header(folder / LAST)
    held_out = summary.held_out
    cell: Fields = {
        "network": summary.spec,
        "backend": summary.backend,
        "seed": asked["recipe"]["seed"],
        "data": summary.data,
        "spec": asked["spec"],
        "recipe": asked["recipe"],
        "validation": None if held_out is None else held_out.get("fraction") or OWN,
    }
    return read_result(folder, cell)


def _header(path: Path) -> Fields:
    header = checkpoint_header(path) or checkpoint_header(path.with_name(PREVIOUS))
    if header is None:
        raise DataError(f"{path}: is needed for the run's recipe and seed, and is no checkpoint")
    if not header.get("recipe"):
        raise DataError(f"{path}: holds weights alone, and not where a run stands")
    return header


def _told_apart(results: Sequence[Result]) -> list[Result]:
    """Give runs of one name, but of other settings, names of their own."""
    told = zip(results, data_keys(results), chosen_by(results), strict=True)
    texts = [_settings(result, data, by) for result, data, by in told]
    settings: dict[str, list[str]] = {}
    for result, text in zip(results, texts, strict=True):
        found = settings.setdefault(result.cell["network"], [])
        if text not in found:
            found.append(text)
    named = [
        _named(result, text, settings[result.cell["network"]])
        for result, text in zip(results, texts, strict=True)
    ]
    counts = Counter((*result.group, result.seed) for result in named)
    for (network, backend, seed), count in counts.items():
        if count > 1:
            what = f"{network}, {backend}, seed {seed}"
            rule = f"has {count} runs with these settings, and one is compared"
            raise DataError(f"{what}: {rule}; leave out all but one")
    return named


def _settings(result: Result, data: str, by: tuple[float | str | None, str]) -> str:
    """Return what two runs of one name must have in common to differ by chance alone."""
    recipe = {key: value for key, value in result.cell["recipe"].items() if key != "seed"}
    recipe |= {"loss": without_place(recipe.get("loss") or {})}
    return json.dumps([result.cell["spec"], recipe, data, by], sort_keys=True)


def _named(result: Result, settings: str, found: Sequence[str]) -> Result:
    if len(found) == 1:
        return result
    place = found.index(settings) + 1
    network = f"{result.cell['network']} #{place} ({result.cell['recipe']['name']})"
    return replace(result, cell={**result.cell, "network": network})


def _notes(grid: Path) -> tuple[str, ...]:
    return Grid.from_dict(read_fields(grid / GRID), str(grid / GRID)).notes
