"""Passes over a session's network: pure functions of weights and a batch, compiled once per shape.

The graph of modules is closed over; the arrays go in and out as dicts by canonical name. Here is
what predicts and what looks inside; `programs` adds what trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_flax.compiling import CompilerOptions
from resnet_spec_flax.layers import Noise, Tap
from resnet_spec_flax.losses import loss_of
from resnet_spec_flax.modules import find
from resnet_spec_flax.weights import Weights, as_state, trainable

Told = Callable[[jax.Array, jax.Array], Any]
"""What is told of a pass, by its logits and its loss."""


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


class Passes:
    """The passes of one structure of modules."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None,
        dtype: np.dtype,
        options: CompilerOptions,
        graphdef: nnx.GraphDef,
        others: nnx.State,
    ) -> None:
        """Close over everything that is the same at every call; see `Program`."""
        self._plan = plan
        self._loss = jax.named_scope("loss")(loss_of(recipe, plan.classes, dtype))
        self._dtype = dtype
        self._graphdef = graphdef
        self._others = others
        self._compiled = partial(jax.jit, compiler_options=options.backward)
        """What `jax.jit` is for a function that goes backwards."""
        self.predict = jax.jit(self._predict, compiler_options=options.predict)
        self.activations = jax.jit(self._activations, static_argnames="train")
        self.node_gradients = jax.jit(self._node_gradients)
        self.backward_with_outputs = self._compiled(self._backward_with_outputs)

    def _predict(self, weights: Weights, images: jax.Array) -> jax.Array:
        """Return evaluation-mode logits [N, classes]."""
        model = self._model(weights, {}, train=False)
        return self._logits(model, self._normalised(images))

    def _activations(self, weights: Weights, inputs: Inputs, train: bool) -> list[jax.Array]:
        """Return the output of every observed layer, NCHW where it has height and width."""
        model = self._model(weights, inputs.noise, train)
        outputs = self._kept(model)
        self._logits(model, self._normalised(inputs.images))
        return self._observed(outputs)

    def _node_gradients(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> Weights:
        """Return the loss's gradients by "input", the images, and every observed layer's output.

        Each output has zeros added to it, and the gradient is taken by those.
        """
        scale = loss_scale.get("scale", 1.0)
        images = self._normalised(inputs.images)

        def outputs_of(images: jax.Array) -> dict[str, jax.Array]:
            model = self._model(weights, inputs.noise, train=True)
            found = self._kept(model)
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

    def _kept(self, model: Any) -> dict[str, jax.Array]:
        """Return where `model` will put the output of every observed layer when it is called."""
        outputs: dict[str, jax.Array] = {}

        def keep(name: str, output: jax.Array) -> jax.Array:
            outputs[name] = output
            return output

        self._tap(model, keep)
        return outputs

    def _tap(self, model: Any, tap: Callable[[str, jax.Array], jax.Array]) -> None:
        """Put a tap on the output of every observed layer of `model`."""
        for name in self._plan.observed:
            path, _, key = name.rpartition(".")
            parent = find(model, path) if path else model
            setattr(parent, key, Tap(getattr(parent, key), partial(tap, name)))

    def _observed(self, outputs: Mapping[str, jax.Array]) -> list[jax.Array]:
        return [self._canonical(outputs[name]) for name in self._plan.observed]

    def _canonical(self, y: jax.Array) -> jax.Array:
        """Return NHWC as NCHW, in the type of the parameters."""
        y = y.astype(self._dtype)
        return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y

    def _backward_with_outputs(
        self, weights: Weights, loss_scale: Mapping[str, jax.Array], inputs: Inputs
    ) -> tuple[tuple[jax.Array, list[jax.Array]], Weights]:
        """Return the loss and the outputs as `_activations` does, and the loss's gradients.

        Those by the weights and, as "input", by the images. Where blocks are computed again, what
        is seen within one is gone when it has been, and there are no outputs.
        """

        def watched(model: Any) -> Told:
            outputs = {} if self._plan.remat else self._kept(model)
            return lambda _, loss: (loss, self._observed(outputs) if outputs else [])

        loss_of, trained, images = self._loss_of(weights, loss_scale, inputs, watched)
        slopes = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
        (gradients, by_images), told = slopes(trained, images)
        found = {**gradients, "input": self._canonical(by_images)}
        return told, unscaled(found, loss_scale)

    def _loss_of(
        self,
        weights: Weights,
        loss_scale: Mapping[str, jax.Array],
        inputs: Inputs,
        watched: Callable[[Any], Told],
    ) -> tuple[Callable[..., Any], Weights, jax.Array]:
        """Return the scaled loss as a function of weights and normalised images, and these.

        watched: is given the model before the pass, and returns a function of the logits and the
            loss; what that returns after it is returned beside the scaled loss.
        """
        scale = loss_scale.get("scale", 1.0)

        def loss_of(trained: Weights, images: jax.Array) -> Any:
            model = self._model({**weights, **trained}, inputs.noise, train=True)
            for name in self._plan.remat:
                find(model, name).is_computed_again = True
            told = watched(model)
            logits = self._logits(model, images)
            loss = self._loss(logits, inputs.labels, inputs.targets, inputs.soft)
            return loss * scale, told(logits, loss)

        trained = {t.name: weights[t.name] for t in trainable(self._plan)}
        return loss_of, trained, self._normalised(inputs.images)

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


def unscaled(gradients: Weights, loss_scale: Mapping[str, jax.Array]) -> Weights:
    """Return gradients of the scaled loss as those of the loss."""
    scale = loss_scale.get("scale", 1.0)
    return jax.tree.map(lambda g: g / scale, gradients)
