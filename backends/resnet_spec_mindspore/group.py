"""Several processes as one of MindSpore's clusters: how they meet, and what they bring together.

Whoever started them, they become the workers of a "dynamic cluster", which environment variables
describe and a scheduler brings together. msrun sets the first and starts the second; elsewhere it
is done here. A cluster is met once in a process, and ends with it.
"""

from __future__ import annotations

import atexit
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init
from numpy.typing import NDArray

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError
from resnet_spec.group import DESCRIBED, Group, check_served, lost, meet_seconds, unmet
from resnet_spec.plan import Plan
from resnet_spec_mindspore.global_norms import globalise
from resnet_spec_mindspore.means import Mean, UpdateByMeans
from resnet_spec_mindspore.scheduler import BEGIN, GOODBYE, start
from resnet_spec_mindspore.warmup import silenced
from resnet_spec_mindspore.weights import Parameters, to_array, to_tensor


class Members:
    """See `resnet_spec.group.Members`."""

    stumbles = True
    """MindSpore 2.10 was seen to end with a segmentation fault of its thread RECV_EVENT_LOOP."""

    def __init__(self, group: Group, scheduler: subprocess.Popen[bytes] | None) -> None:
        self.group = group
        self._scheduler = scheduler

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what every process gives, [size, n], by rank."""
        with _answered(self.group):
            return gathered(values, self.group.size)

    def leave(self) -> None:
        """Let the scheduler wait for the others when this process ends."""
        if self._scheduler is not None:
            _say(self._scheduler, GOODBYE)

    def end(self) -> None:
        """Close the connections."""
        _end()


_met: dict[str, Members] = {}
"""The one cluster of this process, by its address."""


_prepared: dict[str, subprocess.Popen[bytes]] = {}
"""The scheduler that is to serve here, by its address; at most one."""


def prepare(group: Group) -> None:
    """Let the scheduler, which rank 0 starts, take its seconds to start before the others come."""
    running = _prepared.get(group.address)
    if group.rank or group.served_by or is_met(group) or "MS_ROLE" in os.environ:
        return
    if running is None or running.poll() is not None:
        _prepared[group.address] = start({**os.environ, **_cluster(group, *_resolved(group))})


def is_met(group: Group) -> bool:
    """Return whether this process is in the group's cluster already, and stays there."""
    return group.address in _met


def join(group: Group) -> Members:
    """Meet the other processes at `group.address`. Raises BackendError where they do not come."""
    if group.address not in _met:
        if _met:
            rule = f"this process has met others at {next(iter(_met))}, which MindSpore does once"
            raise BackendError(f"group = {group.address}: {rule}; start another process")
        _met[group.address] = _joined(group)
    return _met[group.address]


def _joined(group: Group) -> Members:
    check_served(group, by=["msrun"])
    scheduler = None
    if "MS_ROLE" not in os.environ:
        host, port = _resolved(group)
        os.environ.update(_cluster(group, host, port))
        if group.rank == 0:
            _check_free(group, (host, port))
            prepare(group)
            scheduler = _prepared.pop(group.address)
            _say(scheduler, BEGIN)
        _wait_for(group, (host, port), scheduler)
        os.environ |= {"MS_ROLE": "MS_WORKER", DESCRIBED: group.address}
    if (target := ms.get_context("device_target")) != "CPU":
        ms.set_device(target, group.local_rank)
    try:
        with silenced():
            init()
    except RuntimeError as error:
        raise unmet(group, error) from None
    if os.environ["MS_ROLE"] == "MS_SCHED":  # msrun starts the same program once more for it.
        sys.exit()
    found = get_rank(), get_group_size()
    if found != (group.rank, group.size):
        rule = f"MindSpore takes it for rank {found[0]} of {found[1]}"
        raise BackendError(f"rank {group.rank} of {group.size}: {rule}; unset MS_NODE_ID")
    atexit.register(_end)
    return Members(group, scheduler)


def _say(scheduler: subprocess.Popen[bytes], word: bytes) -> None:
    assert scheduler.stdin is not None
    with suppress(OSError):
        scheduler.stdin.write(word)
        scheduler.stdin.flush()


def _end() -> None:
    """Close the connections before MindSpore does, which says so on the process's error stream."""
    with silenced(), suppress(Exception):
        from mindspore.mint.distributed import destroy_process_group

        destroy_process_group()
        time.sleep(0.1)  # Threads of its own say it, a little later.


def _cluster(group: Group, host: str, port: int) -> Mapping[str, str]:
    """Return the variables that describe the cluster; times that the user has set remain."""
    wait = str(math.ceil(meet_seconds()))
    times = {
        "MS_TOPO_TIMEOUT": wait,
        "MS_RECEIVE_MSG_TIMEOUT": wait,
        "MS_CPU_COMM_OP_TIMEOUT": wait,  # 30 s: less than a large network's compilation.
        # Seconds between two questions whether all are there.
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "2",
    }
    return {
        "MS_WORKER_NUM": str(group.size),
        "MS_SCHED_HOST": host,
        "MS_SCHED_PORT": str(port),
        "MS_NODE_ID": str(group.rank),
        **{name: os.environ.get(name, value) for name, value in times.items()},
    }


def _resolved(group: Group) -> tuple[str, int]:
    """Return the address with a number for the host: MindSpore knows no names."""
    host, _, port = group.address.rpartition(":")
    try:
        return socket.gethostbyname(host), int(port)
    except OSError as error:
        raise unmet(group, error) from None


def _check_free(group: Group, address: tuple[str, int]) -> None:
    try:
        with socket.socket() as own:  # Not listening, or another would take it for the scheduler.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind(address)
    except OSError as error:
        rule = f"cannot listen at {group.address}"
        raise BackendError(f"rank {group.rank}: {rule}: {error}") from None


def _wait_for(
    group: Group, address: tuple[str, int], scheduler: subprocess.Popen[bytes] | None
) -> None:
    """Return when the scheduler listens: a worker that asks it before asks again 15 s later."""
    end = time.monotonic() + meet_seconds()
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise unmet(group, error) from None
            if scheduler is not None and scheduler.poll() is not None:
                rule = f"MindSpore's scheduler ended with {scheduler.returncode}"
                raise BackendError(f"rank 0: {rule}; see whether {group.address} is free") from None
        time.sleep(0.05)


@contextmanager
def _answered(group: Group) -> Generator[None]:
    """Raise LostError where others do not answer; MindSpore names the operation that failed."""
    try:
        yield
    except RuntimeError as error:
        if re.search("Launch kernel failed.*All(Reduce|Gather)", str(error)) is None:
            raise
        raise lost(group, error) from None


def gathered(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return float64 [size, n] of [n] of each: by bytes, for on a CPU float32 alone is gathered."""
    own = np.ascontiguousarray(values, np.float64).view(np.uint8).astype(np.float32)
    every: Any = ops.AllGather()(to_tensor(own))
    return to_array(every).astype(np.uint8).view(np.float64).reshape(size, -1)


class Alone:
    """What a session does for other processes where there are none."""

    size = 1

    def adapt(self, network: nn.Cell) -> None:
        """Have the norms of `network` take the statistics that the plan means."""

    def update(
        self, update: nn.Cell, weights: Sequence[Parameter], statistics: Parameters
    ) -> nn.Cell:
        """Return the update of `weights` by the gradients of all processes."""
        del weights, statistics
        return update

    def mean(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the means of tensors over the processes."""
        return tensors

    def answered(self) -> AbstractContextManager[None]:
        """Surround steps, in which the others have to answer."""
        return nullcontext()

    def whole(self, loss: Array, hits: Array) -> tuple[Array, Array]:
        """Return the losses and hits of each step, [steps], of all processes."""
        return loss, hits


class Several(Alone):
    """The same among several."""

    def __init__(self, plan: Plan, group: Group) -> None:
        self.size = group.size
        self._plan, self._group = plan, group

    def adapt(self, network: nn.Cell) -> None:
        """Have norms with `sync` of "global" take the samples of all processes."""
        globalise(network, self._plan, self.size)

    def update(
        self, update: nn.Cell, weights: Sequence[Parameter], statistics: Parameters
    ) -> nn.Cell:
        """Return the update by mean gradients; statistics of each process's samples become one."""
        has_own = any(op.sync == "replica" for op in self._plan.batch_norms)
        own = list(statistics.values()) if has_own else []
        return UpdateByMeans(update, weights, own, self.size)

    def mean(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the means of tensors, in one message."""
        return Mean([tensor.shape for tensor in tensors], self.size)(*tensors)

    def answered(self) -> AbstractContextManager[None]:
        """Raise LostError where they do not."""
        return _answered(self._group)

    def whole(self, loss: Array, hits: Array) -> tuple[Array, Array]:
        """Return the mean losses and the sums of hits, added in the order of ranks."""
        every = gathered(np.concatenate([loss, hits]), self.size).reshape(self.size, 2, -1)
        return every[:, 0].mean(axis=0), every[:, 1].sum(axis=0).astype(np.int64)
