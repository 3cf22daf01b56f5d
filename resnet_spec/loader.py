"""Find and load backends by name through the entry points of the group `resnet_spec.backends`.

Listing imports none of them: what each needs and can do stands in its `manifest.toml` (`manifest`).
A backend of another distribution needs nothing but its entry point; without a manifest its package
is asked for `REQUIRES` and `PRECISIONS` once it is imported.
"""

from __future__ import annotations

import importlib.util
import inspect
import runpy
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from itertools import repeat
from pathlib import Path
from typing import Protocol, cast

from resnet_spec.contract import Precision, Session, State
from resnet_spec.errors import BackendError, check_kind, did_you_mean
from resnet_spec.manifest import FILE, Format, Manifest, claimed_formats, read_manifest
from resnet_spec.plan import Plan

GROUP = "resnet_spec.backends"


class Backend(Protocol):
    """What a backend's package offers (see `contract`)."""

    Session: type[Session]
    PRECISIONS: tuple[Precision, ...]

    def build(self, plan: Plan, state: State | None = None) -> object:
        """Return the framework's own module, holding `state` where given."""
        ...


def backend_names() -> list[str]:
    """Return the names of all backends that have an entry point, the reference first."""
    return sorted(_entries(), key=lambda name: (name != "numpy", name))


def installed_backends() -> list[str]:
    """Return the names of those backends whose framework can be found; imports none of them.

    One that `check_backend` refuses is not among them.
    """
    return [name for name in backend_names() if not (faults_of(name) or missing_of(name))]


def check_backend(name: str) -> None:
    """Raise BackendError where `name` is no one backend, or its framework is missing; imports none.

    The line has the nearest name, the distributions that claim one name, what is wrong with the
    manifest, or the command that installs the framework.
    """
    check_kind(BackendError, "backend", name, [str], "must be a backend's name")
    entries = _entries()
    if name not in entries:
        hint = did_you_mean(name, entries) or f"choose from {', '.join(backend_names())}"
        raise BackendError(f"backend = {name}: does not exist; {hint}")
    faults = faults_of(name)
    if faults:
        raise BackendError(*faults)
    missing = missing_of(name)
    if missing:
        found = manifest_of(name)
        raise BackendError(
            f"backend = {name}: needs {' and '.join(missing)}, not installed; "
            f"run: {found.install if found else ''}"
        )


def faults_of(name: str) -> list[str]:
    """Return why the backend `name` cannot be used, a line each, whatever else is installed.

    Two distributions claim the name, its package is not there, or its manifest breaks a rule.
    """
    if len(entries := _entries()[name]) > 1:
        # A distribution's name is read from its metadata, each time anew.
        claims = sorted(f"{_distribution(entry)} ({entry.value})" for entry in entries)
        rule = f"is the name of {len(claims)} backends, of {' and '.join(claims)}"
        return [f"backend = {name}: {rule}; uninstall all but one"]
    entry = entry_of(name)
    if not _is_entry_there(entry):
        rule = f"its entry point names {entry.value!r}, which is not there"
        return [f"backend = {name}: {rule}; reinstall or uninstall {_distribution(entry)}"]
    try:
        manifest_of(name)
    except BackendError as error:
        return list(error.problems)
    return []


def missing_of(name: str) -> list[str]:
    """Return which of the packages that the sound backend `name` requires are not installed."""
    found = manifest_of(name)
    return not_installed(found.requires if found else ())


def not_installed(packages: Iterable[str]) -> list[str]:
    """Return which of these top-level packages are not there; imports none of them."""
    return [package for package in packages if not _is_there(package)]


def load_backend(name: str) -> Backend:
    """Import the backend `name` and return its package. Raises BackendError as `check_backend`.

    Also where it cannot be imported, lacks a part, or a part cannot be called as `contract` says.
    """
    check_backend(name)
    entry = entry_of(name)
    try:
        package = entry.load()
    except (Exception, SystemExit) as cause:  # Somebody else's code may raise anything.
        why = _why(cause)
        where = f"cannot be imported from {entry.value}"
        raise BackendError(f"backend = {name}: {where}: {why}") from cause
    offered = ("Session", "build") if manifest_of(name) else _WITHOUT_MANIFEST
    lacking = [part for part in offered if not hasattr(package, part)]
    if lacking:
        raise BackendError(f"backend = {name}: {entry.value} lacks {', '.join(lacking)}")
    misfits = [line for line in map(_misfit, _CALLS, repeat(package)) if line]
    if misfits:
        raise BackendError(*(f"backend = {name}: {entry.value} offers {it}" for it in misfits))
    return cast(Backend, package)


def manifest_of(name: str) -> Manifest | None:
    """Return what the backend `name` says of itself; None where it has no manifest.

    Imports nothing of it. Raises BackendError for a manifest that breaks a rule.
    """
    return _manifest(name, entry_of(name).value)


@cache
def _manifest(name: str, package: str) -> Manifest | None:
    file = _file(package, FILE)
    return None if file is None else read_manifest(file, name)


def precisions_of(name: str) -> tuple[Precision, ...]:
    """Return what sessions of `name` compute in. Raises BackendError as `load_backend`.

    Imports the backend only where it has no manifest.
    """
    check_backend(name)
    found = manifest_of(name)
    return load_backend(name).PRECISIONS if found is None else found.precisions


def export_formats() -> dict[str, Format]:
    """Return the formats of exported models by name, of all backends that are as they should be."""
    return {
        kind: row for found in _sound_manifests().values() for kind, row in found.formats.items()
    }


def writers_of(kind: str) -> list[str]:
    """Return the backends that write the format `kind`: one, or those that quarrel over it."""
    return [name for name, found in _sound_manifests().items() if kind in found.formats]


def refused_writers(kind: str) -> dict[str, str]:
    """Return of the backends that cannot be used and write `kind` the first reason, by name."""
    faults = {name: faults_of(name) for name in backend_names()}
    return {
        name: told[0] for name, told in faults.items() if told and kind in _formats_claimed(name)
    }


def _formats_claimed(name: str) -> set[str]:
    files = (_file(entry.value, FILE) for entry in _entries()[name])
    return {kind for file in files if file for kind in claimed_formats(file)}


def dialect_of(name: str) -> str:
    """Return what the layers of the backend's framework call their tensors (see `Manifest`)."""
    found = manifest_of(name)
    return found.dialect if found is not None else ""


def module_classes() -> dict[str, tuple[str, ...]]:
    """Return by backend the classes of networks, `module.Class`, that its framework has."""
    return {name: found.modules for name, found in _sound_manifests().items() if found.modules}


def _sound_manifests() -> dict[str, Manifest]:
    found = {name: manifest_of(name) for name in backend_names() if not faults_of(name)}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def conditions_of(name: str, part: str = "conditions") -> list[str]:
    """Return what the backend `name` knows to be slow or wrong on this machine, a line each.

    Runs its file `conditions.py` alone: neither the backend nor its framework is imported.

    part: the function of that file; "of_framework" imports the framework, and asks it.
    """
    file = _file(entry_of(name).value, "conditions.py")
    if file is None:
        return []
    try:
        return list(runpy.run_path(str(file)).get(part, list)())
    except (Exception, SystemExit) as cause:  # Somebody else's code may raise anything.
        return [f"backend = {name}: {file.name} cannot be run: {_why(cause)}"]


def entry_of(name: str) -> EntryPoint:
    """Return the entry point of `name`; where several claim the name, the first of them."""
    return _entries()[name][0]


def _file(package: str, name: str) -> Path | None:
    """Return a file beside the package's `__init__.py`, without importing the package."""
    if not package.isidentifier():  # Finding it would import what it is in.
        return None
    found = importlib.util.find_spec(package)
    folders = (found and found.submodule_search_locations) or ()
    files = (Path(folder) / name for folder in folders)
    return next((file for file in files if file.is_file()), None)


_CALLS = {
    "Session": "Session(plan, recipe=None, *, device='auto', precision='float32', compile=False)",
    "build": "build(plan, state=None)",
}
"""How the core calls a package's parts, as the contract has it."""


def _misfit(part: str, package: object) -> str | None:
    """Return what is wrong with how `part` is called; None where it is right or does not show.

    Told from the signature alone: a TypeError from inside a sound one is its own.
    """
    try:
        signature = inspect.signature(getattr(package, part))
    except ValueError:  # As of what is written in C.
        return None
    except TypeError:
        return f"{part}, which cannot be called; the contract wants {_CALLS[part]}"
    try:
        if part == "Session":
            signature.bind("plan")
            signature.bind("plan", "recipe", device="", precision="", compile=False)
        else:
            signature.bind("plan")
            signature.bind("plan", "state")
    except TypeError as cause:
        rule = f"{part}{signature}: {cause}"
        return f"{' '.join(rule.split())}; the contract wants {_CALLS[part]}"
    return None


def _is_entry_there(entry: EntryPoint) -> bool:
    """Return whether the module is there, as far as can be told without importing any."""
    module = entry.value.partition(":")[0].partition("[")[0].strip()
    top = module.partition(".")[0]
    return top.isidentifier() and _is_there(top)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # It is loaded, by something that left no word of where it was found.
        return package in sys.modules


def _why(cause: BaseException) -> str:
    words = " ".join(str(cause).split())
    if isinstance(cause, SystemExit):
        return f"ends the process{f' with {words}' if words else ''}"
    return words or type(cause).__name__


_WITHOUT_MANIFEST = ("Session", "build", "REQUIRES", "PRECISIONS")


@cache
def _entries() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points by name; those of one distribution and module count once."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, {}).setdefault((_distribution(entry), entry.value), entry)
    return {name: tuple(claims.values()) for name, claims in found.items()}


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "no distribution"
