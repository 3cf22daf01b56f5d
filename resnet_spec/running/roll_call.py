"""Processes of one run meet each other before their framework's engine does.

An engine waits minutes for a process that failed or that computes with another framework, and JAX's
ends by a signal. So rank 0 listens where the engine is about to, hears of each of the others who it
is, what it is to do, or why it cannot, and answers all of them once all are there, or something is
wrong. Then nobody listens there any more, and the backend's `join` is called.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import cast

from resnet_spec.errors import MOST_LINES, BackendError, LostError
from resnet_spec.group import Group, another, unmet
from resnet_spec.running.hellos import (
    HELLO_S,
    Hello,
    Things,
    answer,
    left,
    reached,
    read,
    send,
    server,
    texts,
)

VERSION, BACKEND = "version", "backend"
"""The names of things that are told by their words. Of others it is told that they differ."""

_GONE = "ended before all were there"
_UNHEARD = "unheard"
"""Of a connection: that nothing has come from it yet."""
_MOST_LETTERS, _MOST_RANKS = 1000, 8
_OTHERS_S = 1.0
"""How long the others may take to come, and to be told, once something is wrong."""


class NotTogetherError(BackendError):
    """Processes that cannot train together; unaware: the ranks that have not been told so."""

    def __init__(self, *problems: str, unaware: Collection[int] = ()) -> None:
        super().__init__(*problems)
        self.unaware = frozenset(unaware)


class GoneError(NotTogetherError, LostError):
    """The same where nothing is wrong but that a process ended: started again, they may meet."""


@dataclass(frozen=True)
class Failure:
    """Why the processes of `group` will not come together, and the ranks that are to be told.

    lines: of rank 0 in whole, with the ranks in them; of another what it has to say of itself.
    """

    group: Group
    lines: tuple[str, ...]
    unaware: frozenset[int]

    @staticmethod
    def of(group: Group, problems: Sequence[str]) -> Failure:
        """Return what a process has to tell that does not come, for it has failed."""
        start = f"rank {group.rank}: "
        own = (line.removeprefix(start)[:_MOST_LETTERS] for line in problems[:MOST_LINES])
        if group.rank:
            return Failure(group, tuple(own), frozenset({0}))
        return Failure(group, tuple(start + line for line in own), frozenset(range(1, group.size)))


def meet(group: Group, things: Things, seconds: float) -> None:
    """Return when all processes of `group` are there, and have the same `things`.

    Raises NotTogetherError, with a line for all that is known, where something differs, a process
    has failed, ended or comes twice; BackendError where they are not all there after `seconds`.
    """
    try:
        if group.rank == 0:
            _meet_as_first(group, things, seconds)
        else:
            _report(group, things, seconds)
    except OSError as error:
        rule = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise unmet(group, rule) from None


def tell(failure: Failure, seconds: float) -> Failure | None:
    """Tell those that do not know; return what is left to tell after `seconds`, None for nothing.

    Rank 0 tells the others as they come, and they tell it when it listens.
    """
    group, deadline = failure.group, time.monotonic() + seconds
    if group.rank:
        return None if _told_first(failure, deadline) else failure
    unaware = set(failure.unaware)
    with suppress(OSError), server(group) as door:  # Somebody else may listen there.
        while unaware and time.monotonic() < deadline:
            door.settimeout(left(deadline))
            with door.accept()[0] as one:
                hello = Hello.heard(one)
                if hello is not None and hello.size == group.size:
                    answer([one], failure.lines)
                    unaware.discard(hello.rank)
    return replace(failure, unaware=frozenset(unaware)) if unaware else None


# --- Rank 0 ---------------------------------------------------------------------------------------


def _meet_as_first(group: Group, things: Things, seconds: float) -> None:
    """Hear of all; where somebody listens there already, ask whether that is rank 0, too."""
    try:
        _hear_of_all(group, things, time.monotonic() + seconds)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            try:
                _report(group, things, HELLO_S)
            except NotTogetherError:
                raise
            except BackendError:
                pass  # It is somebody else.
        raise


def _hear_of_all(group: Group, things: Things, deadline: float) -> None:
    """Hear who comes, and tell all of them how it went."""
    with ExitStack() as stack:
        door = stack.enter_context(server(group))
        eyes = stack.enter_context(selectors.DefaultSelector())
        eyes.register(door, selectors.EVENT_READ)
        roll = _Roll(group, things)
        while roll.absent and (ready := eyes.select(left(deadline))):
            for key, _ in ready:
                one = cast("socket.socket", key.fileobj)
                if one is door:
                    if (new := _accepted(door)) is not None:
                        eyes.register(stack.enter_context(new), selectors.EVENT_READ, _UNHEARD)
                    continue
                eyes.unregister(one)
                if key.data is not _UNHEARD:
                    roll.gone(one)
                # Nobody is waited for who says nothing: the others may be at the door.
                elif roll.hear(one):
                    eyes.register(one, selectors.EVENT_READ)
            if roll.since is not None:
                deadline = min(deadline, roll.since + _OTHERS_S)
        lines, absent = roll.lines(), sorted(roll.absent)
        why = f"{_ranks(absent)} did not come" if absent else ""
        kind = GoneError if roll.is_gone_alone else NotTogetherError
        door.close()  # Or whoever is answered might take it for the engine, and wait in vain.
        answer(roll.came, lines, why, is_lost=kind is GoneError)
    if lines:
        raise kind(*lines, unaware=absent)
    if why:
        raise unmet(group, why)


def _accepted(door: socket.socket) -> socket.socket | None:
    """Return who has come; None where they have gone again."""
    door.settimeout(_OTHERS_S)
    try:
        return door.accept()[0]
    except (TimeoutError, ConnectionError):
        return None


class _Roll:
    """Who has come to rank 0, and what is wrong.

    absent: the ranks that have not come. came: whoever waits for an answer. since: when something
    was found to be wrong; None while nothing is.
    """

    def __init__(self, group: Group, things: Things) -> None:
        self.absent = set(range(1, group.size))
        self.came: list[socket.socket] = []
        self.since: float | None = None
        self._size = group.size
        self._ranks: dict[socket.socket, int] = {}
        self._things = {0: things}
        self._said = defaultdict[str, list[int]](list)

    def hear(self, one: socket.socket) -> bool:
        """Take down who has come; False for somebody else, who counts for nothing."""
        hello = Hello.heard(one)
        if hello is None:
            one.close()
            return False
        rank = hello.rank
        self.came.append(one)
        if hello.size != self._size:
            rule = f"in a group of {hello.size} processes, and rank 0 in one of {self._size}"
            self._said[f"{rule}; start all as one group"].append(rank)
        elif rank not in self.absent:
            rule = "two processes say that they are it; give each a rank of its own"
            self._said[rule].append(rank)
        else:
            self.absent.discard(rank)
            self._ranks[one] = rank
            self._things[rank] = hello.things
            for line in hello.failed:
                self._said[line].append(rank)
        self._note_time()
        return True

    def gone(self, one: socket.socket) -> None:
        """Take down that somebody who had come has hung up."""
        self.came.remove(one)
        if one in self._ranks:
            self._said[_GONE].append(self._ranks[one])
        self._note_time()

    @property
    def is_gone_alone(self) -> bool:
        """Whether nothing is wrong but that processes ended."""
        return set(self._said) == {_GONE} and not any(_differences(self._things))

    def lines(self) -> list[str]:
        """Return what is wrong, a line each."""
        said = (f"{_ranks(sorted(ranks))}: {rule}" for rule, ranks in self._said.items())
        lines = [*said, *_differences(self._things)]
        more = len(lines) - MOST_LINES
        return lines if more <= 0 else [*lines[:MOST_LINES], f"and {more} more, of other ranks"]

    def _note_time(self) -> None:
        if self.since is None and self.lines():
            self.since = time.monotonic()


def _differences(things: Mapping[int, Things]) -> Iterator[str]:
    """Yield what ranks have otherwise than rank 0; with another version or backend, that alone."""
    for name, own in things[0].items():
        words = {rank: things[rank].get(name, own) for rank in sorted(things)}
        ranks = [rank for rank, word in words.items() if word != own]
        if ranks and name in (VERSION, BACKEND):
            for word in sorted(set(words.values()) - {own}):
                yield _otherwise(name, [rank for rank in ranks if words[rank] == word], word, own)
            return
        if ranks:
            rule = f"{'have' if len(ranks) > 1 else 'has'} {another(name)} than rank 0"
            yield f"{_ranks(ranks)}: {rule}; give all processes the same"


def _otherwise(name: str, ranks: Sequence[int], word: str, own: str) -> str:
    who, many = _ranks(ranks), len(ranks) > 1
    if name == VERSION:
        rule = f"{'are' if many else 'is'} resnet-spec {word}, and rank 0 is {own}"
        return f"{who}: {rule}; install one version"
    rule = f"{'compute' if many else 'computes'} with {word}, and rank 0 with {own}"
    return f"{who}: {rule}; start all with one backend"


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:_MOST_RANKS]))
    more = f" and {len(ranks) - _MOST_RANKS} more" if len(ranks) > _MOST_RANKS else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"


# --- The others -----------------------------------------------------------------------------------


def _report(group: Group, things: Things, seconds: float) -> None:
    """Tell rank 0 who this is, and wait until it has heard of all."""
    with reached(group, time.monotonic() + seconds) as one:
        send(one, {"rank": group.rank, "size": group.size, "things": dict(things)})
        # Rank 0 is the one to say who is missing, and listens no longer than that.
        said = read(one, seconds + HELLO_S)
    if said is None:
        raise unmet(group, "rank 0 gave up, or something else answers there")
    if lines := texts(said.get("lines")):
        raise (GoneError if said.get("lost") else NotTogetherError)(*lines)
    if why := said.get("why"):
        raise unmet(group, why)


def _told_first(failure: Failure, deadline: float) -> bool:
    """Tell rank 0, and return whether it, or somebody else, listened."""
    group = failure.group
    try:
        with reached(group, deadline) as one, suppress(OSError):
            send(one, {"rank": group.rank, "size": group.size, "failed": list(failure.lines)})
            read(one, HELLO_S)
    except BackendError:
        return False
    return True
