"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.ops import Norm
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_mindspore.graphs import (
    Average,
    Gradients,
    Logits,
    Loss,
    Normalise,
    Step,
    Update,
)
from resnet_spec_mindspore.modules import empty
from resnet_spec_mindspore.weights import (
    Parameters,
    check_state,
    copy_into,
    family,
    parameters_of,
    to_array,
    to_state,
    to_tensor,
)

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""No float64: MindSpore's convolutions have no such kernel on any target."""

_REDUCED = {"bfloat16": ms.bfloat16, "float16": ms.float16}
_TARGETS = ("Ascend", "GPU", "CPU")
_FIRST_SCALE = 65536.0  # torch's GradScaler.


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
        del compile  # Training and prediction always run as compiled graphs.
        self._plan, self._recipe = plan, recipe
        target = _find_target(device)
        _check_precision(precision, target)
        self.native = empty(plan)
        if precision in _REDUCED:
            _reduce(self.native, _REDUCED[precision])
        self._weights = parameters_of(self.native, plan)
        self._slots = _slots(plan, recipe, self._weights)
        self._loss_scale = _loss_scale() if precision == "float16" else {}
        self._prepare()
        self.info: Mapping[str, str] = {
            "framework": "mindspore",
            "version": ms.__version__,
            "device": target,
            "precision": precision,
            "math": f"mixed {precision}" if precision in _REDUCED else "strict",
            "mode": "graph",
        }

    def _prepare(self) -> None:
        """Make the cells that are compiled on their first call; they share the parameters."""
        plan, recipe = self._plan, self._recipe
        smoothing = 0.0 if recipe is None else recipe.label_smoothing
        logits = Logits(self.native, Normalise(plan.input))
        weights = [self._weights[name] for name in plan.trainable]
        gradients = Gradients(Loss(logits, smoothing), weights)
        self._logits = ms.jit(logits)
        self._gradients = ms.jit(gradients)
        self._step = self._update = self._average = None
        if recipe is None:
            return
        velocities = [self._slots[f"momentum/{name}"] for name in plan.trainable if _moves(recipe)]
        decayed = [recipe.decays(tensor) for tensor in plan.tensors if tensor.trainable]
        scale = tuple(self._loss_scale.values()) or None
        update = Update(recipe, weights, velocities, decayed, scale)  # pyright: ignore[reportArgumentType]
        average = self._make_average(recipe)
        if recipe.accumulate == 1:
            self._step = ms.jit(Step(gradients, update, average))
        else:
            self._update = ms.jit(update)
            self._average = None if average is None else ms.jit(average)

    def _make_average(self, recipe: Recipe) -> Average | None:
        if recipe.ema.decay == 0:
            return None
        averages = [self._slots[f"ema/{name}"] for name in self._weights]
        return Average(recipe.ema.decay, list(self._weights.values()), averages)

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        return to_state(self._weights | self._slots | self._loss_scale)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        check_state(self._weights | self._slots | self._loss_scale, state)
        copy_into(self._weights, state)
        families = {family(name) for name in state}
        fresh: State = {}
        for name, slot in self._slots.items():
            if family(name) not in families:
                tensor = name.partition("/")[2]
                is_average = name.startswith("ema/")
                fresh[name] = state[tensor] if is_average else np.zeros(slot.shape, np.float32)
        if "loss_scale/" not in families:
            fresh["loss_scale/scale"] = np.array(_FIRST_SCALE, np.float32)
            fresh["loss_scale/good_steps"] = np.array(0.0, np.float32)
        copy_into(self._slots | self._loss_scale, {**state, **fresh})

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, the next one already under way."""
        waiting: deque[Tensor] = deque()
        for batch in batches:
            with _mode(self.native, training=False):
                waiting.append(self._logits(self._images(batch), self._noise(None)))
            if len(waiting) > 1:
                yield to_array(waiting.popleft())
        yield from map(to_array, waiting)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        ((images, labels, noise),) = self._parts(batch, 1)
        scale = self._scale()
        with self._unchanged(), _mode(self.native, training=True):
            loss, _, gradients = self._gradients(images, labels, noise, scale)
            result = float(loss.asnumpy())
            arrays = [to_array(gradient) / to_array(scale) for gradient in gradients]
        return result, dict(zip(self._plan.trainable, arrays, strict=True))

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing.

        Runs op by op (PyNative), where cells can be hooked; on a CPU both modes give equal bits.
        """
        outputs: State = {}
        cells = dict(self.native.cells_and_names())
        handles = [
            cells[name].register_forward_hook(_keeper(outputs, name))
            for name in self._plan.observed
        ]
        try:
            noise = self._noise(batch if train else None)
            with self._unchanged(), _mode(self.native, training=train):
                x = Normalise(self._plan.input)(self._images(batch))
                self.native(x, noise) if noise else self.native(x)
        finally:
            for handle in handles:
                handle.remove()
        return ((name, outputs[name]) for name in self._plan.observed)

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        count: list[int] = []
        with _mode(self.native, training=True):
            # `rates` comes first: zip then stops before it takes a batch too many.
            for rate, batch in zip(rates.tolist(), batches, strict=False):
                loss, hits = self._take_step(batch, Tensor(rate, ms.float32))
                losses += loss
                correct += hits
                count.append(len(batch))
        if len(count) < len(rates):
            rule = f"must hold one batch for each of {len(rates)} rates"
            raise BackendError(problem("batches", len(count), rule))
        return StepLog(
            loss=_fetch(losses).reshape(len(count), -1).mean(axis=1),
            correct=_fetch(correct).reshape(len(count), -1).sum(axis=1).astype(np.int64),
            count=np.array(count, dtype=np.int64),
        )

    def _take_step(self, batch: Batch, rate: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Take one optimiser step; return loss and correct images of each part, on the device."""
        recipe = self._recipe
        if recipe is None:
            raise BackendError("recipe = None: train needs one; give the session a recipe")
        parts = self._parts(batch, recipe.accumulate)
        if self._step is not None:
            ((images, labels, noise),) = parts
            loss, correct = self._step(images, labels, noise, self._scale(), rate)
            return [loss], [correct]
        assert self._update is not None
        scale = self._scale() / float(recipe.accumulate)
        results = [self._gradients(*part, scale) for part in parts]
        total = results[0][2]
        for _, _, gradients in results[1:]:
            total = tuple(a + b for a, b in zip(total, gradients, strict=True))
        self._update(total, rate)
        if self._average is not None:
            self._average()
        return [loss for loss, _, _ in results], [correct for _, correct, _ in results]

    def _parts(self, batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """Yield images, labels and noise of equal consecutive parts, on the device."""
        self._check_training(batch, parts)
        size = len(batch) // parts
        for first in range(0, len(batch), size):
            part = slice(first, first + size)
            noise = {op.name: to_tensor(batch.noise[op.name][part]) for op in self._plan.noises}
            labels = batch.labels[part].astype(np.int32)
            yield to_tensor(batch.images[part]), to_tensor(labels), noise

    def _check_training(self, batch: Batch, parts: int) -> None:
        missing = [op.name for op in self._plan.noises if op.name not in batch.noise]
        if missing:
            raise BackendError(f"batch.noise: lacks {', '.join(missing)}, which training needs")
        if len(batch) % parts:
            rule = f"must be a multiple of accumulate = {parts}"
            raise BackendError(problem("batch", len(batch), rule))
        for op in self._plan.ops:
            if isinstance(op, Norm) and len(batch) // parts * prod(op.in_shape[1:]) == 1:
                rule = f"leaves {op.name} one value per channel, which has no variance"
                raise BackendError(problem("batch", len(batch), rule, "take more images"))

    def _images(self, batch: Batch) -> Tensor:
        images = batch.images
        return to_tensor(images if images.dtype == np.uint8 else images.astype(np.float32))

    def _noise(self, batch: Batch | None) -> dict[str, Tensor]:
        """Return the noise by op name; None (evaluation) gives what is not looked at."""
        if batch is None:
            return {op.name: Tensor([1.0], ms.float32) for op in self._plan.noises}
        return next(self._parts(batch, 1))[2]

    def _scale(self) -> Tensor:
        """Return the loss scale, shape ()."""
        scale = self._loss_scale.get("loss_scale/scale")
        return Tensor(1.0, ms.float32) if scale is None else scale.value()

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Undo, at the end, what a pass in training mode does to the statistics."""
        statistics = {
            tensor.name: to_array(self._weights[tensor.name])
            for tensor in self._plan.tensors
            if not tensor.trainable
        }
        try:
            yield
        finally:
            copy_into({name: self._weights[name] for name in statistics}, statistics)


def _moves(recipe: Recipe) -> bool:
    return recipe.optimizer.momentum > 0


def _slots(plan: Plan, recipe: Recipe | None, weights: Parameters) -> Parameters:
    """Return velocities and averages, zero, by their names in the state."""
    slots: Parameters = {}
    if recipe is not None and _moves(recipe):
        for name in plan.trainable:
            slots[f"momentum/{name}"] = _zeros_like(weights[name], f"momentum.{name}")
    if recipe is not None and recipe.ema.decay > 0:
        for name, weight in weights.items():
            slots[f"ema/{name}"] = _zeros_like(weight, f"ema.{name}")
    return slots


def _zeros_like(parameter: Parameter, name: str) -> Parameter:
    zeros = Tensor(np.zeros(parameter.shape, np.float32))
    return Parameter(zeros, name=name, requires_grad=False)


def _loss_scale() -> Parameters:
    return {
        f"loss_scale/{name}": Parameter(
            Tensor(value, ms.float32), name=f"loss_scale.{name}", requires_grad=False
        )
        for name, value in (("scale", _FIRST_SCALE), ("good_steps", 0.0))
    }


def _keeper(outputs: State, name: str):
    def keep(cell: nn.Cell, inputs: object, output: Tensor) -> None:
        outputs[name] = to_array(output.astype(ms.float32))

    return keep


@contextmanager
def _mode(network: nn.Cell, training: bool) -> Iterator[None]:
    """Put `network` into training or evaluation mode, and back as it was."""
    before = network.training
    if before != training:
        network.set_train(training)
    try:
        yield
    finally:
        if before != training:
            network.set_train(before)


def _fetch(values: list[Tensor]) -> NDArray[np.float64]:
    """Return scalars of the device as one array; the first read waits for the whole chunk."""
    return np.array([value.asnumpy() for value in values], dtype=np.float64)


def _reduce(network: nn.Cell, dtype: ms.Type) -> None:
    """Compute in `dtype`, batch statistics in float32 (Micikevicius et al. 2018)."""
    network.to_float(dtype)
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.to_float(ms.float32)


def _find_target(device: str) -> str:
    """Return MindSpore's device target; there is one per process. Raises BackendError."""
    current = ms.get_context("device_target")
    if device == "auto":
        return current
    wanted = next((t for t in _TARGETS if t.lower() == device.partition(":")[0].lower()), None)
    if wanted is None:
        hint = did_you_mean(device, [t.lower() for t in _TARGETS])
        raise BackendError(problem("device", device, "is not one of MindSpore's", hint))
    if wanted != current:
        try:
            ms.set_device(wanted)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BackendError(
                problem("device", device, f"cannot be used by MindSpore here: {reason}")
            ) from None
    return wanted


def _check_precision(precision: str, target: str) -> None:
    if precision not in PRECISIONS:
        if precision == "float64":
            rule, remedy = "MindSpore has no float64 convolution", "use float32"
        else:
            rule, remedy = "is not one of MindSpore's", did_you_mean(precision, PRECISIONS)
        raise BackendError(problem("precision", precision, rule, remedy))
    if precision == "bfloat16" and target == "CPU":
        rule = "MindSpore has no bfloat16 convolution on a CPU"
        raise BackendError(problem("precision", precision, rule, "use float32 or float16"))
