"""Several processes on jax.distributed: how they meet, and one program over all their devices.

Between calls a session's arrays lie on a device of its own. A training step sees them as arrays of
a mesh, weights whole on every device and batches cut by images, so that a mean over a batch is over
that of all processes: XLA puts in the messages.
"""

from __future__ import annotations

import atexit
import math
import os
import re
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from resnet_spec.errors import BackendError, problem
from resnet_spec.group import Group, lost, meet_seconds, unmet
from resnet_spec.plan import Plan
from resnet_spec_flax.meeting import meet
from resnet_spec_flax.programs import Inputs, Program, Sums
from resnet_spec_flax.weights import Weights

_HEARTBEAT_S = 10
"""After how long a process that says nothing counts as gone."""

_LAST_WORDS_S = 1.0

_OF_MESSAGES = re.compile(
    "gloo|nccl|collective|all-?reduce|all-?gather|connection|heartbeat|coordination|barrier", re.I
)
"""In what JAX says where a message did not come through; it has no error of its own for that."""

_PROCESS, _DEVICE = "process", "device"
_WHOLE, _CUT = PartitionSpec(), PartitionSpec((_PROCESS, _DEVICE))


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

    From then on a process that ends without `leave` says no goodbye, and its status is 2.
    """
    seconds = meet_seconds()
    meet(group, seconds)
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
            initialization_timeout=math.ceil(seconds),
            heartbeat_timeout_seconds=_HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise unmet(group, error) from None
    atexit.register(_end, group)
    members = Members(group)
    with _hushed():
        members.gather(np.zeros(1))
    return members


def _end(group: Group) -> None:
    """End a process that failed before JAX waits, minutes long, for the others to end, too."""
    sys.stdout.flush()
    sys.stderr.flush()
    if group.rank == 0:  # The others die by a signal with it; they may have more to say.
        time.sleep(_LAST_WORDS_S)
    os._exit(2)


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


@contextmanager
def answering(group: Group) -> Generator[None]:
    """Turn what JAX says where a process no longer answers into a LostError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _OF_MESSAGES.search(str(error)):
            raise
        raise lost(group, error) from None


class Alone:
    """What a session does for other processes where there are none."""

    program = Program
    """Makes the session's functions."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def share(self, inputs: Inputs) -> Inputs:
        """Return a part of a batch on the device, not waiting for it."""
        return jax.device_put(inputs, self._device)

    def spread(self, values: Any) -> Any:
        """Return arrays of this device as a step takes them; they share memory."""
        return values

    def own(self, values: Any) -> Any:
        """Return what a step made as arrays of this device; they share memory."""
        return values

    def answering(self) -> AbstractContextManager[None]:
        """Surround what may wait for others."""
        return nullcontext()


class Several(Alone):
    """The same among several processes, over the devices of `device`'s kind that they have."""

    def __init__(self, plan: Plan, device: Any, group: Group) -> None:
        super().__init__(device)
        self._group = group
        self._mesh = _mesh(device.platform, group.size)
        self._whole, self._cut = (NamedSharding(self._mesh, spec) for spec in (_WHOLE, _CUT))
        self._here: list[Any] = self._mesh.local_devices
        is_replica = any(op.sync == "replica" for op in plan.batch_norms)
        self.program = partial(_ReplicaProgram if is_replica else _GlobalProgram, self._mesh)

    def share(self, inputs: Inputs) -> Inputs:
        """Return a part of the batch of all, of which `inputs` is this process's share."""
        images, devices = len(inputs.labels), len(self._here)
        if images % devices:
            rule = f"cannot be shared out among the {devices} devices of rank {self._group.rank}"
            raise BackendError(problem("batch", images, rule))
        return jax.tree.map(partial(jax.make_array_from_process_local_data, self._cut), inputs)

    def spread(self, values: Any) -> Any:
        """Return arrays of this device as arrays of the mesh, which every process has alike."""
        return jax.tree.map(self._spread, values)

    def _spread(self, array: jax.Array) -> jax.Array:
        copies = [array if d == self._device else jax.device_put(array, d) for d in self._here]
        return jax.make_array_from_single_device_arrays(array.shape, self._whole, copies)

    def own(self, values: Any) -> Any:
        """Return this device's of arrays that every process has alike."""
        place = self._here.index(self._device)
        return jax.tree.map(lambda array: array.addressable_data(place), values)

    def answering(self) -> AbstractContextManager[None]:
        """Raise LostError where they do not."""
        return answering(self._group)


def _mesh(platform: str, size: int) -> Mesh:
    """Return the devices of all processes, [process, device]."""
    devices = sorted(jax.devices(platform), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices).reshape(size, -1), (_PROCESS, _DEVICE))


class _GlobalProgram(Program):
    """The session's functions with `backward` over the batch of all processes."""

    def __init__(self, mesh: Mesh, *fixed: Any) -> None:
        super().__init__(*fixed)
        self._mesh = mesh
        whole = NamedSharding(mesh, _WHOLE)
        self.backward = jax.jit(self._backward_of_all, out_shardings=whole)

    def _backward_of_all(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the new running statistics; loss, correct images and gradients."""
        return self._backward(weights, loss_scale, inputs)


class _ReplicaProgram(_GlobalProgram):
    """The same with the statistics of each process's own samples."""

    def _backward_of_all(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        run = jax.shard_map(
            self._of_own_samples,
            mesh=self._mesh,
            in_specs=(_WHOLE, _WHOLE, PartitionSpec(_PROCESS)),
            out_specs=_WHOLE,
            axis_names={_PROCESS},
        )
        return run(weights, loss_scale, inputs)

    def _of_own_samples(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the means over processes of what each has; correct images are added."""
        # Of weights that all have alike JAX would add up the gradients by itself.
        own = jax.tree.map(lambda w: jax.lax.pcast(w, _PROCESS, to="varying"), weights)
        statistics, sums = self._backward(own, loss_scale, inputs)
        correct = jax.lax.psum(sums.correct, _PROCESS)
        loss, gradients = jax.lax.pmean((sums.loss, sums.gradients), _PROCESS)
        return jax.lax.pmean(statistics, _PROCESS), Sums(loss, correct, gradients)
