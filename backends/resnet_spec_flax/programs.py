"""What a session compiles to train: pure functions of weights, slots and a batch.

No host, no device sync. Used by `session` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from resnet_spec.ops import Tensor
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import GROWTH_STEPS
from resnet_spec_flax.compiling import CompilerOptions
from resnet_spec_flax.passes import Inputs, Passes, Told, unscaled
from resnet_spec_flax.slots import Keep, Slots
from resnet_spec_flax.weights import Weights, read


class Sums(NamedTuple):
    """What the passes of one step add up to."""

    loss: jax.Array
    correct: jax.Array
    gradients: Weights


class Program(Passes):
    """A session's functions for one structure of modules, compiled once per batch shape."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None,
        optimizer: optax.GradientTransformation,
        dtype: np.dtype,
        options: CompilerOptions,
        graphdef: nnx.GraphDef,
        others: nnx.State,
    ) -> None:
        """Close over everything that is the same at every step.

        dtype: type of parameters and statistics. options: what XLA's compiler is told.
        others: variables of the module that are no weights (random streams of noise layers).
        """
        super().__init__(plan, recipe, dtype, options, graphdef, others)
        self._recipe = recipe or Recipe(steps=1)
        self._optimizer = optimizer
        self.backward = self._compiled(self._backward)
        # Donated arrays are updated in place.
        self._add = jax.jit(optax.tree.add, donate_argnums=0)
        self._update = jax.jit(self._updated, donate_argnums=(0, 1))

    def step(
        self,
        weights: Weights,
        slots: Slots,
        rate: np.floating,
        keep: Keep,
        parts: Sequence[Inputs],
    ) -> tuple[Weights, Slots, jax.Array, jax.Array]:
        """Return weights and slots after one step, its loss, and its correctly classified images.

        keep: None: as the recipe says.

        `weights` and `slots` are given up. Nothing here waits for the device. The passes and the
        update are compiled apart: as one function, ResNet-20 and ResNet-50 train no faster, and
        `backward` would be compiled once more for `gradients`, or once per part. Parts and steps
        are not scanned: within a loop of XLA's own, a CPU computes the gradients of convolutions
        5 to 70 times slower.
        """
        statistics, sums = self.backward(weights, slots.loss_scale, parts[0])
        for part in parts[1:]:
            weights = {**weights, **statistics}
            statistics, new = self.backward(weights, slots.loss_scale, part)
            sums = self._add(sums, new)
        return self._update({**weights, **statistics}, slots, sums, rate, keep)

    def _backward(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the new running statistics; loss, correct images and gradients."""
        statistics = self._statistics()

        def watched(model: Any) -> Told:
            return lambda logits, loss: (
                loss,
                (logits.argmax(1) == inputs.labels).sum(),
                read(model, statistics),
            )

        loss_of, trained, images = self._loss_of(weights, loss_scale, inputs, watched)
        gradients, (loss, correct, new) = jax.grad(loss_of, has_aux=True)(trained, images)
        return new, Sums(loss, correct, unscaled(gradients, loss_scale))

    def _statistics(self) -> list[Tensor]:
        """Return what a training pass changes of itself."""
        return [t for t in self._plan.tensors if t.is_statistic and not t.frozen]

    def _updated(
        self, weights: Weights, slots: Slots, sums: Sums, rate: jax.Array, keep: Keep = None
    ) -> tuple[Weights, Slots, jax.Array, jax.Array]:
        """Apply the mean gradient; `rate` is traced, so that a schedule compiles nothing anew."""
        parts = self._recipe.accumulate
        gradients = jax.tree.map(lambda g: g / parts, sums.gradients)
        trained = {name: weights[name] for name in gradients}
        update, optimizer = self._optimizer.update(gradients, slots.optimizer, trained)
        moved = jax.tree.map(lambda w, u: w - rate * u, trained, update)
        loss_scale = slots.loss_scale
        if loss_scale:
            is_finite = all_finite(gradients)
            old, new = (trained, slots.optimizer), (moved, optimizer)
            moved, optimizer = optax.tree.where(is_finite, new, old)
            loss_scale = _next_scale(loss_scale, is_finite)
        weights = {**weights, **moved}
        average, decay = slots.average, self._recipe.ema.decay
        if average:
            kept, taken = (decay, 1.0 - decay) if keep is None else keep
            names = [tensor.name for tensor in self._plan.tensors if not tensor.frozen]
            moved = {n: kept * average[n] + taken * weights[n] for n in names}
            average = {**average, **moved}
        return weights, Slots(optimizer, average, loss_scale), sums.loss / parts, sums.correct


# Dynamic loss scaling (Micikevicius et al. 2018) with the numbers of torch's GradScaler.


def all_finite(gradients: Weights) -> jax.Array:
    """Return whether no gradient overflowed."""
    return jnp.all(jnp.array([jnp.isfinite(g).all() for g in gradients.values()]))


def _next_scale(loss_scale: dict[str, jax.Array], is_finite: jax.Array) -> dict[str, jax.Array]:
    """Halve the scale after an overflow, double it after many steps without one."""
    scale = loss_scale["scale"]
    good_steps = jnp.where(is_finite, loss_scale["good_steps"] + 1.0, 0.0)
    grows = good_steps == GROWTH_STEPS
    grown = jnp.where(grows, 2.0 * scale, scale)
    return {
        "scale": jnp.where(is_finite, grown, 0.5 * scale),
        "good_steps": jnp.where(grows, 0.0, good_steps),
    }
