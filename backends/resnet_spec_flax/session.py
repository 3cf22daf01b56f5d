"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from math import prod
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.ops import Norm, Tensor
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_flax.modules import Noise, empty, find
from resnet_spec_flax.weights import (
    Weights,
    as_state,
    check_state,
    family,
    make_optimizer,
    read,
    to_flax,
    to_state,
    write,
)

PRECISIONS: tuple[Precision, ...] = ("float32", "float64", "bfloat16", "float16")

# Parameters and statistics stay in float32 under the reduced precisions (mixed precision,
# Micikevicius et al. 2018).
_REDUCED = ("bfloat16", "float16")

# Dynamic loss scaling with the numbers of torch's GradScaler.
_FIRST_SCALE = 2.0**16
_GROW_AFTER = 2000


class Slots(NamedTuple):
    """What training keeps beside the weights."""

    optimizer: optax.OptState
    average: Weights
    """Every tensor's moving average; empty without one."""
    loss_scale: dict[str, jax.Array]
    """`scale` and `good_steps`; empty unless computing in float16."""


class Inputs(NamedTuple):
    """One batch on the device."""

    images: jax.Array
    labels: jax.Array
    noise: dict[str, jax.Array]


class Session:
    """See `resnet_spec.contract.Session`."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None = None,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            hint = did_you_mean(precision, PRECISIONS)
            raise BackendError(problem("precision", precision, "is not one of flax's", hint))
        self._plan = plan
        self._recipe = recipe
        self._device = _find_device(device)
        self._precision = precision
        self._dtype = np.dtype("float64" if precision == "float64" else "float32")
        self._optimizer = make_optimizer(plan, recipe) if recipe else optax.identity()
        self._programs: dict[nnx.GraphDef, Program] = {}
        with self._settings():
            self.native = empty(plan, dtype=precision, param_dtype=self._dtype)
            self._slots = self._fresh_slots()
        info = {
            "framework": "flax",
            "version": flax.__version__,
            "device": _describe(self._device),
            "precision": precision,
            "math": f"computes in {precision}" if precision in _REDUCED else "strict",
            "jax": jax.__version__,
            "optax": optax.__version__,
        }
        if self._device.platform == "cpu":
            info["denormals"] = "flushed to zero"
        self.info: Mapping[str, str] = info

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        plan, slots = self._plan, self._slots
        with self._settings():
            state = to_state(plan.tensors, read(self.native, plan.tensors))
            velocity = optax.tree.get(slots.optimizer, "trace")
            if velocity is not None:
                state |= to_state(_trainable(plan), velocity, "momentum/")
            if slots.average:
                state |= to_state(plan.tensors, slots.average, "ema/")
            for name, number in slots.loss_scale.items():
                state[f"loss_scale/{name}"] = np.array(number)
        return state

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        check_state(self._shapes(), state)
        tensors, families = self._plan.tensors, {family(name) for name in state}

        def taken(tensors: Iterable[Tensor], prefix: str = "") -> Weights:
            arrays = {t.name: to_flax(t, state[prefix + t.name], self._dtype) for t in tensors}
            return jax.device_put(arrays, self._device)

        with self._settings():
            write(self.native, tensors, taken(tensors))
            slots = self._fresh_slots()
            optimizer, average, loss_scale = slots
            if "momentum/" in families:
                velocity = taken(_trainable(self._plan), "momentum/")
                optimizer = optax.tree.set(optimizer, trace=velocity)
            if "ema/" in families:
                average = taken(tensors, "ema/")
            if "loss_scale/" in families:
                numbers = {k: np.array(state[f"loss_scale/{k}"], np.float32) for k in loss_scale}
                loss_scale = jax.device_put(numbers, self._device)
            self._slots = Slots(optimizer, average, loss_scale)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        On an accelerator the next batch is under way while one is handed out. A batch smaller than
        the first one is filled up to its size, since every new shape would be compiled.
        """
        ahead = 0 if self._device.platform == "cpu" else 1
        waiting: deque[tuple[jax.Array, int]] = deque()
        size = 0
        for batch in batches:
            size = size or len(batch)
            with self._settings():
                program, weights = self._program()
                images = self._put(_filled(self._images(batch), size))
                waiting.append((program.predict(weights, images), len(batch)))
            if len(waiting) > ahead:
                yield _cut(*waiting.popleft())
        yield from (_cut(*item) for item in waiting)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        with self._settings():
            program, weights = self._program()
            inputs = self._inputs(batch, parts=1)
            loss, gradients = program.gradients(weights, self._slots, inputs)
            return float(loss), to_state(_trainable(self._plan), gradients)

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing."""
        with self._settings():
            program, weights = self._program()
            if train:
                inputs = self._inputs(batch, parts=1)
            else:
                inputs = self._put(Inputs(self._images(batch), batch.labels.astype(np.int32), {}))
            outputs = program.activations(weights, inputs, train=train)
            arrays = [np.array(output, order="C") for output in outputs]
        return zip(self._plan.observed, arrays, strict=True)

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        if self._recipe is None:
            raise BackendError("recipe = None: train needs one; give the session a recipe")
        losses: list[jax.Array] = []
        correct: list[jax.Array] = []
        count: list[int] = []
        with self._settings(), _memory_errors(self._device):
            program, weights = self._program()
            slots = self._slots
            steps = zip(rates.astype(self._dtype), self._ahead(batches, len(rates)), strict=False)
            try:
                for rate, inputs in steps:
                    weights, slots, loss, hits = program.step(weights, slots, rate, inputs)
                    losses.append(loss)
                    correct.append(hits)
                    count.append(len(inputs.labels))
            finally:
                write(self.native, self._plan.tensors, weights)
                self._slots = slots
            if len(count) < len(rates):
                rule = f"must hold one batch for each of {len(rates)} rates"
                raise BackendError(problem("batches", len(count), rule))
            # One wait for the whole chunk.
            return StepLog(
                loss=np.array(jax.device_get(losses), np.float64),
                correct=np.array(jax.device_get(correct), np.int64),
                count=np.array(count, np.int64),
            )

    def _ahead(self, batches: Iterable[Batch], steps: int) -> Iterator[Inputs]:
        """Yield `steps` batches on the device, each one under way a step before it is used."""
        assert self._recipe is not None
        waiting: deque[Inputs] = deque()
        for batch in islice(batches, steps):
            waiting.append(self._inputs(batch, self._recipe.accumulate))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting

    def _inputs(self, batch: Batch, parts: int) -> Inputs:
        """Return a training batch on the device, without waiting for it to arrive."""
        self._check_training(batch, parts)
        noise = {op.name: batch.noise[op.name] for op in self._plan.noises}
        return self._put(Inputs(self._images(batch), batch.labels.astype(np.int32), noise))

    def _images(self, batch: Batch) -> Array:
        images = batch.images
        return images if images.dtype == np.uint8 else images.astype(self._dtype)

    def _put(self, values: Any) -> Any:
        return jax.device_put(values, self._device)

    def _check_training(self, batch: Batch, parts: int) -> None:
        missing = [op.name for op in self._plan.noises if op.name not in batch.noise]
        if missing:
            raise BackendError(f"batch.noise: lacks {', '.join(missing)}, which training needs")
        if len(batch) % parts != 0:
            rule = f"must be a multiple of accumulate = {parts}"
            raise BackendError(problem("batch", len(batch), rule))
        for op in self._plan.ops:
            if isinstance(op, Norm) and len(batch) // parts * prod(op.in_shape[1:]) == 1:
                rule = f"leaves {op.name} one value per channel, which has no variance"
                raise BackendError(problem("batch", len(batch), rule, "take more images"))

    def _program(self) -> tuple[Program, Weights]:
        """Return the compiled functions for the native module as it is now, and its weights.

        What a user changes in the module counts: another structure is compiled anew.
        """
        graphdef, _, others = nnx.split(self.native, (nnx.Param, nnx.BatchStat), ...)
        if graphdef not in self._programs:
            self._programs[graphdef] = Program(
                self._plan, self._recipe, self._optimizer, self._dtype, graphdef, others
            )
        return self._programs[graphdef], read(self.native, self._plan.tensors)

    def _fresh_slots(self) -> Slots:
        """Return zero velocities, an average that equals the weights, the first loss scale."""
        weights = read(self.native, self._plan.tensors)
        optimizer = self._optimizer.init({t.name: weights[t.name] for t in _trainable(self._plan)})
        has_average = self._recipe is not None and self._recipe.ema.decay > 0
        numbers = {"scale": np.float32(_FIRST_SCALE), "good_steps": np.float32(0)}
        return Slots(
            optimizer=optimizer,
            average=jax.tree.map(jnp.copy, weights) if has_average else {},
            loss_scale=self._put(numbers) if self._precision == "float16" else {},
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the canonical shape of everything in the state."""
        shapes = {t.name: t.shape for t in self._plan.tensors}
        slots = {}
        if optax.tree.get(self._slots.optimizer, "trace") is not None:
            slots |= {f"momentum/{t.name}": t.shape for t in _trainable(self._plan)}
        if self._slots.average:
            slots |= {f"ema/{name}": shape for name, shape in shapes.items()}
        return shapes | slots | {f"loss_scale/{name}": () for name in self._slots.loss_scale}

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """JAX's settings for this session only; the process's own stay as they are."""
        with ExitStack() as stack:
            stack.enter_context(jax.enable_x64(self._precision == "float64"))
            stack.enter_context(jax.default_device(self._device))
            if self._precision not in _REDUCED:
                # By default float32 products are TF32 on GPUs and bfloat16 on TPUs.
                stack.enter_context(jax.default_matmul_precision("highest"))
            yield


class Program:
    """A session's pure functions for one structure of modules, compiled once per batch shape."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None,
        optimizer: optax.GradientTransformation,
        dtype: np.dtype,
        graphdef: nnx.GraphDef,
        others: nnx.State,
    ) -> None:
        """Close over everything that does not change from step to step.

        dtype: type of parameters and statistics.
        others: the module's variables that are no weights (random streams of noise layers).
        """
        self._plan = plan
        self._recipe = recipe
        self._optimizer = optimizer
        self._dtype = dtype
        self._graphdef = graphdef
        self._others = others
        self.predict = jax.jit(self._predict)
        self.gradients = jax.jit(self._gradients)
        self.activations = jax.jit(self._activations, static_argnames="train")
        self.step = jax.jit(self._step, donate_argnames=("weights", "slots"))

    def _predict(self, weights: Weights, images: jax.Array) -> jax.Array:
        """Return evaluation-mode logits [N, classes]."""
        return self._logits(self._model(weights, {}, train=False), images)

    def _gradients(
        self, weights: Weights, slots: Slots, inputs: Inputs
    ) -> tuple[jax.Array, Weights]:
        """Return the training loss of one batch and its gradients."""
        loss, _, _, gradients = self._backward(weights, slots, inputs)
        return loss, gradients

    def _activations(self, weights: Weights, inputs: Inputs, train: bool) -> list[jax.Array]:
        """Return the output of every observed layer, NCHW where it has height and width."""
        model = self._model(weights, inputs.noise if train else {}, train=train)
        outputs: dict[str, jax.Array] = {}
        for name in self._plan.observed:
            path, _, key = name.rpartition(".")
            parent = find(model, path) if path else model
            setattr(parent, key, Tap(name, getattr(parent, key), outputs))
        self._logits(model, inputs.images)
        found = (outputs[name].astype(self._dtype) for name in self._plan.observed)
        return [y.transpose(0, 3, 1, 2) if y.ndim == 4 else y for y in found]

    def _step(
        self, weights: Weights, slots: Slots, rate: jax.Array, inputs: Inputs
    ) -> tuple[Weights, Slots, jax.Array, jax.Array]:
        """Return weights and slots after one step, the loss, and the correctly classified images.

        rate: traced, so that a schedule compiles nothing anew.
        """
        assert self._recipe is not None
        loss, correct, statistics, gradients = self._accumulate(weights, slots, inputs)
        trained = {name: weights[name] for name in gradients}
        update, optimizer = self._optimizer.update(gradients, slots.optimizer, trained)
        moved = jax.tree.map(lambda w, u: w - rate * u, trained, update)
        loss_scale = slots.loss_scale
        if loss_scale:
            is_finite = jnp.all(jnp.array([jnp.isfinite(g).all() for g in gradients.values()]))
            moved, optimizer = optax.tree.where(
                is_finite, (moved, optimizer), (trained, slots.optimizer)
            )
            loss_scale = _next_scale(loss_scale, is_finite)
        weights = {**moved, **statistics}
        average, keep = slots.average, self._recipe.ema.decay
        if average:
            average = jax.tree.map(lambda a, w: keep * a + (1.0 - keep) * w, average, weights)
        return weights, Slots(optimizer, average, loss_scale), loss, correct

    def _accumulate(
        self, weights: Weights, slots: Slots, inputs: Inputs
    ) -> tuple[jax.Array, jax.Array, Weights, Weights]:
        """Do `_backward` over the equal consecutive parts of a batch; statistics go from one on."""
        assert self._recipe is not None
        parts = self._recipe.accumulate
        if parts == 1:
            return self._backward(weights, slots, inputs)
        pieces = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), inputs)
        trained = {t.name: weights[t.name] for t in self._plan.tensors if t.trainable}
        statistics = {name: weights[name] for name in weights.keys() - trained}

        def add(carry: tuple[Weights, Weights], piece: Inputs) -> Any:
            statistics, total = carry
            loss, correct, statistics, gradients = self._backward(
                {**trained, **statistics}, slots, piece
            )
            return (statistics, optax.tree.add(total, gradients)), (loss, correct)

        zeros = optax.tree.zeros_like(trained)
        carry, (losses, correct) = jax.lax.scan(add, (statistics, zeros), pieces)
        statistics, total = carry
        gradients = jax.tree.map(lambda g: g / parts, total)
        return losses.mean(), correct.sum(), statistics, gradients

    def _backward(
        self, weights: Weights, slots: Slots, inputs: Inputs
    ) -> tuple[jax.Array, jax.Array, Weights, Weights]:
        """Return loss, correctly classified images, new running statistics, and gradients."""
        smoothing = self._recipe.label_smoothing if self._recipe else 0.0
        statistics = [t for t in self._plan.tensors if not t.trainable]
        scale = slots.loss_scale.get("scale", 1.0)

        def loss_of(trained: Weights) -> Any:
            model = self._model({**weights, **trained}, inputs.noise, train=True)
            logits = self._logits(model, inputs.images)
            targets = jax.nn.one_hot(inputs.labels, self._plan.classes, dtype=self._dtype)
            targets = optax.smooth_labels(targets, smoothing)
            loss = optax.softmax_cross_entropy(logits, targets).mean()
            correct = (logits.argmax(1) == inputs.labels).sum()
            return loss * scale, (loss, correct, read(model, statistics))

        trained = {t.name: weights[t.name] for t in self._plan.tensors if t.trainable}
        gradients, (loss, correct, new) = jax.grad(loss_of, has_aux=True)(trained)
        return loss, correct, new, jax.tree.map(lambda g: g / scale, gradients)

    def _model(self, weights: Weights, noise: Mapping[str, jax.Array], train: bool) -> Any:
        """Return a copy of the native module with these weights, in the given mode."""
        state = as_state(self._plan.tensors, weights)
        model = nnx.merge(self._graphdef, state, self._others, copy=True)
        if train:
            model.train()
        else:
            model.eval()
        for name, factors in noise.items():
            find(model, name).noise = Noise(factors)
        return model

    def _logits(self, model: Any, images: jax.Array) -> jax.Array:
        if images.dtype == jnp.uint8:
            scale, shift = (
                np.array(values, self._dtype)
                for values in (self._plan.input.scale, self._plan.input.shift)
            )
            images = images.astype(self._dtype) * scale + shift
        return model(images).astype(self._dtype)


class Tap(nnx.Module):
    """Stands for a layer and keeps its output."""

    def __init__(self, name: str, layer: Any, outputs: dict[str, jax.Array]) -> None:
        self.layer = layer
        self.keep = partial(outputs.__setitem__, name)

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Do as the layer does."""
        output = self.layer(*inputs)
        self.keep(output)
        return output


def _next_scale(loss_scale: dict[str, jax.Array], is_finite: jax.Array) -> dict[str, jax.Array]:
    """Halve the scale after an overflow, double it after many steps without one."""
    scale = loss_scale["scale"]
    good_steps = jnp.where(is_finite, loss_scale["good_steps"] + 1.0, 0.0)
    grows = good_steps == _GROW_AFTER
    grown = jnp.where(grows, 2.0 * scale, scale)
    return {
        "scale": jnp.where(is_finite, grown, 0.5 * scale),
        "good_steps": jnp.where(grows, 0.0, good_steps),
    }


def _trainable(plan: Plan) -> list[Tensor]:
    return [tensor for tensor in plan.tensors if tensor.trainable]


def _filled(images: Array, size: int) -> Array:
    """Return `images` with empty ones after them, up to `size`."""
    missing = max(size - len(images), 0)
    return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images


def _cut(logits: jax.Array, count: int) -> Array:
    return np.array(logits)[:count].copy()


@contextmanager
def _memory_errors(device: jax.Device) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        rule = f"a training step does not fit into the memory of {_describe(device)}"
        raise BackendError(f"batch: {rule}; lower it, or raise accumulate") from None


def _find_device(name: str) -> jax.Device:
    """Return the device called `name`, as "gpu" or "cuda:1", or the best one. Raises
    BackendError."""
    if name == "auto":
        return jax.devices()[0]
    platform, _, index = name.partition(":")
    try:
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        there = sorted({device.platform for device in jax.devices()} | {"cpu"})
        remedy = f"choose from auto, {', '.join(there)}"
        raise BackendError(problem("device", name, "cannot be used by jax here", remedy)) from None


def _describe(device: jax.Device) -> str:
    name = f"{device.platform}:{device.id}"
    return "cpu" if device.platform == "cpu" else f"{name} ({device.device_kind})"
