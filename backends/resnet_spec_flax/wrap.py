"""A person's own Flax network in the place of a session: an NNX module, or Linen with variables.

Nothing is required of it but that it maps images [N, H, W, C] to logits, or to an object or tuple
that begins with them. Its tensors are called by their paths, parameters and statistics alike, as
`BottleneckResNetBlock_3.Conv_1.kernel`. The core gives them their canonical names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from resnet_spec.contract import Array, Batch, Precision, State
from resnet_spec.errors import BackendError, problem
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import compared_with
from resnet_spec_flax.devices import describe, find_device
from resnet_spec_flax.known_programs import KnownPrograms
from resnet_spec_flax.losses import loss_of
from resnet_spec_flax.networks import LinenNetwork, Network, NnxNetwork, Weights, logits_of, same

Seen = dict[str, list[Array]]
"""Path of a module -> what it returned, call by call; "" is the model, with its logits."""
Calls = dict[str, list[jax.Array]]
Compared = tuple[jax.Array, jax.Array | None, jax.Array | None]
"""Labels [N], and targets and a teacher's [N, classes] where the recipe needs them."""


def wrap(
    model: nnx.Module | tuple[linen.Module, Mapping[str, Any]],
    plan: Plan,
    *,
    recipe: Recipe | None = None,
    precision: Precision = "float32",
) -> Model:
    """Return `model` as the core compares it.

    model: an NNX module, or a Linen module and its variables, {"params": ..., "batch_stats": ...}.
    plan: for the size and normalisation of the images; recipe: for its loss.
    precision: float32 or float64; the weights are taken in it.

    Raises BackendError for another precision, and for a Linen module without its variables.
    """
    if precision not in ("float32", "float64"):
        rule = "is not compared"
        raise BackendError(problem("precision", precision, rule, "use float32 or float64"))
    if isinstance(model, nnx.Module):
        return Model(NnxNetwork(model), plan, recipe, precision)
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], linen.Module):
        return Model(LinenNetwork(*model), plan, recipe, precision)
    kind = type(model).__name__
    remedy = "give the pair (module, variables)"
    raise BackendError(problem("model", kind, "a Linen module holds no weights", remedy))


class _Passes(NamedTuple):
    """A network's passes, compiled."""

    predict: Any
    backward: Any
    outputs: Any
    output_gradients: Any
    statistics: Any


class Model:
    """A network with what a comparison asks of it; every pass leaves it as it was."""

    def __init__(
        self, network: Network, plan: Plan, recipe: Recipe | None, precision: Precision
    ) -> None:
        self._network = network
        self._image = plan.input
        self._classes = plan.classes
        self._recipe = recipe
        self._precision = precision
        self._dtype = np.dtype(precision)
        self._loss_of = loss_of(recipe, plan.classes, self._dtype)
        self._programs: KnownPrograms[_Passes] = KnownPrograms()
        self.info: Mapping[str, str] = {
            "framework": "flax",
            "version": flax.__version__,
            "device": describe(find_device("auto")),
            "precision": precision,
            "math": "strict",
            "jax": jax.__version__,
        }

    @property
    def native(self) -> Any:
        """The module that was given."""
        return self._network.native

    def tensors(self) -> State:
        """Return copies of parameters and statistics by path, in the precision of comparison."""
        weights = self._network.weights().items()
        return {name: np.array(array, self._dtype) for name, array in weights}

    def assign(self, state: Mapping[str, Array]) -> None:
        """Put `state`, whose names and shapes are the network's, into it."""
        self._network.assign(state)

    def modules(self) -> frozenset[str]:
        """Return the paths of the modules."""
        image = self._image
        shape = (1, image.height, image.width, image.channels)
        with self._settings():
            return self._network.paths(jax.ShapeDtypeStruct(shape, self._dtype))

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        for batch in batches:
            with self._settings():
                logits = np.array(self._passes().predict(self.tensors(), self._images(batch)))
            yield logits

    def gradients(self, batch: Batch, names: Sequence[str]) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by the parameters `names`."""
        with self._settings():
            inputs = self._images(batch), self._compared(batch)
            loss, found = self._passes().backward(self.tensors(), *inputs, names=tuple(names))
        return float(loss), {name: np.array(found[name]) for name in names}

    def outputs(self, batch: Batch, paths: Iterable[str], train: bool) -> Seen:
        """Return what the modules at `paths` put out, call by call; NCHW."""
        with self._settings():
            inputs = self.tensors(), self._images(batch)
            return _on_host(self._passes().outputs(*inputs, paths=frozenset(paths), train=train))

    def output_gradients(self, batch: Batch, paths: Iterable[str]) -> tuple[Array, Seen]:
        """Return the loss's gradient by the normalised images, and by the outputs at `paths`.

        Each output has zeros added to it, and the gradient is taken by those.
        """
        with self._settings():
            inputs = self.tensors(), self._images(batch), self._compared(batch)
            by_image, found = self._passes().output_gradients(*inputs, paths=frozenset(paths))
            return _canonical(by_image), _on_host(found)

    def statistics(self, batch: Batch) -> State:
        """Return the weights after one pass in training mode."""
        with self._settings():
            found = self._passes().statistics(self.tensors(), self._images(batch))
        return {name: np.array(array) for name, array in found.items()}

    def _passes(self) -> _Passes:
        """Return the passes of the network as its owner left it."""
        held = self._network.held()
        return self._programs.of(*held) or self._programs.keep(*held, self._compiled())

    def _compiled(self) -> _Passes:
        """Return functions that are new to JAX, which keeps what it traced of equal methods."""
        return _Passes(
            predict=jax.jit(partial(self._logits, train=False)),
            backward=jax.jit(partial(self._gradients), static_argnames="names"),
            outputs=jax.jit(partial(self._calls), static_argnames=("paths", "train")),
            output_gradients=jax.jit(partial(self._by_outputs), static_argnames="paths"),
            statistics=jax.jit(partial(self._after)),
        )

    def _logits(self, weights: Weights, images: jax.Array, train: bool) -> jax.Array:
        output, _ = self._network.run(weights, images, train, frozenset(), same)
        return logits_of(output)

    def _after(self, weights: Weights, images: jax.Array) -> Weights:
        _, after = self._network.run(weights, images, True, frozenset(), same)
        return after

    def _gradients(
        self, weights: Weights, images: jax.Array, compared: Compared, names: tuple[str, ...]
    ) -> tuple[jax.Array, Weights]:
        def loss_of(trained: Weights) -> jax.Array:
            logits = self._logits({**weights, **trained}, images, train=True)
            return self._loss_of(logits, *compared)

        return jax.value_and_grad(loss_of)({name: weights[name] for name in names})

    def _calls(
        self, weights: Weights, images: jax.Array, paths: frozenset[str], train: bool
    ) -> Calls:
        """Return every output of the modules at `paths`, and the logits under ""."""
        seen: Calls = {path: [] for path in paths}

        def keep(path: str, output: jax.Array) -> jax.Array:
            seen[path].append(output)
            return output

        output, _ = self._network.run(weights, images, train, paths, keep)
        return {**seen, "": [logits_of(output)]}

    def _by_outputs(
        self, weights: Weights, images: jax.Array, compared: Compared, paths: frozenset[str]
    ) -> tuple[jax.Array, Calls]:
        shapes = jax.eval_shape(partial(self._calls, paths=paths, train=True), weights, images)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def loss_of(images: jax.Array, added: Calls) -> jax.Array:
            left = {path: list(calls) for path, calls in added.items()}

            def add(path: str, output: jax.Array) -> jax.Array:
                return output + left[path].pop(0)

            output, _ = self._network.run(weights, images, True, paths, add)
            return self._loss_of(logits_of(output) + added[""][0], *compared)

        return jax.grad(loss_of, argnums=(0, 1))(images, zeros)

    def _images(self, batch: Batch) -> jax.Array:
        """Return normalised images [N, H, W, C]."""
        images = jnp.asarray(batch.images).astype(self._dtype)
        if batch.images.dtype == np.uint8:
            scale, shift = (
                np.array(v, self._dtype) for v in (self._image.scale, self._image.shift)
            )
            images = images * scale + shift
        return images

    def _compared(self, batch: Batch) -> Compared:
        labels, *shares = compared_with(batch, self._recipe, self._classes)
        targets, soft = (
            None if array is None else jnp.asarray(array.astype(self._dtype)) for array in shares
        )
        return jnp.asarray(labels.astype(np.int32)), targets, soft

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """JAX's settings for this model alone; float32 products are exact on accelerators too."""
        with (
            jax.enable_x64(self._precision == "float64"),
            jax.default_matmul_precision("highest"),
        ):
            yield


def _canonical(array: jax.Array) -> Array:
    """Return NHWC as NCHW."""
    moved = np.asarray(array)
    return np.array(moved.transpose(0, 3, 1, 2) if moved.ndim == 4 else moved, order="C")


def _on_host(calls: Calls) -> Seen:
    return {path: list(map(_canonical, outputs)) for path, outputs in calls.items()}
