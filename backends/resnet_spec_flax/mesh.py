"""Several devices that train together, of one process or of several.

Between calls a session's arrays lie on a device of its own. A training step sees them as arrays of
a mesh, weights whole on every device and batches cut by images, so that a mean over a batch is over
that of all devices: XLA puts in the messages. With `shard`, weights and what training keeps beside
them are cut, too: a step gathers the weights as it begins. What is kept stays in parts from step to
step and from call to call; of the weights, the native module has a whole copy between calls.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from resnet_spec.errors import BackendError, problem
from resnet_spec.group import Group
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_flax.group import answering
from resnet_spec_flax.mesh_programs import AXES, GlobalProgram, Layout, ReplicaProgram
from resnet_spec_flax.passes import Inputs
from resnet_spec_flax.programs import Program


class Alone:
    """What a session does for other devices where there are none."""

    program: Any = Program
    """Makes the session's functions."""
    replicas = 1
    """Among how many the images of one process are shared out that take statistics of their own."""
    in_parts = False
    """Whether what a session keeps lies in parts on the devices."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def info(self) -> dict[str, str]:
        """Return what `Session.info` says of the devices beside the session's own."""
        return {}

    def share(self, inputs: Inputs) -> Inputs:
        """Return a part of a batch on the device, not waiting for it."""
        return jax.device_put(inputs, self._device)

    def spread(self, values: Any) -> Any:
        """Return arrays of this device as a step takes them; they share memory."""
        return values

    def given_up(self, values: Any) -> Any:
        """Return copies of arrays as a step takes them that gives them up to the next."""
        # Who holds the module's own arrays keeps them.
        return jax.device_put(values, self._device, may_alias=False)

    def kept(self, values: Any) -> Any:
        """Return what a step made as a session keeps it; nobody is waited for."""
        return values

    def whole(self, values: Any) -> Any:
        """Return what a session keeps as arrays of this device; all processes call it."""
        return values

    def answering(self) -> AbstractContextManager[None]:
        """Surround what may wait for others."""
        return nullcontext()


class Several(Alone):
    """The same among several devices, all of one kind."""

    def __init__(
        self, plan: Plan, device: Any, group: Group, layout: Layout, *, every: bool
    ) -> None:
        super().__init__(device)
        self._group = group
        self._layout = layout
        self._every = every
        self._here: list[Any] = layout.mesh.local_devices
        is_replica = any(op.sync == "replica" for op in plan.batch_norms)
        self.program = partial(ReplicaProgram if is_replica else GlobalProgram, layout)
        self.replicas = len(self._here) if is_replica and group.size == 1 else 1
        self.in_parts = layout.shard
        self._gathered = jax.jit(_same, out_shardings=layout.whole)

    def info(self) -> dict[str, str]:
        """Return what `Session.info` says of the devices beside the session's own."""
        processes, devices = self._group.size, self._layout.mesh.size
        found = {"processes": str(processes)} if processes > 1 else {}
        found |= {"devices": str(devices)} if self._every else {}
        return found | ({"sharded": "true"} if self.in_parts else {})

    def share(self, inputs: Inputs) -> Inputs:
        """Return a part of the batch of all, of which `inputs` is this process's share."""
        images, devices = len(inputs.labels), len(self._here)
        if images % devices:
            whose = "" if self._group.size == 1 else f" of rank {self._group.rank}"
            rule = f"cannot be shared out among the {devices} devices{whose}"
            raise BackendError(problem("images of a part", images, rule))
        place = partial(jax.make_array_from_process_local_data, self._layout.batch)
        return jax.tree.map(place, inputs)

    def spread(self, values: Any) -> Any:
        """Return arrays of this device as arrays of the mesh, which every process has alike."""
        return jax.tree.map(self._spread, values)

    def _spread(self, array: jax.Array) -> jax.Array:
        if self._is_spread(array):
            return array
        place = self._layout.of(array.shape)
        parts = place.addressable_devices_indices_map(array.shape)
        each = [
            array if place.is_fully_replicated else array[parts[device]] for device in self._here
        ]
        copies = [
            part if device == self._device else jax.device_put(part, device)
            for part, device in zip(each, self._here, strict=True)
        ]
        return jax.make_array_from_single_device_arrays(array.shape, place, copies)

    def given_up(self, values: Any) -> Any:
        """Return copies of arrays as a step takes them that gives them up to the next."""
        return self.spread(super().given_up(values))

    def kept(self, values: Any) -> Any:
        """Return this device's of arrays that every device has alike, and the others in parts."""
        return jax.tree.map(self._kept, self.spread(values))

    def _kept(self, array: jax.Array) -> jax.Array:
        place = self._here.index(self._device)
        return array.addressable_data(place) if array.is_fully_replicated else array

    def whole(self, values: Any) -> Any:
        """Return what a session keeps as arrays of this device; all processes call it."""
        arrays, tree = jax.tree.flatten(values)
        places = [i for i, array in enumerate(arrays) if self._is_spread(array)]
        gathered = self._gathered([arrays[i] for i in places]) if places else []
        for i, array in zip(places, gathered, strict=True):
            arrays[i] = self._kept(array)
        return jax.tree.unflatten(tree, arrays)

    def _is_spread(self, array: jax.Array) -> bool:
        return len(array.sharding.device_set) > 1

    def answering(self) -> AbstractContextManager[None]:
        """Raise LostError where other processes do not answer."""
        return nullcontext() if self._group.size == 1 else answering(self._group)


def together(
    plan: Plan, recipe: Recipe | None, device: Any, group: Group, *, every: bool, shard: bool
) -> Alone:
    """Return what a session does for the devices that it trains with.

    every: whether those are all devices of `device`'s platform that this process has; those of all
    processes are taken in any case. shard: whether arrays lie in parts on them.

    Raises BackendError where `shard` finds one device, or a batch cannot be shared out.
    """
    devices = _devices(device, group, every)
    if devices.size == 1:
        if shard:
            remedy = (
                f"use several processes, or --device {device.platform}:all where there are several"
            )
            raise BackendError(f"--shard: needs several devices; {remedy}")
        return Alone(device)
    if recipe is not None and recipe.batch % (recipe.accumulate * devices.size):
        by = f"accumulate x devices = {recipe.accumulate} x {devices.size}"
        raise BackendError(problem("batch", recipe.batch, f"must be a multiple of {by}"))
    return Several(plan, device, group, Layout(Mesh(devices, AXES), shard), every=every)


def _devices(device: Any, group: Group, every: bool) -> np.ndarray[Any, Any]:
    """Return the devices that train together, [replica, device].

    A replica, which `norm.sync` speaks of, is a process, or a device of a process that is alone.
    """
    if group.size > 1:
        there = sorted(jax.devices(device.platform), key=lambda one: (one.process_index, one.id))
        return np.array(there).reshape(group.size, -1)
    return np.array(jax.local_devices(backend=device.platform) if every else [device])[:, None]


def _same(values: Any) -> Any:
    return values
