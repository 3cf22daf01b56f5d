"""What a session compiles: pure functions of weights, slots and a batch; no host, no device sync.

The graph of modules is closed over; the arrays go in and out as dicts by canonical name. Used by
`session` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from resnet_spec_flax.layers import Noise, Tap
from resnet_spec_flax.losses import loss_of
from resnet_spec_flax.modules import find
from resnet_spec_flax.slots import Slots
from resnet_spec_flax.weights import Weights, as_state, read, trainable


class Inputs(NamedTuple):
    """A batch, on the host or on the device.

    images: [N, H, W, C], uint8 or normalised. labels: int32 [N]. noise: factors [N, C] or [N] by
    name of the op. targets: [N, classes] where the recipe needs them. soft: a teacher's, too.
    """

    images: Any
    labels: Any
    noise: dict[str, Any]
    targets: Any = None
    soft: Any = None


Keep = tuple[Any, Any] | None
"""How much of the average a step keeps and how much of the weights it takes; None: as always."""


class Sums(NamedTuple):
    """What the passes of one step add up to."""

    loss: jax.Array
    correct: jax.Array
    gradients: Weights


_BARRIERS_STAY = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""For XLA's compiler for CPUs, which takes barriers away early, and then has the backward pass use
the activations of the forward one: they would be kept after all."""


class Program:
    """A session's functions for one structure of modules, compiled once per batch shape."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None,
        optimizer: optax.GradientTransformation,
        dtype: np.dtype,
        platform: str,
        graphdef: nnx.GraphDef,
        others: nnx.State,
    ) -> None:
        """Close over everything that is the same at every step.

        dtype: type of parameters and statistics. platform: of the device, as JAX calls it.
        others: variables of the module that are no weights (random streams of noise layers).
        """
        self._plan = plan
        self._recipe = recipe or Recipe(steps=1)
        self._loss = jax.named_scope("loss")(loss_of(recipe, plan.classes, dtype))
        self._optimizer = optimizer
        self._dtype = dtype
        self._graphdef = graphdef
        self._others = others
        stay = plan.remat and platform == "cpu"
        self._compiled = partial(jax.jit, compiler_options=_BARRIERS_STAY if stay else None)
        """What `jax.jit` is for a function that goes backwards."""
        self.predict = jax.jit(self._predict)
        self.backward = self._compiled(self._backward)
        self.backward_to_images = self._compiled(self._backward_to_images)
        self.activations = jax.jit(self._activations, static_argnames="train")
        self.node_gradients = jax.jit(self._node_gradients)
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

    def _predict(self, weights: Weights, images: jax.Array) -> jax.Array:
        """Return evaluation-mode logits [N, classes]."""
        model = self._model(weights, {}, train=False)
        return self._logits(model, self._normalised(images))

    def _activations(self, weights: Weights, inputs: Inputs, train: bool) -> list[jax.Array]:
        """Return the output of every observed layer, NCHW where it has height and width."""
        model = self._model(weights, inputs.noise, train)
        outputs: dict[str, jax.Array] = {}

        def keep(name: str, output: jax.Array) -> jax.Array:
            outputs[name] = output
            return output

        self._tap(model, keep)
        self._logits(model, self._normalised(inputs.images))
        return [self._canonical(outputs[name]) for name in self._plan.observed]

    def _node_gradients(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> Weights:
        """Return the loss's gradients by "input", the images, and every observed layer's output.

        Each output has zeros added to it, and the gradient is taken by those.
        """
        scale = loss_scale.get("scale", 1.0)
        images = self._normalised(inputs.images)

        def outputs_of(images: jax.Array) -> dict[str, jax.Array]:
            found: dict[str, jax.Array] = {}

            def keep(name: str, output: jax.Array) -> jax.Array:
                found[name] = output
                return output

            model = self._model(weights, inputs.noise, train=True)
            self._tap(model, keep)
            self._logits(model, images)
            return found

        def loss_of(added: dict[str, jax.Array], images: jax.Array) -> jax.Array:
            model = self._model(weights, inputs.noise, train=True)
            self._tap(model, lambda name, output: output + added[name])
            logits = self._logits(model, images)
            return self._loss(logits, inputs.labels, inputs.targets, inputs.soft) * scale

        shapes = jax.eval_shape(outputs_of, images)
        zeros = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}
        by_output, by_image = jax.grad(loss_of, argnums=(0, 1))(zeros, images)
        found = {"input": by_image, **by_output}
        return {name: self._canonical(gradient) / scale for name, gradient in found.items()}

    def _tap(self, model: Any, tap: Callable[[str, jax.Array], jax.Array]) -> None:
        """Put a tap on the output of every observed layer of `model`."""
        for name in self._plan.observed:
            path, _, key = name.rpartition(".")
            parent = find(model, path) if path else model
            setattr(parent, key, Tap(getattr(parent, key), partial(tap, name)))

    def _canonical(self, y: jax.Array) -> jax.Array:
        """Return NHWC as NCHW, in the type of the parameters."""
        y = y.astype(self._dtype)
        return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y

    def _backward(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Weights, Sums]:
        """Return the new running statistics; loss, correct images and gradients."""
        loss_of, trained, images = self._loss_of(weights, loss_scale, inputs)
        gradients, (loss, correct, new) = jax.grad(loss_of, has_aux=True)(trained, images)
        return new, Sums(loss, correct, _unscaled(gradients, loss_scale))

    def _backward_to_images(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[jax.Array, Weights]:
        """Return the loss, and its gradients by the weights and, as "input", by the images."""
        loss_of, trained, images = self._loss_of(weights, loss_scale, inputs)
        slopes = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
        (gradients, by_images), (loss, _, _) = slopes(trained, images)
        found = {**gradients, "input": self._canonical(by_images)}
        return loss, _unscaled(found, loss_scale)

    def _loss_of(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[Callable[..., Any], Weights, jax.Array]:
        """Return the scaled loss as a function of weights and normalised images, and these.

        Beside it the function returns the loss, the correct images and the new statistics.
        """
        statistics = self._statistics()
        scale = loss_scale.get("scale", 1.0)

        def loss_of(trained: Weights, images: jax.Array) -> Any:
            model = self._model({**weights, **trained}, inputs.noise, train=True)
            for name in self._plan.remat:
                find(model, name).is_computed_again = True
            logits = self._logits(model, images)
            loss = self._loss(logits, inputs.labels, inputs.targets, inputs.soft)
            correct = (logits.argmax(1) == inputs.labels).sum()
            return loss * scale, (loss, correct, read(model, statistics))

        trained = {t.name: weights[t.name] for t in trainable(self._plan)}
        return loss_of, trained, self._normalised(inputs.images)

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

    def _model(self, weights: Weights, noise: Mapping[str, jax.Array], train: bool) -> Any:
        """Return a copy of the native module with these weights, in the given mode."""
        state = as_state(self._plan.tensors, weights)
        model = nnx.merge(self._graphdef, state, self._others, copy=True)
        (model.train if train else model.eval)()
        for name, factors in noise.items():
            find(model, name).noise = Noise(factors)
        return model

    @jax.named_scope("images")
    def _normalised(self, images: jax.Array) -> jax.Array:
        if images.dtype != jnp.uint8:
            return images
        given = self._plan.input
        scale, shift = (np.array(values, self._dtype) for values in (given.scale, given.shift))
        return images.astype(self._dtype) * scale + shift

    def _logits(self, model: Any, images: jax.Array) -> jax.Array:
        return model(images).astype(self._dtype)


def _unscaled(gradients: Weights, loss_scale: Mapping[str, jax.Array]) -> Weights:
    scale = loss_scale.get("scale", 1.0)
    return jax.tree.map(lambda g: g / scale, gradients)


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
