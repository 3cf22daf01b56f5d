"""What a backend brings to `resnet-spec bench`: the table `bench` of its manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from resnet_spec.bench import Mode
from resnet_spec.errors import did_you_mean
from resnet_spec.manifest_reader import TableReader


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's network in the backend's framework, to be measured beside ours.

    make: the function that takes a `bench.Case`, as `module:function`. needs: top-level packages
    beside the backend's own. install: the command that installs them. modes: what it does. backend:
    whose manifest it stands in, "" for a runtime of the core's. format: of the exported model that
    such a one runs; "" where a peer has a network of its own.
    """

    backend: str
    make: str
    needs: tuple[str, ...] = ()
    install: str = ""
    modes: tuple[str, ...] = get_args(Mode)
    format: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Functions of the backend's package, as `module:function`, all optional, and its peers.

    product: takes a `bench.Case` and returns a `bench.Product`. memory: returns the bytes that the
    device held at the most, None where that is unknown. profile: takes a `bench.Case`, a session, a
    turn that is to be taken under the framework's profiler, and its number of steps; returns a
    `bench.Profile`. peers: by name.
    """

    product: str = ""
    memory: str = ""
    profile: str = ""
    peers: Mapping[str, Peer] = field(default_factory=dict[str, Peer])


_KEYS = ("product", "memory", "profile", "peers")
_PEER_KEYS = ("make", "needs", "install", "modes")


def read_bench(reader: TableReader, table: Mapping[str, Any], backend: str) -> Bench:
    """Return what `table`, a whole manifest, says under `bench`; its faults go to `reader`."""
    found = _table(reader, table, "bench")
    reader.check_keys("bench.", found, _KEYS)
    peers = _table(reader, found, "peers", "bench.")
    return Bench(
        product=_function(reader, found, "product", "bench.", required=False),
        memory=_function(reader, found, "memory", "bench.", required=False),
        profile=_function(reader, found, "profile", "bench.", required=False),
        peers={name: _peer(reader, name, peers, backend) for name in peers},
    )


def _peer(reader: TableReader, name: str, peers: Mapping[str, Any], backend: str) -> Peer:
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        reader.say("bench.peers", f"{name!r} is no plain word", "use letters, digits, - and _")
        return Peer(backend, "")
    where = f"bench.peers.{name}."
    row = _table(reader, peers, name, "bench.peers.")
    reader.check_keys(where, row, _PEER_KEYS)
    needs = reader.packages(row, "needs", where)
    return Peer(
        backend=backend,
        make=_function(reader, row, "make", where),
        needs=needs,
        install=reader.text(row, "install", where, required=bool(needs)),
        modes=_modes(reader, row, where),
    )


def _table(
    reader: TableReader, table: Mapping[str, Any], key: str, where: str = ""
) -> dict[str, Any]:
    value: object = table.get(key, {})
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    reader.say(f"{where}{key}", reader.rule(value, "a table"))
    return {}


def _function(
    reader: TableReader, table: Mapping[str, Any], key: str, where: str, *, required: bool = True
) -> str:
    found = reader.text(table, key, where, required=required)
    if found and not is_function(found):
        reader.say(f"{where}{key}", f"{found!r} is no function as module:function")
    return found


def is_function(text: str) -> bool:
    """Return whether `text` has the form `package.module:function`."""
    module, _, function = text.partition(":")
    parts = (*module.split("."), *function.split("."))
    return all(part.isidentifier() for part in parts)


def _modes(reader: TableReader, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    known = get_args(Mode)
    found = reader.names(row, "modes", where) or known
    for name in found:
        if name not in known:
            rule = f"{name!r} is not one of {', '.join(known)}"
            reader.say(f"{where}modes", rule, did_you_mean(name, known))
    return found
