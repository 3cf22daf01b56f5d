"""List the backends, with the frameworks they need and what is wrong with them here.

Imports none of them; with --check each is imported, and run, in a process of its own.
"""

from __future__ import annotations

import argparse
import re
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from typing import NamedTuple

from resnet_spec.cli.arguments import add_format
from resnet_spec.files.json_text import json_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--check",
        action="store_true",
        help="start each backend and run a tiny network on its device; exit 1 where one fails",
    )
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print each backend's name, whether it can be used, and the versions of what it needs.

    Below it, what is known to be slow or wrong on this machine, with the remedy.
    """
    from resnet_spec.loader import backend_names, entry_of, installed_backends

    installed = installed_backends()
    rows = [_row(entry_of(name), name in installed, args.check) for name in backend_names()]
    if args.format == "json":
        print(json_text([row._asdict() for row in rows], indent=2))
    else:
        print(_table(rows))
        for row in rows:
            for line in row.notes:
                print(f"note: {row.name}: {line}")
    return int(any(row.installed and row.works is False for row in rows))


class _Row(NamedTuple):
    name: str
    package: str
    distribution: str
    installed: bool
    versions: dict[str, str | None]
    notes: list[str]
    works: bool | None
    """Whether a network ran; None where that was not tried; False where it cannot be loaded."""
    info: dict[str, str]
    """What the session said of itself when it ran."""


def _row(entry: EntryPoint, is_installed: bool, is_checked: bool) -> _Row:
    from resnet_spec.loader import conditions_of, faults_of, missing_of

    distribution = entry.dist.name if entry.dist else ""
    versions = {package: _version(package) for package in _needs(entry)}
    info = dict[str, str]()
    faults = tuple(faults_of(entry.name))
    if not faults and None not in versions.values():
        # A backend of another distribution may need what no extra of its name asks for.
        versions |= dict.fromkeys(missing_of(entry.name))
    notes = [*faults, *conditions_of(entry.name)]
    works = False if faults else None
    if is_installed and is_checked:
        from resnet_spec.running.trial import tried

        found = tried(entry.name)
        works, info = found.works, found.info
        notes = [*notes, *(line for line in found.notes if line not in notes)]
    named = entry.name, entry.value, distribution
    return _Row(*named, is_installed, versions, notes, works, info)


def _needs(entry: EntryPoint) -> list[str]:
    """Return what the extra named like the backend asks for; NumPy where there is none."""
    marker = re.compile(rf"([\w.-]+).*;.*\bextra == ['\"]{re.escape(entry.name)}['\"]")
    required = entry.dist.requires if entry.dist else None
    found = [marker.match(requirement) for requirement in required or ()]
    return [match[1] for match in found if match] or ["numpy"]


def _install(name: str) -> str:
    from resnet_spec.loader import manifest_of

    found = manifest_of(name)
    return found.install if found else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _table(rows: list[_Row]) -> str:
    from resnet_spec.printing.columns import GAP, hanging, padded
    from resnet_spec.printing.consoles import table_width

    cells = [("backend", "state", "needs"), *(_cells(row) for row in rows)]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    starts = (padded(a, wide[0]) + GAP + padded(b, wide[1]) + GAP for a, b, _ in cells)
    told = zip(starts, (needs for _, _, needs in cells), strict=True)
    width = table_width()
    return "\n".join(line for start, needs in told for line in hanging(start, needs, width))


def _cells(row: _Row) -> tuple[str, str, str]:
    needs = ", ".join(f"{name} {number or '(missing)'}" for name, number in row.versions.items())
    if row.works is False:
        return row.name, "fails", needs
    if not row.installed:
        return row.name, "missing", f"{needs}; {_install(row.name)}"
    if row.works is None:
        return row.name, "installed", needs
    isa = f", {row.info['isa']}" if "isa" in row.info else ""
    return row.name, f"works on {row.info['device']}{isa}", needs
