"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.ops import Norm
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_torch.modules import empty, mode, unchanged
from resnet_spec_torch.weights import (
    Tensors,
    check_state,
    copy_into,
    family,
    to_array,
    to_state,
    to_tensor,
    weights_of,
)

PRECISIONS: tuple[Precision, ...] = ("float32", "float64", "bfloat16", "float16")

# Parameters and statistics stay in float32 under the reduced precisions (mixed precision,
# Micikevicius et al. 2018).
_REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
        self._plan = plan
        self._recipe = recipe
        self._precision = precision
        self._device = _find_device(device)
        self._dtype = _find_dtype(precision, self._device)
        self._format = _memory_format(self._device, precision)
        network = empty(plan, self._device, self._dtype)
        self.native = network.to(memory_format=self._format)
        self._forward = torch.compile(self.native) if compile else self.native
        self._compiled = compile
        self._cast = nullcontext
        if precision in _REDUCED:
            self._cast = partial(torch.autocast, self._device.type, _REDUCED[precision])
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")
        self._scale, self._shift = (
            torch.tensor(values, dtype=self._dtype, device=self._device).view(1, -1, 1, 1)
            for values in (plan.input.scale, plan.input.shift)
        )
        self._optimizer = None if recipe is None else self._make_optimizer(recipe)
        self._average: Tensors = {}
        if recipe is not None and recipe.ema.decay > 0:
            self._average = {k: v.detach().clone() for k, v in self._weights().items()}

    @property
    def info(self) -> Mapping[str, str]:
        """Framework, version, device, precision, math, and what else decides about speed."""
        fused = self._optimizer is not None and self._optimizer.defaults["fused"]
        return {
            "framework": "torch",
            "version": torch.__version__,
            "device": _describe(self._device),
            "precision": self._precision,
            "math": _math(self._device, self._precision),
            "threads": str(torch.get_num_threads()),
            "memory_format": str(self._format).removeprefix("torch."),
            "optimizer": "fused" if fused else "foreach",
            "compile": str(self._compiled).lower(),
        }

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        return to_state(self._weights() | self._slots()) | self._loss_scale()

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Raises CheckpointError, all or none."""
        weights, slots = self._weights(), self._slots()
        loss_scale = {name: torch.tensor(0.0) for name in self._loss_scale()}
        check_state(weights | slots | loss_scale, state)
        copy_into(weights, state)
        families = {family(name) for name in state}
        with torch.no_grad():
            for name, slot in slots.items():
                if family(name) not in families:
                    _, _, tensor = name.partition("/")
                    slot.copy_(weights[tensor]) if name.startswith("ema/") else slot.zero_()
        copy_into(slots, state)
        if loss_scale:
            self._load_loss_scale(state)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        On an accelerator the next batch is under way while one is handed out.
        """
        ahead = 0 if self._device.type == "cpu" else 1
        waiting: deque[Tensor] = deque()
        for batch in batches:
            with torch.inference_mode(), mode(self.native, training=False):
                waiting.append(self._logits(self._images(batch)))
            if len(waiting) > ahead:
                yield to_array(waiting.popleft())
        yield from map(to_array, waiting)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        weights = self._weights()
        trainable = {name: weights[name] for name in self._plan.trainable}
        with unchanged(self.native), mode(self.native, training=True):
            ((images, labels, noise),) = self._parts(batch, 1)
            loss, _ = self._loss(images, labels, noise)
            scaled = torch.autograd.grad(self._scaler.scale(loss), list(trainable.values()))
        scale = self._scaler.get_scale()
        gradients = (gradient / scale for gradient in scaled)
        return loss.item(), to_state(dict(zip(trainable, gradients, strict=True)))

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing."""
        outputs: State = {}

        def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs[name] = to_array(output.to(self._dtype))

        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(unchanged(self.native))
            stack.enter_context(mode(self.native, training=train))
            for name in self._plan.observed:
                module = self.native.get_submodule(name)
                hook = module.register_forward_hook(partial(keep, name))
                stack.callback(hook.remove)
            images, noise = self._images(batch), {}
            if train:
                ((images, _, noise),) = self._parts(batch, 1)
            stack.enter_context(self._handed(noise))
            stack.enter_context(self._cast())
            self.native(images)
        return ((name, outputs[name]) for name in self._plan.observed)

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        count: list[int] = []
        with mode(self.native, training=True):
            # `rates` comes first: zip then stops before it takes a batch too many.
            for rate, batch in zip(rates.tolist(), batches, strict=False):
                loss, hits = self._step(batch, rate)
                losses.append(loss)
                correct.append(hits)
                count.append(len(batch))
        if len(count) < len(rates):
            rule = f"must hold one batch for each of {len(rates)} rates"
            raise BackendError(problem("batches", len(count), rule))
        return StepLog(
            loss=_fetch(losses).astype(np.float64),
            correct=_fetch(correct).astype(np.int64),
            count=np.array(count, dtype=np.int64),
        )

    def _step(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """Take one optimiser step; return the mean loss and the correct images, on the device."""
        recipe, optimizer = self._recipe, self._optimizer
        if recipe is None or optimizer is None:
            raise BackendError("recipe = None: train needs one; give the session a recipe")
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=self._dtype, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for images, labels, noise in self._parts(batch, recipe.accumulate):
            loss, logits = self._loss(images, labels, noise)
            loss = loss / recipe.accumulate
            self._scaler.scale(loss).backward()
            total += loss.detach()
            correct += (logits.argmax(1) == labels).sum()
        for group in optimizer.param_groups:
            group["lr"] = rate
        self._scaler.step(optimizer)
        self._scaler.update()
        if self._average:
            pairs = self._weights(), self._average
            weights, average = ([tensors[name] for name in self._average] for tensors in pairs)
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1.0 - recipe.ema.decay)
        return total, correct

    def _parts(self, batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor, Tensors]]:
        """Yield images, labels and noise of equal consecutive parts, on the device."""
        self._check_training(batch, parts)
        images = self._images(batch).chunk(parts)
        labels = self._moved(batch.labels).chunk(parts)
        noise = {
            op.name: self._moved(batch.noise[op.name]).chunk(parts) for op in self._plan.noises
        }
        for i in range(parts):
            yield images[i], labels[i], {name: chunks[i] for name, chunks in noise.items()}

    def _check_training(self, batch: Batch, parts: int) -> None:
        missing = [op.name for op in self._plan.noises if op.name not in batch.noise]
        if missing:
            raise BackendError(f"batch.noise: lacks {', '.join(missing)}, which training needs")
        for op in self._plan.ops:
            if isinstance(op, Norm) and len(batch) // parts * prod(op.in_shape[1:]) == 1:
                rule = f"leaves {op.name} one value per channel, which has no variance"
                raise BackendError(problem("batch", len(batch), rule, "take more images"))

    def _images(self, batch: Batch) -> Tensor:
        """Return normalised images [N, C, H, W] on the device, in the session's memory format."""
        # NHWC in memory is channels_last: the permutation moves nothing.
        images = self._moved(batch.images).permute(0, 3, 1, 2)
        normalised = images.to(self._dtype)
        if images.dtype == torch.uint8:
            normalised = normalised.mul_(self._scale).add_(self._shift)
        return normalised.contiguous(memory_format=self._format)

    def _moved(self, array: Array) -> Tensor:
        """Return `array` on the device; from pinned memory without waiting on CUDA."""
        tensor = to_tensor(array)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=self._device.type == "cuda")

    def _logits(self, images: Tensor) -> Tensor:
        with self._cast():
            return self._forward(images).to(self._dtype)

    def _loss(self, images: Tensor, labels: Tensor, noise: Tensors) -> tuple[Tensor, Tensor]:
        """Return the mean smoothed cross-entropy and the logits."""
        smoothing = 0.0 if self._recipe is None else self._recipe.label_smoothing
        with self._handed(noise):
            logits = self._logits(images)
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits

    @contextmanager
    def _handed(self, noise: Tensors) -> Iterator[None]:
        """Let the noise ops use `noise` instead of drawing their own."""
        modules = {name: self.native.get_submodule(name) for name in noise}
        try:
            for name, module in modules.items():
                module.noise = noise[name]
            yield
        finally:
            for module in modules.values():
                module.noise = None

    def _make_optimizer(self, recipe: Recipe) -> torch.optim.SGD:
        """Return SGD over decayed and other parameters, its velocities zero."""
        weights = self._weights()
        trainable = [tensor for tensor in self._plan.tensors if tensor.trainable]
        decay = recipe.optimizer.weight_decay
        groups = [
            {
                "params": [weights[t.name] for t in trainable if recipe.decays(t) == decays],
                "weight_decay": decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        groups = [group for group in groups if group["params"]]
        numbers = {"momentum": recipe.optimizer.momentum, "nesterov": recipe.optimizer.nesterov}
        try:
            # One kernel per list of tensors and, with GradScaler, no wait for "found inf".
            optimizer = torch.optim.SGD(groups, lr=1.0, **numbers, fused=True)
        except RuntimeError:  # This device has no fused kernel.
            optimizer = torch.optim.SGD(groups, lr=1.0, **numbers, foreach=True)
        if recipe.optimizer.momentum > 0:
            for tensor in trainable:
                parameter = weights[tensor.name]
                velocity = torch.zeros_like(parameter, requires_grad=False)
                optimizer.state[parameter]["momentum_buffer"] = velocity
        return optimizer

    def _weights(self) -> Tensors:
        return weights_of(self.native, self._plan)

    def _slots(self) -> Tensors:
        """Return the live velocities and averages by name."""
        slots: Tensors = {}
        if self._optimizer is not None and self._optimizer.defaults["momentum"] > 0:
            weights = self._weights()
            for name in self._plan.trainable:
                slot = self._optimizer.state[weights[name]]
                slots[f"momentum/{name}"] = slot["momentum_buffer"]
        return slots | {f"ema/{name}": tensor for name, tensor in self._average.items()}

    def _loss_scale(self) -> State:
        if not self._scaler.is_enabled():
            return {}
        scaler = self._scaler.state_dict()
        return {
            "loss_scale/scale": np.array(scaler["scale"], dtype=np.float32),
            "loss_scale/good_steps": np.array(scaler["_growth_tracker"], dtype=np.float32),
        }

    def _load_loss_scale(self, state: Mapping[str, Array]) -> None:
        fresh = torch.amp.GradScaler(self._device.type).state_dict()
        scale = state.get("loss_scale/scale", fresh["scale"])
        steps = state.get("loss_scale/good_steps", fresh["_growth_tracker"])
        self._scaler.load_state_dict(
            {**fresh, "scale": float(scale), "_growth_tracker": int(steps)}
        )


def _fetch(values: list[Tensor]) -> Array:
    """Return scalars of the device as one array; the only wait of a chunk."""
    return to_array(torch.stack(values)) if values else np.empty(0)


def _find_device(name: str) -> torch.device:
    """Return the device called `name`, or the best there is. Raises BackendError."""
    # Ascend's torch_npu adds torch.npu when imported.
    if (name == "auto" or name.startswith("npu")) and importlib.util.find_spec("torch_npu"):
        importlib.import_module("torch_npu")
    if name == "auto":
        return torch.device(next(filter(_is_available, ("cuda", "npu", "mps")), "cpu"))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        device = torch.device("meta")
    if device.type == "meta":
        there = [kind for kind in ("cuda", "npu", "mps") if _is_available(kind)]
        remedy = f"choose from auto, {', '.join([*there, 'cpu'])}"
        raise BackendError(problem("device", name, "cannot be used by torch here", remedy))
    return device


def _is_available(kind: str) -> bool:
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and module.is_available()


def _find_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of parameters and statistics. Raises BackendError."""
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise BackendError(problem("precision", precision, "is not one of torch's", hint))
    if precision == "float64" and device.type in ("mps", "npu"):
        rule = f"is not computed by {device.type}"
        raise BackendError(problem("precision", precision, rule, "use float32, or device = cpu"))
    return torch.float64 if precision == "float64" else torch.float32


def _memory_format(device: torch.device, precision: str) -> torch.memory_format:
    return torch.channels_last


def _describe(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def _math(device: torch.device, precision: str) -> str:
    """Name the fast-math modes that torch's global settings put in force for float32."""
    if precision in _REDUCED:
        return f"autocast {precision}"
    if precision == "float64":
        return "strict"
    modes = []
    if device.type == "cuda":
        if torch.backends.cudnn.allow_tf32:
            modes.append("tf32 convolutions")
        if torch.backends.cuda.matmul.allow_tf32:
            modes.append("tf32 products")
    elif torch.get_float32_matmul_precision() != "highest":
        modes.append(f"matmul precision {torch.get_float32_matmul_precision()}")
    return ", ".join(modes) or "strict"
