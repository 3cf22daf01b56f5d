"""A run in several processes as one side of a comparison: what rank 0 leaves, and who disagrees."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Precision, State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError
from resnet_spec.parity.group_member import FAILED, FOUND, SAID, Told, write
from resnet_spec.parity.levels import PROCESSES
from resnet_spec.parity.once import once
from resnet_spec.parity.setup import Setup
from resnet_spec.parity.side import Side
from resnet_spec.running.child_processes import command_of
from resnet_spec.running.launching import Launch, run_once
from resnet_spec.session_state import FIRST_LOSS_SCALE

MEMBER = "resnet_spec.parity.group_member"


@dataclass(frozen=True)
class Outcome:
    """What the processes left.

    losses: float64 [steps]. first, end: the state of rank 0 after the first and the last step.
    digests: float64 [size, 2], of both states by rank. overflow: float64 [size, 3], see
    `group_member`; None where the backend computes no float16 here.
    """

    losses: NDArray[np.float64]
    first: State
    end: State
    digests: NDArray[np.float64]
    overflow: NDArray[np.float64] | None
    info: Mapping[str, str]


class GroupSide(Side):
    """A run of `size` processes of one backend, each with its share of every batch.

    shard: whether each keeps a part of the parameters. member: the module that every process runs.
    """

    def __init__(
        self,
        backend: str,
        spec: Spec,
        setup: Setup,
        precision: Precision,
        size: int,
        device: str = "auto",
        shard: bool = False,
        member: str = MEMBER,
    ) -> None:
        super().__init__(f"{backend} x {size}{', sharded' if shard else ''}", setup, precision)
        self.size = size
        self._spec, self._member = spec, member
        self._told = Told(backend, device, precision, setup, shard)
        self._alone = Side(backend, setup, precision, device=device)

    def offers(self, level: str) -> bool:
        """Return whether the side can be compared at `level`: at that of groups alone."""
        return level == PROCESSES

    @once
    def outcome(self) -> Outcome:
        """What the processes left. Raises BackendError where they came to nothing."""
        with tempfile.TemporaryDirectory(prefix="resnet-spec-") as name:
            folder = Path(name)
            write(folder, self._told, self._spec)
            lines = list[str]()
            with (folder / SAID).open("wb") as said:
                command = command_of(self._member, [name])
                ended = run_once(Launch(self.size), command, lines.append, said)
            if ended.status or not (folder / FOUND).is_file():
                raise BackendError(f"backend = {self.backend}: {self._why(folder, lines)}")
            return _read(folder / FOUND)

    def _why(self, folder: Path, lines: Sequence[str]) -> str:
        said = (folder / SAID).read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line.removeprefix(FAILED) for line in said if line.startswith(FAILED)]
        if told:
            return told[0]
        last = [line.strip() for line in said if line.strip()][-1:]
        return "; ".join([*lines, *last]) or "its processes came to nothing"

    @property
    def info(self) -> Mapping[str, str]:
        """Framework, version, device, precision, math mode and processes."""
        return self.outcome.info

    @property
    def run(self) -> tuple[NDArray[np.float64], State]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The training loss of every step, and the state after the last."""
        return self.outcome.losses, self.outcome.end

    @property
    def stepped(self) -> State:
        """Weights, statistics and slots after the first step."""
        return self.outcome.first

    @property
    def by_itself(self) -> Side:
        """The same run in one process, by which the drift of the backend is found."""
        return self._alone

    @property
    def torn(self) -> Sequence[str]:
        """Which ranks have another state than most, and what of an overflow is not shared."""
        found = self.outcome
        return [*_apart(found.digests), *(() if found.overflow is None else _unshared(found))]


def _read(path: Path) -> Outcome:
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Array] = {name: file[name] for name in file.files}
    states: dict[str, State] = {"first": {}, "end": {}}
    for name, array in arrays.items():
        when, colon, tensor = name.partition(":")
        if colon:
            states[when][tensor] = array
    return Outcome(
        arrays["losses"],
        states["first"],
        states["end"],
        arrays["digests"],
        arrays.get("overflow"),
        json.loads(arrays["info"].tobytes()),
    )


def _apart(digests: NDArray[np.float64]) -> list[str]:
    """Return the ranks whose state is another one than most have, from when on."""
    lines = list[str]()
    for when, column in zip(("the first step", "the last step"), digests.T, strict=True):
        found: list[float] = column.tolist()
        usual = Counter(found).most_common(1)[0][0]
        others = [rank for rank, digest in enumerate(found) if digest != usual]
        if others:
            ranks = ", ".join(map(str, others))
            return [f"rank {ranks} is apart after {when}"]
    return lines


def _unshared(found: Outcome) -> list[str]:
    """Return what is wrong after a float16 step that overflowed in the last process alone."""
    assert found.overflow is not None
    lines = list[str]()
    for rank, (is_kept, scale, _) in enumerate(found.overflow.tolist()):
        if not is_kept:
            lines.append(f"rank {rank} takes a step that overflowed in another")
        if scale != 0.5 * FIRST_LOSS_SCALE["scale"]:
            lines.append(f"rank {rank} has another loss scale")
    return lines
