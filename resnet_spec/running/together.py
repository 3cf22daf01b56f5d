"""A run's processes as the loop sees them: one that is alone, or several that agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import BackendError, RecipeError, ResnetSpecError, problem
from resnet_spec.group import ALONE, Group, Members, another
from resnet_spec.loader import load_backend, manifest_of
from resnet_spec.recipe import Recipe

_BYTES = 6
_PIECE = _BYTES * 65_536
"""Bytes that are sent at once."""


class Together:
    """What the processes of a run tell each other; every question is put by all of them.

    members: None for a process that is alone, whose own answer is everybody's.
    """

    def __init__(self, group: Group = ALONE, members: Members | None = None) -> None:
        self.group = group
        self._members = members

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and speaks."""
        return self.group.rank == 0

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of every process, float64 [size, n], by rank."""
        return values[None] if self._members is None else self._members.gather(values)

    def any(self, flag: bool) -> bool:
        """Return whether any process says yes."""
        return bool(self.gather(np.array([flag], np.float64)).any())

    def shared(self, data: bytes) -> bytes:
        """Return the bytes of rank 0 in every process; what the others give counts for nothing."""
        if self._members is None:
            return data
        length = int(self.gather(np.array([len(data)], np.float64))[0, 0])
        pieces = list[bytes]()
        for start in range(0, length, _PIECE):
            own = data[start : start + _PIECE] if self.is_first else b""
            pieces.append(_unpacked(self.gather(_packed(own))[0]))
        return b"".join(pieces)[:length]

    def check_same(self, things: Mapping[str, Any]) -> None:
        """Raise BackendError where a process has other things than rank 0; they are plain JSON."""
        own = np.array([_number(value) for value in things.values()], np.float64)
        found = self.gather(own)
        lines = [
            f"rank {rank}: has {another(name)} than rank 0; give all processes the same"
            for rank, row in enumerate(found)
            for name, is_same in zip(things, row == found[0], strict=True)
            if not is_same
        ]
        if lines:
            raise BackendError(*lines)


def _packed(data: bytes) -> NDArray[np.float64]:
    """Return bytes as numbers, six in each: so many are whole in a float64. At most `_PIECE`."""
    wide = np.zeros((_PIECE // _BYTES, 8), np.uint8)
    wide[:, :_BYTES] = np.frombuffer(data.ljust(_PIECE, b"\0"), np.uint8).reshape(-1, _BYTES)
    return wide.view("<u8")[:, 0].astype(np.float64)


def _unpacked(numbers: NDArray[np.float64]) -> bytes:
    wide = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)
    return wide[:, :_BYTES].tobytes()


def _number(value: object) -> int:
    """Return a number that tells values apart; 48 bits of a digest are whole in a float64."""
    text = json.dumps(value, sort_keys=True, default=str)
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


@contextmanager
def by_rank(group: Group) -> Generator[None]:
    """Begin the lines of an error that one process of a group has with its rank.

    Where something is no number (RecipeError) it is so in all of them, by the sums of a step.
    """
    try:
        yield
    except ResnetSpecError as error:
        if group.size > 1 and not isinstance(error, RecipeError):
            rank = f"rank {group.rank}: "
            error.problems = tuple(f"{rank}{it.removeprefix(rank)}" for it in error.problems)
        raise


def check_can_join(backend: str, group: Group) -> None:
    """Raise BackendError where `backend` cannot be one of several processes, and is to be."""
    if group.size > 1 and not hasattr(load_backend(backend), "join"):
        rule = f"cannot be one of {group.size} processes: it offers no join"
        raise BackendError(f"backend = {backend}: {rule}; start one process of it")


def check_ahead(backend: str, device: str, precision: str, group: Group) -> None:
    """Raise BackendError for what no session can have, where others would be met for nothing.

    A process that is alone makes its session at once, which looks closer.
    """
    package: Any = load_backend(backend)
    if group.size > 1 and hasattr(package, "check_ahead"):
        package.check_ahead(device, precision)


def check_can_start_again(backend: str) -> None:
    """Raise BackendError where processes on several machines would wait in vain for a lost one."""
    found = manifest_of(backend)
    if found is None or not found.notices:
        rule = f"{backend} does not notice at once that a process on another machine is lost"
        remedy = "leave it out, and have the cluster start all again, with train --auto-resume"
        raise BackendError(f"--max-restarts: {rule}; {remedy}")


def check_shares(backend: str, recipe: Recipe, group: Group) -> None:
    """Raise where a run cannot be shared out among the processes of `group`."""
    if group.size == 1:
        return
    check_can_join(backend, group)
    if recipe.batch % (recipe.accumulate * group.size):
        by = f"accumulate x processes = {recipe.accumulate} x {group.size}"
        raise RecipeError(problem("batch", recipe.batch, f"must be a multiple of {by}"))


def check_can_shard(backend: str) -> None:
    """Raise BackendError where sessions of `backend` hold every parameter whole."""
    found = manifest_of(backend)
    if found is None or not found.shards:
        rule = f"{backend} holds all parameters in every process"
        raise BackendError(f"--shard: {rule}; leave it out, or use a backend that shards")


def check_can_compile(backend: str) -> None:
    """Raise BackendError where `compile` would change nothing, as the backend's manifest says."""
    found = manifest_of(backend)
    if found is not None and found.compiles == "never":
        raise BackendError(f"--compile: {backend} compiles nothing; leave it out")


def shared_out(count: int, group: Group) -> Sequence[int]:
    """Return which of `count` things are this process's: every size-th, from its rank on."""
    return range(group.rank, count, group.size)
