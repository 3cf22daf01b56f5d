"""Processes wait for each other before JAX does: where one stays away, JAX ends them by a signal.

Rank 0 listens where JAX is about to, hears the rank of each of the others, and tells them when all
are there.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack

from resnet_spec.group import Group, unmet

_HELLO = "resnet-spec: rank {:6d} of {:6d}"
_ANSWER = b"all are there"
_AGAIN_S = 0.1
_HELLO_S = 5.0
"""How long somebody who came may take to say who it is."""


def meet(group: Group, seconds: float) -> None:
    """Return when all processes of `group` are there. Raises BackendError after `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        if group.rank == 0:
            _hear_of_all(group, deadline)
        else:
            _report(group, deadline)
    except OSError as error:
        rule = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise unmet(group, rule) from None


def _hear_of_all(group: Group, deadline: float) -> None:
    """Wait for every other rank, then tell all of them."""
    came: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        server = stack.enter_context(_server(int(group.address.rpartition(":")[2])))
        while absent := [rank for rank in range(1, group.size) if rank not in came]:
            server.settimeout(_left(deadline))
            try:
                one = stack.enter_context(server.accept()[0])
            except TimeoutError:
                raise unmet(group, f"{_ranks(absent)} did not come") from None
            rank = _rank_of(one, group)
            if rank is not None and rank not in absent:
                raise unmet(group, f"another process says that it is rank {rank}, too")
            if rank is not None:
                came[rank] = one
        for one in came.values():
            one.sendall(_ANSWER)
        for one in came.values():  # Who hangs up first keeps the port for a while.
            one.settimeout(_HELLO_S)
            _received(one, 1)


def _report(group: Group, deadline: float) -> None:
    """Tell rank 0 who this is, and wait until it has heard of all."""
    with _reached(group, deadline) as one:
        one.settimeout(_left(deadline) + _HELLO_S)  # Rank 0 is the one to say who is missing.
        one.sendall(_HELLO.format(group.rank, group.size).encode())
        if _received(one, len(_ANSWER)) != _ANSWER:
            raise unmet(group, "rank 0 gave up, or something else answers there")


def _reached(group: Group, deadline: float) -> socket.socket:
    """Return a connection to rank 0, which may come later than this process."""
    host, _, port = group.address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=_HELLO_S)
        except OSError as error:
            if _left(deadline) <= _AGAIN_S:
                raise unmet(group, f"rank 0 is not there ({error.strerror or error})") from None
            time.sleep(_AGAIN_S)


def _rank_of(one: socket.socket, group: Group) -> int | None:
    """Return who has come; None for somebody else. Raises BackendError for another group's."""
    one.settimeout(_HELLO_S)
    try:
        said = _received(one, len(_HELLO.format(0, 0)))
    except OSError:
        return None
    found = re.fullmatch(rb"resnet-spec: rank +(\d+) of +(\d+)", said)
    if found is None:
        return None
    rank, size = (int(number) for number in found.groups())
    if size != group.size:
        raise unmet(group, f"rank {rank} there is one of {size} processes")
    return rank


def _received(one: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes; fewer where the other side hangs up."""
    found = b""
    while len(found) < count and (more := one.recv(count - len(found))):
        found += more
    return found


def _server(port: int) -> socket.socket:
    """Listen on every address of this machine, as JAX does."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
