"""Find and load backends by name through the entry points of the group `resnet_spec.backends`.

Listing imports none of them; loading one whose framework is missing says how to install it. A
backend of another distribution needs nothing but its entry point.
"""

from __future__ import annotations

import importlib.util
import runpy
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast

from resnet_spec.contract import Precision, Session, State
from resnet_spec.errors import BackendError, did_you_mean
from resnet_spec.plan import Plan

GROUP = "resnet_spec.backends"


class Backend(Protocol):
    """What a backend's package offers (see `contract`)."""

    Session: type[Session]
    REQUIRES: tuple[str, ...]
    PRECISIONS: tuple[Precision, ...]

    def build(self, plan: Plan, state: State | None = None) -> object:
        """Return the framework's own module, holding `state` where given."""
        ...


def backend_names() -> list[str]:
    """Return the names of all backends that have an entry point, the reference first."""
    return sorted(_entries(), key=lambda name: (name != "numpy", name))


def installed_backends() -> list[str]:
    """Return the names of those backends whose framework can be found; imports none of them."""
    return [name for name in backend_names() if not _missing(name)]


def check_backend(name: str) -> None:
    """Raise BackendError where there is no backend `name`, or no framework; imports neither.

    The line has the nearest name, or the command that installs the framework.
    """
    entries = _entries()
    if name not in entries:
        hint = did_you_mean(name, entries) or f"choose from {', '.join(backend_names())}"
        raise BackendError(f"backend = {name}: does not exist; {hint}")
    missing = _missing(name)
    if missing:
        raise BackendError(
            f"backend = {name}: needs {' and '.join(missing)}, not installed; "
            f"run: pip install 'resnet-spec[{name}]'"
        )


def load_backend(name: str) -> Backend:
    """Import the backend `name` and return its package. Raises BackendError as `check_backend`."""
    check_backend(name)
    entries = _entries()
    module = entries[name].value
    try:
        package = entries[name].load()
    except Exception as cause:  # Somebody else's code may raise anything.
        why = _why(cause)
        raise BackendError(f"backend = {name}: cannot be imported from {module}: {why}") from cause
    lacking = [part for part in _OFFERED if not hasattr(package, part)]
    if lacking:
        raise BackendError(f"backend = {name}: {module} lacks {', '.join(lacking)}")
    return cast(Backend, package)


def conditions_of(name: str, part: str = "conditions") -> list[str]:
    """Return what the backend `name` knows to be slow or wrong on this machine, a line each.

    Runs its file `conditions.py` alone: neither the backend nor its framework is imported.

    part: the function of that file; "of_framework" imports the framework, and asks it.
    """
    package = _entries()[name].value
    if "." in package:  # Finding it would import what it is in.
        return []
    found = importlib.util.find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / "conditions.py"
        if file.is_file():
            try:
                return list(runpy.run_path(str(file)).get(part, list)())
            except Exception as cause:  # Somebody else's code may raise anything.
                return [f"backend = {name}: {file.name} cannot be run: {_why(cause)}"]
    return []


def _why(cause: Exception) -> str:
    return " ".join(str(cause).split()) or type(cause).__name__


_OFFERED = ("Session", "build", "REQUIRES", "PRECISIONS")


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


# What our own backends need, so that a missing framework is seen without importing the backend.
_FRAMEWORKS = {
    "resnet_spec_torch": ("torch",),
    "resnet_spec_flax": ("jax", "flax", "optax"),
    "resnet_spec_mindspore": ("mindspore",),
}


def _missing(name: str) -> list[str]:
    needed = _FRAMEWORKS.get(_entries()[name].value, ())
    return [package for package in needed if importlib.util.find_spec(package) is None]
