"""Several processes on torch.distributed: how they meet, and what they sum up.

A group has gloo for what lies on the CPU and, where there are GPUs, NCCL for what lies there.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError
from resnet_spec.group import Group, check_served, lost, meet_seconds, unmet
from resnet_spec.plan import Plan
from resnet_spec_torch.devices import take_own
from resnet_spec_torch.global_norms import gathered
from resnet_spec_torch.weights import fetched, to_array


class Members:
    """See `resnet_spec.group.Members`."""

    stumbles = True
    """torch 2.13 was seen to abort as it ended: "terminate called without an active exception"."""

    def __init__(self, group: Group, *, is_own: bool = True) -> None:
        """is_own: whether the process group was made here, and ends with `leave`."""
        self.group = group
        self._is_own = is_own

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what every process gives, [size, n], by rank."""
        with lost_errors(self.group):
            return gathered(torch.from_numpy(np.ascontiguousarray(values, np.float64))).numpy()

    def leave(self) -> None:
        """End the process group, where it was made here, once all are done with it."""
        if self._is_own:
            # Who hangs up first would break off what another is still sending.
            self.gather(np.zeros(1))
            dist.destroy_process_group()


def is_met(group: Group) -> bool:
    """Return whether the caller's own program has made a process group."""
    del group
    return dist.is_initialized()


def join(group: Group) -> Members:
    """Meet the other processes at `group.address`. Raises BackendError where they do not come.

    A process group that the caller's own program has made is taken as it is.
    """
    if dist.is_initialized():
        found = dist.get_rank(), dist.get_world_size()
        if found != (group.rank, group.size):
            rule = f"is rank {found[0]} of {found[1]} in torch's process group"
            raise BackendError(f"rank {group.rank} of {group.size}: {rule}; make none, or this one")
        return Members(group, is_own=False)
    check_served(group, by=["torchrun"])
    take_own(group.local_rank)
    try:
        with _hushed():
            dist.init_process_group(
                init_method=f"tcp://{group.address}",
                rank=group.rank,
                world_size=group.size,
                timeout=timedelta(seconds=meet_seconds()),
            )
    except (RuntimeError, ValueError) as error:
        raise unmet(group, error) from None
    return Members(group)


@contextmanager
def _hushed() -> Generator[None]:
    """Keep from stderr the stacks that torch writes there, in C++, for each try to meet rank 0.

    The error that it raises has them in a line. What Python says meanwhile is heard.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # There is no stderr.
        yield
        return
    is_real = sys.stderr is sys.__stderr__
    with Path(os.devnull).open("w") as nowhere, os.fdopen(kept, "w", buffering=1) as heard:
        os.dup2(nowhere.fileno(), 2)
        before, sys.stderr = sys.stderr, heard if is_real else sys.stderr
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, 2)


@contextmanager
def lost_errors(group: Group) -> Generator[None]:
    """Turn what torch raises where a process no longer answers into a LostError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        # Without where in torch's own code it was found, and what gloo advises.
        text = re.sub(r"^\[[^]]*\] *|\. This is typically caused by .*", "", str(error), flags=re.S)
        raise lost(group, text) from None


class Alone:
    """What a session does for other processes where there are none."""

    size = 1

    def placed(self, network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
        """Return the network with its parameters as they are to lie."""
        return network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return what the training step runs."""
        return network

    def part(self, network: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Surround the passes of one of the parts that a batch is split into."""
        del network, is_last
        return nullcontext()

    def errors(self) -> AbstractContextManager[None]:
        """Surround steps: a process that is gone is told of in one line."""
        return nullcontext()

    def send(self, parameters: Iterable[Tensor]) -> None:
        """Bring the gradients together after the last part, where that has not happened."""

    def gradients(self, loss: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the gradients of `loss`, of this process's samples."""
        return torch.autograd.grad(loss, parameters)

    def evaluated(self, network: Any) -> Any:
        """Return what evaluates, without asking other processes."""
        return network

    def settle(self, statistics: Callable[[], Sequence[Tensor]]) -> None:
        """Bring together what each process has of its own after a step."""

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place."""

    def whole(self, values: list[Tensor]) -> Array:
        """Return scalars of each step, float64 [processes, steps]: what every process has."""
        return fetched(values)[None]


_NEW_NAME = "forward_sync_buffers"
_IS_NEW = _NEW_NAME in inspect.signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = _NEW_NAME if _IS_NEW else "broadcast_buffers"
"""What newer torch calls it: whether rank 0's buffers replace the others' at every pass."""


def overlaps(device: torch.device) -> bool:
    """Return whether the device sends while it computes."""
    return device.type != "cpu"


class Several(Alone):
    """The same among several.

    On accelerators `DistributedDataParallel` sends gradients while the backward pass goes on. On a
    CPU that would compute and send in turns; one message after the pass has a layout that never
    changes, so that a run that goes on has the same bits. DistributedDataParallel's changes after
    the first step.
    """

    def __init__(self, plan: Plan, group: Group, device: torch.device) -> None:
        self.size = group.size
        self._group = group
        self._overlaps = overlaps(device)
        self._has_own_statistics = any(op.sync == "replica" for op in plan.batch_norms)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return what sends its gradients; its buffers are each process's own."""
        if not self._overlaps:
            return network
        own: Any = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(network, **own)

    def part(self, network: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Send gradients with the last part alone: they add up until then."""
        if is_last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()

    def errors(self) -> AbstractContextManager[None]:
        """Raise LostError where another process is gone."""
        return lost_errors(self._group)

    def send(self, parameters: Iterable[Tensor]) -> None:
        """Take the means of the gradients over the processes."""
        if not self._overlaps:
            self.mean([tensor.grad for tensor in parameters if tensor.grad is not None])

    def settle(self, statistics: Callable[[], Sequence[Tensor]]) -> None:
        """Take the means of running statistics that are of each process's samples."""
        if self._has_own_statistics:
            self.mean(statistics())

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one message."""
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        pieces = (flat / self.size).split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, piece in zip(tensors, pieces, strict=True):
                tensor.copy_(piece.view(tensor.shape))

    def whole(self, values: list[Tensor]) -> Array:
        """Return every process's, in the order of ranks, in which they are then added."""
        return to_array(gathered(torch.stack(values)))
