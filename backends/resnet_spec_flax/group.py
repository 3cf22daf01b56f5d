"""Several processes on jax.distributed: how they meet, speak and part.

What they compute together is in `mesh`.
"""

from __future__ import annotations

import atexit
import math
import os
import re
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from resnet_spec.errors import LOST_STATUS
from resnet_spec.group import Group, check_served, lost, meet_seconds, unmet

_HEARTBEAT_S = 20
"""After how long a process that says nothing counts as gone.

Longer than `launch` waits for one that is stopped: it names that one, and JAX ends the others.
"""

_LAST_WORDS_S = 1.0

_lost = threading.Event()
"""Whether another process was found to be gone, as the exit status is to say."""

_OF_MESSAGES = re.compile(
    "gloo|nccl|collective|all-?reduce|all-?gather|connection|heartbeat|coordination|barrier", re.I
)
"""In what JAX says where a message did not come through; it has no error of its own for that."""


class Members:
    """See `resnet_spec.group.Members`."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what every process gives, [size, n], by rank."""
        # As bits: JAX makes float32 of float64.
        bits = np.ascontiguousarray(values, np.float64).view(np.uint32)
        with answering(self.group):
            every = multihost_utils.process_allgather(bits)
        return np.ascontiguousarray(every).view(np.float64)

    def leave(self) -> None:
        """End the group, when all of its processes do."""
        with answering(self.group):
            jax.distributed.shutdown()
        atexit.unregister(_end)


def join(group: Group) -> Members:
    """Meet the other processes at `group.address`. Raises BackendError where they do not come.

    From then on a process that ends without `leave` says no goodbye, and its status is 2, or 3
    where another is gone.
    """
    check_served(group)
    # Where there is a GPU, device = cpu may be asked for all the same.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            group.address,
            group.size,
            group.rank,
            local_device_ids=[_own_gpu(group.local_rank, os.environ)],
            cluster_detection_method="deactivate",
            initialization_timeout=math.ceil(meet_seconds()),
            heartbeat_timeout_seconds=_HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise unmet(group, error) from None
    atexit.register(_end, group)
    members = Members(group)
    with _hushed():
        members.gather(np.zeros(1))
    if group.rank:
        _keep_stderr_for_python()
    return members


def _end(group: Group) -> None:
    """End a process that failed before JAX waits, minutes long, for the others to end, too."""
    sys.stdout.flush()
    sys.stderr.flush()
    if group.rank == 0:  # The others die by a signal with it; they may have more to say.
        time.sleep(_LAST_WORDS_S)
    os._exit(LOST_STATUS if _lost.is_set() else 2)


def _own_gpu(place: int, environment: Mapping[str, str]) -> int:
    """Return which of the GPUs that this process sees is its own; without a GPU it means nothing.

    place: among the processes of this machine. Whoever started them may show each its own alone.
    """
    seen = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return place % len(seen) if seen else place


@contextmanager
def _hushed() -> Generator[None]:
    """Keep from stdout what gloo prints there, in C++, as it connects for the first message."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # There is no stdout.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _keep_stderr_for_python() -> None:
    """Let what JAX says in C++ go nowhere: as rank 0 is lost it ends this process with a stack.

    Whoever started the processes says which one was lost; what Python says is still heard.
    """
    try:
        kept = os.dup(2)
    except OSError:  # There is no stderr.
        return
    if sys.stderr is sys.__stderr__:
        sys.stderr.flush()
        sys.stderr = os.fdopen(kept, "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


@contextmanager
def answering(group: Group) -> Generator[None]:
    """Turn what JAX says where a process no longer answers into a LostError.

    Its gathers raise a ValueError, its programs an error of its own.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not _OF_MESSAGES.search(str(error)):
            raise
        _lost.set()
        raise lost(group, error) from None
