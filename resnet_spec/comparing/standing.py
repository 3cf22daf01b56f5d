"""Where a cell's run stands in its folder, and whether what is there belongs to the cell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal, cast

from resnet_spec.comparing.cells import Cell
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.describing.from_text import Fields
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import DataError, GridError, ResnetSpecError
from resnet_spec.recipe import Recipe
from resnet_spec.running.run_folder import SUMMARY, RunFolder
from resnet_spec.running.runs import Summary
from resnet_spec.weights.checkpoint import checkpoint_header, dataset_of

Standing = Literal["new", "partial", "complete"]
"""Nothing to go on from; a last checkpoint to resume; done."""


def standing(cell: Cell) -> Standing:
    """Return where the run of `cell` stands. Raises GridError for a folder with another run."""
    place = cell.place
    if not place.holds_run and not place.summary.exists():
        return "new"  # What is there, if anything, is of a try that came to nothing.
    if not place.cell.is_file():
        raise _other(place.path, "a run that no comparison started")
    _check_same(cell, read_fields(place.cell))
    summary = sound_summary(place.path)
    if summary is not None and summary.complete:
        _check_summary(cell, summary)
        return "complete"
    return "new" if place.found_last() is None else "partial"


def read_summary(folder: Path) -> Summary | None:
    """Return the summary of the run in `folder`, None before there is one.

    Raises GridError for one that is damaged.
    """
    path = folder / SUMMARY
    if not path.is_file():
        return None
    try:
        return Summary.from_dict(read_fields(path))
    except (DataError, GridError) as error:
        why = str(error).removeprefix(f"{path}: ").removeprefix("summary: ")
        remedy = f"make it anew: resnet-spec train --resume {shlex.quote(str(folder))}"
        raise GridError(f"{path}: is damaged ({why}); {remedy}") from None


def sound_summary(folder: Path) -> Summary | None:
    """Return the summary; None, too, for a damaged one, which the run makes anew."""
    try:
        return read_summary(folder)
    except GridError:
        return None


def read_fields(path: Path) -> Fields:
    """Return the table in a JSON file that a run left. Raises GridError."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GridError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise GridError(f"{path}: holds no table")
    return cast(Fields, value)


def _check_same(cell: Cell, found: Fields) -> None:
    """Compare field by field, the spec and the recipe as they are read today.

    Fields that a spec or a recipe has got since the cell was written have their defaults.
    """
    wanted = _flat(cell.to_dict())
    try:
        spec = Spec.from_dict(found["spec"]).to_dict()
        recipe = Recipe.from_dict(found["recipe"]).to_dict()
    except (KeyError, TypeError, ResnetSpecError) as error:
        raise GridError(f"{cell.place.cell}: describes no run: {error}") from None
    there = _flat({**found, "spec": spec, "recipe": recipe})
    different = [key for key in wanted if key != "data" and wanted[key] != there.get(key)]
    known = _dataset(cell.place)
    if known is not None:
        _check_data(cell, known)
    elif not _same_data(cell.run.data_name, str(found.get("data"))):
        different.append("data")
    if different:
        key = different[0]
        more = f" ({len(different)} fields differ)" if len(different) > 1 else ""
        told = f"a run with {key} = {there.get(key)}, and the grid says {wanted[key]}{more}"
        raise _other(cell.folder, told)


def _dataset(place: RunFolder) -> Fingerprint | None:
    """Return the identity of the data of the run in `place`; None where it is not known.

    A damaged summary, which the run makes anew, does not say; its checkpoint does.
    """
    summary, last = sound_summary(place.path), place.found_last()
    if summary is not None:
        fields: Fields | None = {"dataset": summary.dataset}
    else:
        fields = None if last is None else checkpoint_header(last)
    try:
        return dataset_of(fields or {})
    except DataError:
        return None


def _check_data(cell: Cell, known: Fingerprint) -> None:
    now = cell.run.dataset
    own = now.splits.get("validation")
    if own is not None and "validation" not in known.splits and own == known.splits.get("test"):
        what = f"a run that was tested on what is the validation part of {cell.run.data_name}"
        raise _other(cell.folder, f"{what} (PATH@NAME is that part alone)")
    changes = known.changes(now)
    if changes:
        what = f"a run on other data than {cell.run.data_name} is now"
        raise _other(cell.folder, f"{what} ({'; '.join(changes)})")


def _check_summary(cell: Cell, summary: Summary) -> None:
    run = cell.run
    pairs = (
        ("backend", summary.backend, run.backend),
        ("spec", summary.spec, run.spec.name),
        ("recipe", summary.recipe, run.recipe.name),
        ("steps", run.total_steps if summary.stopped_early else summary.steps, run.total_steps),
    )
    for key, there, wanted in pairs:
        if there != wanted:
            told = f"a summary with {key} = {there}, and the grid says {wanted}"
            raise _other(cell.folder, told)


def _other(folder: Path, what: str) -> GridError:
    remedy = "name another --out, or remove the folder"
    return GridError(f"{folder}: holds {what}; {remedy}")


def _same_data(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _flat(fields: Fields, before: str = "") -> Fields:
    flat: Fields = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(cast(Fields, value), f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat
