"""Grids from files, from studies by name, and from options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from resnet_spec.comparing.grid import Grid
from resnet_spec.data import list_datasets
from resnet_spec.describing.from_text import Fields, is_file_name, parse_text, read_file
from resnet_spec.errors import GridError, did_you_mean, problem


def list_studies() -> list[str]:
    """Return the names of the published comparisons that come with the package."""
    folder = files("resnet_spec.comparing").joinpath("studies")
    names = (file.name for file in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_grid(source: str | None, changes: Mapping[str, Any], *, scaled: bool = False) -> Grid:
    """Return the grid of a `.toml` or `.json` file, of a study, or (None) of `changes` alone.

    Paths in a file are relative to it. scaled: take the grid's smaller version. changes: fields
    that replace the grid's, with a note for each; `set` comes after the grid's. Raises GridError.
    """
    if source is None:
        if scaled:
            raise GridError("--scaled: is for a study or a file with a [scaled] table")
        lacking = [f"--{name}" for name in _NEEDED if _NEEDED[name] not in changes]
        if lacking:
            hint = f"give GRID.toml, a study ({', '.join(list_studies())}) or options"
            raise GridError(f"{', '.join(lacking)}: required without a grid; {hint}")
        return Grid.from_dict(dict(changes))
    original = _read(source)
    grid = original.scaled_down() if scaled else original
    more = dict(changes)
    if "set" in more:
        more["set"] = [*grid.set, *more["set"]]
    return grid.changed(more).noted(original, scaled=scaled)


_NEEDED = {"specs": "networks", "backends": "backends"}


def _read(source: str) -> Grid:
    path = Path(source)
    if is_file_name(path):
        data = {"name": path.stem, **read_file(path, GridError)}
        return Grid.from_dict(_relative_to(path.parent, data), path.name)
    studies = list_studies()
    if source not in studies:
        rule = "is neither a study nor a .toml or .json file"
        raise GridError(problem("grid", source, rule, did_you_mean(source, studies)))
    file = files("resnet_spec.comparing").joinpath("studies", f"{source}.toml")
    data = parse_text(file.read_text(encoding="utf-8"), f"{source}.toml", GridError)
    return Grid.from_dict({"name": source, **data}, source)


def _relative_to(folder: Path, data: Fields) -> Fields:
    """Return the fields of a file in `folder` with its relative paths made right from here."""
    found = {key: _placed(folder, key, value) for key, value in data.items()}
    scaled = found.get("scaled")
    if isinstance(scaled, dict):
        found["scaled"] = _relative_to(folder, cast(Fields, scaled))
    return found


def _placed(folder: Path, key: str, value: Any) -> Any:
    match key, value:
        case "networks", list():
            return [_network_in(folder, network) for network in cast(list[Any], value)]
        case "recipe", str() if is_file_name(value):
            return str(folder / value)
        case "data", str() if value not in list_datasets():
            return str(folder / value)
        case _:
            return value


def _network_in(folder: Path, network: Any) -> Any:
    if isinstance(network, str):
        return str(folder / network) if is_file_name(network) else network
    if not isinstance(network, dict):
        return network
    table = cast(Fields, network)
    return {**table, "spec": _network_in(folder, table["spec"])} if "spec" in table else table
