"""Several processes of one run started on this machine, and ended together.

Each is the command again, told by the environment which of them it is (`found_group`). Once one
fails, the others wait for it in vain: they are killed, for whatever they have not saved is lost
with it anyway.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any, NamedTuple

from resnet_spec.errors import LOST_STATUS, BackendError, problem
from resnet_spec.group import Group
from resnet_spec.running.child_processes import (
    command_of,
    environment_with,
    signal_name,
    threads_of_each,
    usable_processors,
)
from resnet_spec.running.under_launcher import LAUNCHER

INTERRUPTED = 130
_FEW, _OF_EACH = 64, 4
"""Processes that any machine may have, and those of each of its processors."""
_LOOK_S = 0.05
_STOPPED_S = 10.0
"""How long a process may be stopped, as by SIGSTOP, before it counts as lost."""
_NOTICED_S = 5.0
"""How long processes on other machines are given to notice that one here was lost, and to end.

Those that are started again would meet them, and be lost with them.
"""
_PATIENCE_S = 60.0
"""How long processes may take to end after one has ended as it should, or after Ctrl-C twice."""


@dataclass(frozen=True)
class Launch:
    """Processes to start here, and their place among those of other machines.

    processes: on each machine. nodes: machines. node: this one's place. address: "HOST:PORT" at
    which the first process of the first machine is met; "" on one machine: a free port here.
    """

    processes: int
    nodes: int = 1
    node: int = 0
    address: str = ""

    def check(self, restarts: int = 0) -> None:
        """Raise BackendError for numbers that make no group."""
        lines = [
            problem(option, value, "must be >= 1")
            for option, value in (("--processes", self.processes), ("--nodes", self.nodes))
            if value < 1
        ]
        most = max(_FEW, _OF_EACH * usable_processors())
        if self.processes > most:
            rule = f"must be at most {most} on a machine with {usable_processors()} processors"
            lines.append(problem("--processes", self.processes, rule))
        if restarts < 0:
            lines.append(problem("--max-restarts", restarts, "must be >= 0"))
        if not lines and not 0 <= self.node < self.nodes:
            rule = f"must be 0..{self.nodes - 1}, this machine's place among --nodes {self.nodes}"
            lines.append(problem("--rank", self.node, rule))
        if self.nodes > 1 and not self.address:
            lines.append("--address: is required with --nodes; give HOST:PORT of the first machine")
        host, _, port = self.address.rpartition(":")
        if self.address and not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            lines.append(problem("--address", self.address, "must be HOST:PORT"))
        if lines:
            raise BackendError(*lines)

    def group(self) -> Group:
        """Return the first process here as one of all, before there are any."""
        first = self.node * self.processes
        return Group(first, self.processes * self.nodes, self.address)

    def environments(self) -> Iterator[dict[str, str]]:
        """Yield the environment of each process here."""
        address = self.address or f"127.0.0.1:{_free_port()}"
        host, _, port = address.rpartition(":")
        common = environment_with(threads_of_each(self.processes))
        common |= {"WORLD_SIZE": str(self.processes * self.nodes)}
        common |= {"MASTER_ADDR": host, "MASTER_PORT": port, LAUNCHER: str(os.getpid())}
        for place in range(self.processes):
            rank = self.node * self.processes + place
            yield common | {"RANK": str(rank), "LOCAL_RANK": str(place)}


@dataclass(eq=False)
class _Child:
    """A process of the group.

    stopped: since when it is stopped, None while it runs. asked: the signals that were passed on.
    """

    rank: int
    popen: subprocess.Popen[bytes]
    stopped: float | None = field(default=None)
    asked: set[int] = field(default_factory=set[int])

    def status(self) -> int | None:
        """Return its exit status, None while it runs; 130 where it ended by what it was asked to.

        As it starts, before it listens to signals, it ends by them.
        """
        return INTERRUPTED if self.ended_as_asked() else self.popen.poll()

    def ended_as_asked(self) -> bool:
        """Return whether it ended by a signal that was passed on to it."""
        status = self.popen.poll()
        return status is not None and -status in self.asked

    def lost(self) -> str | None:
        """Return why this process no longer takes part; None where it does, or ended well.

        "" for one that ended with a status: it has said why itself.
        """
        status = self.status()
        if status is not None and status < 0:
            return f"rank {self.rank}: was ended by {signal_name(-status)}"
        if status not in (None, 0, INTERRUPTED):
            return ""
        if status is None and self._stopped_for() > _STOPPED_S:
            return f"rank {self.rank}: has been stopped for {_STOPPED_S:.0f} s"
        return None

    def _stopped_for(self) -> float:
        """Return for how many seconds the process has been stopped."""
        if not hasattr(os, "waitid"):
            return 0.0
        kinds = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
        with suppress(ChildProcessError):
            found = os.waitid(os.P_PID, self.popen.pid, kinds)
            if found is not None and found.si_code == os.CLD_STOPPED:
                self.stopped = time.monotonic()
            elif found is not None:
                self.stopped = None
        return 0.0 if self.stopped is None else time.monotonic() - self.stopped


class Ended(NamedTuple):
    """How the processes ended.

    status: that of all together. is_lost: whether one was lost, here or elsewhere, and nothing is
    known against starting them again.
    """

    status: int
    is_lost: bool = False


def launched(
    launch: Launch, arguments: Sequence[str], say: Callable[[str], None], restarts: int = 0
) -> int:
    """Run `resnet-spec` with `arguments` in every process; return the exit status of all.

    say: hears why the processes were ended, in one line, and in a note that they are started again.
    restarts: how often all of them are, after one was lost. Ctrl-C and SIGTERM reach each process,
    which saves and stops.

    Raises BackendError for numbers that make no group.
    """
    launch.check(restarts)
    for again in range(1, restarts + 1):
        ended = run_once(launch, command_of("resnet_spec", arguments), say)
        if not ended.is_lost:
            return ended.status
        if launch.nodes > 1:
            time.sleep(_NOTICED_S)
        say(f"note: all are started again, {again} of {restarts}")
    return run_once(launch, command_of("resnet_spec", arguments), say).status


def run_once(
    launch: Launch,
    command: Sequence[str],
    say: Callable[[str], None],
    output: IO[bytes] | None = None,
) -> Ended:
    """Run a command in every process, and return how they ended; none is left.

    output: where what they print goes; None: where this process prints.
    """
    children = list[_Child]()
    try:
        for environment in launch.environments():
            popen = _started(command, environment, output)
            children.append(_Child(int(environment["RANK"]), popen))
        with _forwarded(children):
            return _watched(children, say)
    finally:
        for child in children:
            if child.popen.poll() is None:
                child.popen.kill()
            child.popen.wait()


def _started(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches each process once, through us.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


def _watched(children: Sequence[_Child], say: Callable[[str], None]) -> Ended:
    """Return how all have ended, or were ended once the first of them was lost."""
    ended_well: float | None = None
    while True:
        statuses = [child.status() for child in children]  # Before: none may end in between.
        lost = [told for told in (child.lost() for child in children) if told is not None]
        if lost:
            return _given_up(children, next(filter(None, lost), ""), say)
        if None not in statuses:
            return Ended(max(status or 0 for status in statuses))
        if any(status is not None for status in statuses):
            ended_well = ended_well or time.monotonic()
            if time.monotonic() - ended_well > _PATIENCE_S:
                late = statuses.index(None)
                rule = f"has not ended {_PATIENCE_S:.0f} s after another"
                told = f"rank {children[late].rank}: {rule}"
                return _given_up(children, told, say)
        time.sleep(_LOOK_S)


def _given_up(children: Sequence[_Child], lost: str, say: Callable[[str], None]) -> Ended:
    """Kill what is left, and return how the one ended that failed first.

    Those that were asked to stop have done so unless the first of them, which saves, has failed.
    """
    statuses = [child.status() or 0 for child in children]
    is_asked = any(child.asked for child in children)
    for child in children:
        if child.popen.poll() is None:
            child.popen.kill()
    if is_asked and (
        any(child.ended_as_asked() for child in children) or statuses[0] == INTERRUPTED
    ):  # Before there was anything to save, or once the one that saves has done so.
        return Ended(INTERRUPTED)
    # One that ended by itself with a status has told why.
    told = [status for status in statuses if status > 0 and status != INTERRUPTED]
    if told:
        return Ended(told[0], is_lost=told[0] == LOST_STATUS and not is_asked)
    others = f"other{'s are' if len(children) > 2 else ' is'}"
    say(f"{lost}; the {others} ended, too")
    return Ended(LOST_STATUS, is_lost=not is_asked)


@contextmanager
def _forwarded(children: Sequence[_Child]) -> Generator[None]:
    """While entered, pass SIGINT and SIGTERM on to the processes, and live on to see them end."""

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        for child in children:
            if child.popen.poll() is None:
                child.asked.add(number)
                child.popen.send_signal(number)

    before: dict[int, Any] = {
        number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
