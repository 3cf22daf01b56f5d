"""One process of a compared run with a fault in it; the variable PLANTED says which.

The program that the tests give in the place of `resnet_spec.parity.group_member`; torch alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from resnet_spec_torch.group import Several

from resnet_spec.contract import Batch
from resnet_spec.data.batches import share_of
from resnet_spec.group import Group
from resnet_spec.parity import group_member
from resnet_spec.planning.lowering import lower
from resnet_spec.running.meeting import end_of_command

PLANTED = "PLANTED"
RANK = int(os.environ["RANK"])
_send = Several.send
_Patch = Any


def _summed() -> _Patch:
    def send(it: Several, parameters: Iterable[torch.Tensor]) -> None:
        own = list(parameters)
        _send(it, own)
        for parameter in own:
            if parameter.grad is not None:
                parameter.grad.mul_(it.size)

    return mock.patch.object(Several, "send", send)


def _unsent() -> _Patch:
    return mock.patch.object(Several, "send")


def _contiguous() -> _Patch:
    def shares(group: Group, count: int, parts: int = 1) -> list[slice]:
        del parts
        share = count // group.size
        return [slice(group.rank * share, (group.rank + 1) * share)]

    return mock.patch.object(Group, "shares", shares)


def _noise() -> _Patch:
    def taken(batch: Batch, group: Group, parts: int) -> Batch:
        first = share_of(batch, replace(group, rank=0), parts)
        return replace(share_of(batch, group, parts), noise=first.noise)

    return mock.patch.object(group_member, "share_of", taken)


def _replica() -> _Patch:
    def lowered(spec: Any) -> Any:
        norm = spec.norm.model_copy(update={"sync": "replica"})
        return lower(spec.model_copy(update={"norm": norm}))

    return mock.patch.object(group_member, "lower", lowered)


def _missed() -> _Patch:
    """Rank 1 does not take its third step."""
    steps, real = [0], torch.optim.SGD.step

    def step(it: Any, *args: Any, **more: Any) -> Any:
        steps[0] += 1
        return None if (RANK, steps[0]) == (1, 3) else real(it, *args, **more)

    return mock.patch.object(torch.optim.SGD, "step", step)


def _scale() -> _Patch:
    """Rank 0 hears nothing of an overflow in another process."""

    def send(it: Several, parameters: Iterable[torch.Tensor]) -> None:
        own = list(parameters)
        _send(it, own)
        for parameter in own:
            if RANK == 0 and parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    return mock.patch.object(Several, "send", send)


FAULTS: dict[str, Callable[[], _Patch]] = {
    "summed": _summed,
    "unsent": _unsent,
    "contiguous": _contiguous,
    "noise": _noise,
    "replica": _replica,
    "missed": _missed,
    "scale": _scale,
}


if __name__ == "__main__":
    with FAULTS[os.environ[PLANTED]]():
        status = group_member.main(Path(sys.argv[1]))
    end_of_command(status)
    sys.exit(status)
