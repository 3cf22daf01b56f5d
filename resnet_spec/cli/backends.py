"""List the backends, with the frameworks they need; imports none of them."""

from __future__ import annotations

import argparse
import json
import re
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from typing import NamedTuple

from resnet_spec.cli.arguments import add_format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print each backend's name, whether it can be used, and the versions of what it needs."""
    from resnet_spec.loader import GROUP, backend_names, installed_backends

    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    installed = installed_backends()
    rows = [_row(entries[name], name in installed) for name in backend_names()]
    if args.format == "json":
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        print(_table(rows))
    return 0


class _Row(NamedTuple):
    name: str
    package: str
    distribution: str
    installed: bool
    versions: dict[str, str | None]


def _row(entry: EntryPoint, is_installed: bool) -> _Row:
    distribution = entry.dist.name if entry.dist else ""
    versions = {package: _version(package) for package in _needs(distribution, entry.name)}
    return _Row(entry.name, entry.value, distribution, is_installed, versions)


def _needs(distribution: str, extra: str) -> list[str]:
    """Return what the extra named like the backend asks for; NumPy where there is none."""
    marker = re.compile(rf"([\w.-]+).*;.*\bextra == ['\"]{re.escape(extra)}['\"]")
    found = [marker.match(requirement) for requirement in requires(distribution) or ()]
    return [match[1] for match in found if match] or ["numpy"]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _table(rows: list[_Row]) -> str:
    from resnet_spec.describe_text import table

    heads = ("backend", "state", "needs")
    return "\n".join(table([heads, *(_cells(row) for row in rows)]))


def _cells(row: _Row) -> tuple[str, str, str]:
    needs = ", ".join(f"{name} {number or '(missing)'}" for name, number in row.versions.items())
    if row.installed:
        return row.name, "installed", needs
    return row.name, "missing", f"{needs}; pip install '{row.distribution}[{row.name}]'"
