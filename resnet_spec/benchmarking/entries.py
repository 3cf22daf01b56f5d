"""Who is measured: backends, peers by the names that manifests give them, and anybody's own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from resnet_spec.bench import Mode
from resnet_spec.benchmarking.runtimes import RUNTIMES
from resnet_spec.contract import Precision
from resnet_spec.describing.text_lists import once_each
from resnet_spec.errors import BackendError, nearest, problem
from resnet_spec.exporting import format_of
from resnet_spec.loader import (
    backend_names,
    check_backend,
    faults_of,
    installed_backends,
    manifest_of,
    missing_of,
    not_installed,
    precisions_of,
)
from resnet_spec.manifest_bench import Peer, is_function


@dataclass(frozen=True)
class Entry:
    """One who is measured.

    backend: whose sessions take the turns, or in whose manifest a peer stands; "" for a person's
    own. make: a peer's factory; "" where it is a backend. format: of the exported model that a peer
    runs; "" for none.
    """

    name: str
    backend: str = ""
    make: str = ""
    format: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is a backend, and no peer."""
        return not self.make

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the asker's own, and no ready-made peer."""
        return self.make == self.name


class Entries(NamedTuple):
    """Those who can be started, and of the others a line each."""

    all: list[Entry]
    left_out: list[str]


def entries_of(
    backends: Sequence[str], against: Sequence[str], mode: Mode, precision: Precision
) -> Entries:
    """Return who is measured; imports no framework.

    against: names of peers, or `package.module:factory`. A peer that is not installed, or does not
    do what is asked, is left out. Raises BackendError for a backend that cannot be used or does not
    compute in `precision`, and for a peer that nobody knows.
    """
    once_each(backends, "--backends", BackendError)
    once_each(against, "--against", BackendError)
    for name in backends:
        _check_precision(name, precision)
    found, left_out, known = [Entry(name, name) for name in backends], list[str](), peers()
    for name in against:
        if ":" in name:
            _check_own(name)
            found.append(Entry(name, make=name))
            continue
        _check_known(name, known, mode)
        peer = known[name]
        reason = _reason(peer, mode)
        if reason:
            left_out.append(f"{name}: left out: {reason}")
        else:
            found.append(Entry(name, peer.backend, peer.make, peer.format))
    return Entries(found, left_out)


def check_profiled(entries: Sequence[Entry]) -> None:
    """Raise BackendError where none of `entries` is a backend that brings a profile."""
    if not any(_brings_profile(entry.backend) for entry in entries if entry.is_ours):
        able = ", ".join(name for name in installed_backends() if _brings_profile(name)) or "none"
        names = ", ".join(entry.name for entry in entries) or "nobody"
        remedy = f"installed backends that do: {able}"
        raise BackendError(
            problem("--profile", names, "brings no profile (peers never do)", remedy)
        )


def _brings_profile(backend: str) -> bool:
    found = manifest_of(backend)
    return found is not None and bool(found.bench.profile)


def peers() -> dict[str, Peer]:
    """Return the peers of all backends that are as they should be, and the runtimes, by name.

    Raises BackendError where two claim one name.
    """
    found = dict(RUNTIMES)
    for backend in backend_names():
        manifest = None if faults_of(backend) else manifest_of(backend)
        if manifest is None:
            continue
        for name, peer in manifest.bench.peers.items():
            if name in found:
                both = f"{found[name].backend or 'this project'} and {backend}"
                raise BackendError(f"peer = {name}: is claimed by {both}; uninstall one of them")
            found[name] = peer
    return found


def usable_peers(known: Mapping[str, Peer], mode: Mode) -> list[str]:
    """Return the names of those peers that are installed and do what `mode` says."""
    return [name for name, peer in known.items() if not _reason(peer, mode)]


def _check_precision(name: str, precision: Precision) -> None:
    check_backend(name)
    known = precisions_of(name)
    if precision not in known:
        rule = f"{name} computes in {', '.join(known)}"
        raise BackendError(problem("--precision", precision, rule, "leave that backend out"))


def _check_own(target: str) -> None:
    if not is_function(target):
        raise BackendError(problem("--against", target, "must be package.module:factory"))
    top = target.partition(":")[0].partition(".")[0]
    here = Path.cwd() / top
    is_here = here.with_suffix(".py").is_file() or here.is_dir()
    if not is_here and top not in sys.modules and importlib.util.find_spec(top) is None:
        remedy = f"run it from the folder of {top}"
        raise BackendError(problem("--against", target, f"there is no module {top}", remedy))


def _check_known(name: str, known: Mapping[str, Peer], mode: Mode) -> None:
    if name in known:
        return
    usable = ", ".join(usable_peers(known, mode)) or "none"
    close = nearest(name, known)
    hint = f"did you mean '{close}'? " if close else ""
    remedy = f"{hint}installed to {mode}: {usable}; or give package.module:factory"
    if name in backend_names():
        remedy = "it is a backend; give it to --backends"
    raise BackendError(problem("--against", name, "is no peer", remedy))


def _reason(peer: Peer, mode: Mode) -> str:
    """Return why a peer cannot be started, "" where it can."""
    if mode not in peer.modes:
        return f"it does not {mode}, but {' and '.join(peer.modes)}s"
    missing = missing_of(peer.backend) if peer.backend else []
    if missing:
        found = manifest_of(peer.backend)
        remedy = found.install if found else ""
        return f"{' and '.join(missing)}, not installed; run: {remedy}"
    missing = not_installed(peer.needs)
    if missing:
        return f"{' and '.join(missing)}, not installed; run: {peer.install}"
    if peer.format:
        exported = format_of(peer.format)
        missing = not_installed(exported.needs)
        if missing:
            return f"{' and '.join(missing)}, not installed; run: {exported.install}"
    return ""
