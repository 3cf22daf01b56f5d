"""Processes that train one network together: which of them this is, and what they tell each other.

A backend that can be one of several offers `join(group) -> Members`, which is called once, before
any array is made, and takes `group` in its `Session`. The frameworks' own engines move everything;
the core shares out batches and evaluation, and has rank 0 decide and write.

When `join` is called all processes are there, at the same time, and are to do the same: they have
met at `group.address` (`running.roll_call`), where nobody listens any more. This is left out where
somebody else listens there (`Group.served_by`), and where the package offers `is_met(group)` and it
is true: all are together by the framework's own means already, and `join` takes what is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from resnet_spec.errors import BackendError, LostError, problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Group:
    """One process of a group.

    rank: 0..size - 1; rank 0 decides, writes and speaks for all. size: processes in all.
    address: "HOST:PORT" at which rank 0 is met. local_rank: the place among those on this machine,
    by which each takes an accelerator of its own. served_by: who started the processes and listens
    at the address already, "torchrun" or "msrun"; "" where rank 0 is the one to listen.
    """

    rank: int = 0
    size: int = 1
    address: str = ""
    local_rank: int = 0
    served_by: str = ""

    def shares(self, count: int, parts: int = 1) -> list[slice]:
        """Return the rows of a batch of `count` images that are this process's, a slice per part.

        `recipe.accumulate` cuts a batch into equal consecutive parts with statistics of their own.
        Every process takes its share of each part, in the order of ranks, so that part i of one
        process is part i of all of them together.
        """
        part = count // parts
        share = part // self.size
        first = self.rank * share
        return [slice(i * part + first, i * part + first + share) for i in range(parts)]


ALONE = Group()
"""A process that trains by itself."""

DESCRIBED = "RESNET_SPEC_DESCRIBED"
"""The variable that a `join` sets which describes the group to its framework in the environment.

What is there by then of the framework's variables, no starter has said.
"""


class Members(Protocol):
    """The processes of a group, met.

    Where it has a `stumbles` that is true, the framework may fail as it is unloaded after a group:
    a command's process then ends, with all done, before it is. An `end` that it has is called
    before that.
    """

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what every process gives, bit for bit: float64 [n] of each to [size, n], by rank.

        All processes call it, with as many values each. Raises BackendError where one is gone.
        """
        ...

    def leave(self) -> None:
        """End the group; nothing of it can be used any more."""
        ...


# --- What every `join` says -----------------------------------------------------------------------

_MEET = "RESNET_SPEC_MEET_S"
_MEET_S = 300.0
_MOST = 200
"""Letters of a framework's own words."""


def meet_seconds() -> float:
    """Return how long processes may take to find each other, and to answer in a step.

    Raises BackendError for a RESNET_SPEC_MEET_S that is no time.
    """
    text = os.environ.get(_MEET, str(_MEET_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BackendError(problem(_MEET, text or '""', "must be seconds, above 0"))
    return seconds


def another(name: str) -> str:
    """Return how a thing of the others is called that is not rank 0's."""
    return "other data" if name == "data" else f"another {name}"


def unmet(group: Group, why: object) -> BackendError:
    """Return what to raise where the others of `group` do not come."""
    others = f"{group.size - 1} processes" if group.size > 2 else "process"
    rule = f"cannot meet the other {others} at {group.address}"
    return BackendError(f"rank {group.rank}: {rule}: {_short(why)}")


def check_served(group: Group, by: Collection[str] = ()) -> None:
    """Raise BackendError where a starter listens at the address by which `join` cannot meet.

    by: the names of those by which it can.
    """
    if group.served_by and group.served_by not in by:
        rule = f"cannot meet the others at {group.address}: {group.served_by} listens there"
        remedy = "start them with resnet-spec launch"
        raise BackendError(f"rank {group.rank}: {rule}, for another framework; {remedy}")


def lost(group: Group, why: object) -> LostError:
    """Return what to raise where another process no longer answers."""
    return LostError(f"rank {group.rank}: another process is gone: {_short(why)}")


def _short(why: object) -> str:
    return " ".join(str(why).split())[:_MOST]
