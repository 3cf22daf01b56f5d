"""What processes say to each other as they meet, and how they are connected; see `roll_call`."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from resnet_spec.group import Group, unmet

Things = Mapping[str, str]
"""What a process is to do: a word for each name, the same in all processes of a run."""

HELLO_S = 5.0
"""How long somebody who came may take to say who it is."""
_SIGN = b"resnet-spec roll call 1 "
_LENGTH = 8
"""Digits of a message's length, which follow the sign."""
_MOST_BYTES = 1 << 16
_AGAIN_S = 0.05


@dataclass(frozen=True)
class Hello:
    """What a process says that comes to rank 0. failed: why it cannot take part, if so."""

    rank: int
    size: int
    things: Things
    failed: Sequence[str]

    @staticmethod
    def heard(one: socket.socket) -> Hello | None:
        """Return what a process says; None for somebody else."""
        said = read(one, HELLO_S) or {}
        rank, size, things = said.get("rank"), said.get("size"), said.get("things", {})
        if not (isinstance(rank, int) and isinstance(size, int) and 0 <= rank < size):
            return None
        if not isinstance(things, dict):
            return None
        named = cast("dict[str, object]", things)
        words = {name: word for name, word in named.items() if isinstance(word, str)}
        return Hello(rank, size, words, texts(said.get("failed")))


def send(one: socket.socket, message: Mapping[str, Any]) -> None:
    """Send a message, plain JSON."""
    data = json.dumps(message).encode()
    one.sendall(_SIGN + b"%0*d" % (_LENGTH, len(data)) + data)


def read(one: socket.socket, seconds: float) -> dict[str, Any] | None:
    """Return the next message; None for what is none, or does not come in time."""
    deadline = time.monotonic() + seconds
    try:
        start = _received(one, len(_SIGN) + _LENGTH, deadline)
        found = re.fullmatch(re.escape(_SIGN) + rb"(\d+)", start)
        if found is None or int(found[1]) > _MOST_BYTES:
            return None
        message: object = json.loads(_received(one, int(found[1]), deadline))
    except (OSError, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", message) if isinstance(message, dict) else None


def _received(one: socket.socket, count: int, deadline: float) -> bytes:
    """Return the next `count` bytes; fewer where the other side hangs up."""
    found = b""
    while len(found) < count:
        one.settimeout(left(deadline))
        more = one.recv(count - len(found))
        if not more:
            break
        found += more
    return found


def answer(
    to: Sequence[socket.socket], lines: Sequence[str], why: str = "", *, is_lost: bool = False
) -> None:
    """Tell how it went, and wait until each has hung up: who hangs up first keeps the port."""
    message = {"lines": list(lines), "why": why, "lost": is_lost}
    for one in to:
        with suppress(OSError):
            one.settimeout(HELLO_S)
            send(one, message)
    for one in to:
        with suppress(OSError):
            one.recv(1)


def texts(value: object) -> list[str]:
    """Return the texts of a list, with nothing in them that a terminal obeys."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    plain = (item for item in items if isinstance(item, str))
    return ["".join(c if c.isprintable() else " " for c in item) for item in plain]


def server(group: Group) -> socket.socket:
    """Listen on every address of this machine, as engines do. Raises OSError."""
    port, backlog = int(group.address.rpartition(":")[2]), max(group.size, 16)
    if socket.has_dualstack_ipv6():
        family = socket.AF_INET6
        return socket.create_server(("", port), family=family, backlog=backlog, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=backlog)


def reached(group: Group, deadline: float) -> socket.socket:
    """Return a connection to rank 0, which may come later than this process.

    Raises BackendError where it has not come at `deadline`.
    """
    host, _, port = group.address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=HELLO_S)
        except OSError as error:
            if left(deadline) <= _AGAIN_S:
                raise unmet(group, f"rank 0 is not there ({error.strerror or error})") from None
            time.sleep(_AGAIN_S)


def left(deadline: float) -> float:
    """Return the seconds until `deadline`, at least a few: 0 would mean not to wait at all."""
    return max(deadline - time.monotonic(), 0.001)
