"""What a session compiles for several devices: one program over a mesh of them all.

Used by `mesh` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resnet_spec_flax.passes import Inputs
from resnet_spec_flax.programs import Program, Sums
from resnet_spec_flax.slots import Slots, has_average
from resnet_spec_flax.weights import Weights, flax_shape, trainable

_REPLICA, _DEVICE = AXES = "replica", "device"
_WHOLE = PartitionSpec()


@dataclass(frozen=True)
class Layout:
    """Where arrays lie on a mesh [replica, device]. shard: whether weights are cut."""

    mesh: Mesh
    shard: bool

    @property
    def whole(self) -> NamedSharding:
        """Of what every device has alike."""
        return NamedSharding(self.mesh, _WHOLE)

    @property
    def batch(self) -> NamedSharding:
        """Of what has a row for each image."""
        return NamedSharding(self.mesh, PartitionSpec(AXES))

    def of(self, shape: tuple[int, ...]) -> NamedSharding:
        """Return where a weight lies, or what training keeps of one.

        Cut along the largest axis that can be cut equally, the first of equal ones; else whole.
        """
        axes = [axis for axis, size in enumerate(shape) if size % self.mesh.size == 0]
        if not self.shard or not axes:
            return self.whole
        axis = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXES))


class GlobalProgram(Program):
    """The session's functions with `backward` over the batch of all devices."""

    def __init__(self, layout: Layout, *fixed: Any) -> None:
        super().__init__(*fixed)
        self._layout = layout
        self.backward = self._compiled(self._backward_of_all, out_shardings=layout.whole)
        if layout.shard:
            self._keep_parts()

    def _keep_parts(self) -> None:
        """Have what a step makes lie as what it is made from."""
        whole: Any = self._layout.whole
        of = self._layout.of
        weights: Any = {t.name: of(flax_shape(t)) for t in self._plan.tensors}
        statistics = {t.name: weights[t.name] for t in self._statistics()}
        trained = {t.name: weights[t.name] for t in trainable(self._plan)}
        sums = Sums(whole, whole, trained)
        slots = Slots(
            optimizer=jax.tree.map(lambda slot: of(slot.shape), self._optimizer_shapes()),
            average=weights if has_average(self._recipe) else {},
            loss_scale=whole,  # Of all that is in it.
        )
        passed = statistics, sums
        self.backward = self._compiled(self._backward_of_parts, out_shardings=passed)
        self._add = jax.jit(optax.tree.add, donate_argnums=0, out_shardings=sums)
        step = weights, slots, whole, whole
        self._update = jax.jit(self._updated, donate_argnums=(0, 1), out_shardings=step)

    def _optimizer_shapes(self) -> Any:
        shapes = {t.name: flax_shape(t) for t in trainable(self._plan)}
        trained = {n: jax.ShapeDtypeStruct(shape, self._dtype) for n, shape in shapes.items()}
        return jax.eval_shape(self._optimizer.init, trained)

    def _backward_of_parts(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return what `_backward_of_all` does for weights in parts."""
        # Else the compiler may cut the layers as their weights are cut, and send activations.
        gathered = jax.lax.with_sharding_constraint(weights, self._layout.whole)
        found = self._backward_of_all(gathered, loss_scale, inputs)
        return jax.lax.with_sharding_constraint(found, self._layout.whole)

    def _backward_of_all(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the new running statistics; loss, correct images and gradients."""
        return self._backward(weights, loss_scale, inputs)


class ReplicaProgram(GlobalProgram):
    """The same with the statistics of each replica's own samples."""

    def _backward_of_all(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        run = jax.shard_map(
            self._of_own_samples,
            mesh=self._layout.mesh,
            in_specs=(_WHOLE, _WHOLE, PartitionSpec(_REPLICA)),
            out_specs=_WHOLE,
            axis_names={_REPLICA},
        )
        return run(weights, loss_scale, inputs)

    def _of_own_samples(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the means over replicas of what each has; correct images are added."""
        # Of weights that all have alike JAX would add up the gradients by itself.
        own = jax.tree.map(lambda w: jax.lax.pcast(w, _REPLICA, to="varying"), weights)
        statistics, sums = self._backward(own, loss_scale, inputs)
        correct = jax.lax.psum(sums.correct, _REPLICA)
        loss, gradients = jax.lax.pmean((sums.loss, sums.gradients), _REPLICA)
        return jax.lax.pmean(statistics, _REPLICA), Sums(loss, correct, gradients)
