"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE, state_shapes, whole_state
from resnet_spec.session_steps import kept_steps, recipe_for_training, step_log
from resnet_spec_torch.devices import (
    REDUCED,
    find_dtype,
    memory_errors,
    ready_compiler,
    started,
    surroundings,
)
from resnet_spec_torch.global_norms import globalise
from resnet_spec_torch.inputs import Inputs, Part
from resnet_spec_torch.lean import FOLDED, Lean
from resnet_spec_torch.losses import loss_of
from resnet_spec_torch.memory_formats import memory_format_of
from resnet_spec_torch.modules import empty
from resnet_spec_torch.optimizers import (
    clip,
    describe_optimizer,
    followed,
    live_slots,
    load_loss_scale,
    loss_scale_of,
    make_optimizer,
    make_scaler,
    move_average,
)
from resnet_spec_torch.others import others_of
from resnet_spec_torch.passes import handed, hooked, mode, unchanged
from resnet_spec_torch.rematerialisation import rematerialise
from resnet_spec_torch.weights import (
    Tensors,
    arrays,
    copy_into,
    to_array,
    to_state,
    weights_of,
)


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
        group: Group = ALONE,
        shard: bool = False,
    ) -> None:
        self._plan = plan
        self._recipe = recipe
        self._shapes = state_shapes(plan, recipe, precision)
        self._device = started(device)
        self._dtype = find_dtype(precision, self._device)
        self._format = memory_format_of(self._device, plan, recipe, precision, group.size)
        self._inputs = Inputs(plan, group, self._device, self._dtype, self._format, recipe)
        self._loss_of = loss_of(recipe)
        self._others = others_of(plan, group, self._device, shard=shard, compile=compile)
        network = empty(plan, self._device, self._dtype)
        rematerialise(network, plan)
        if group.size > 1:
            globalise(network, plan)
        self.native = self._others.placed(network, self._format)
        if compile:
            ready_compiler(self._device)
        self._evaluated = torch.compile(self.native) if compile else self.native
        self._lean: Lean | None = None
        if precision in FOLDED and not compile and not shard:
            self._lean = Lean(plan, self.native, self._device, FOLDED[precision])
        self._compiles = compile
        self._forward = self._wrapped()
        self._cast = nullcontext
        if precision in REDUCED:
            self._cast = partial(torch.autocast, self._device.type, REDUCED[precision])
        self._scaler = make_scaler(self._device, precision)
        self._known = self._weights()
        self._optimizer = None if recipe is None else make_optimizer(self._known, plan, recipe)
        self._average: Tensors = {}
        if recipe is not None and recipe.ema.decay > 0:
            self._average = {k: v.detach().clone() for k, v in self._weights().items()}
        self.info: Mapping[str, str] = {
            **surroundings(self._device, precision, self._format),
            "optimizer": describe_optimizer(self._optimizer, recipe),
            "compile": str(compile).lower(),
            **({"processes": str(group.size)} if group.size > 1 else {}),
            **({"sharded": "true"} if shard else {}),
        }

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        slots = {name: tensors[0] for name, tensors in self._slots().items()}
        with self._others.errors():
            return to_state(self._weights() | slots) | loss_scale_of(self._scaler)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        whole = whole_state(self._shapes, state)
        copy_into(self._weights(), whole)
        for name, tensors in self._slots().items():
            for tensor in tensors:
                copy_into({name: tensor}, whole)
        load_loss_scale(self._scaler, whole)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        In float32 and bfloat16 norms are folded and convolutions fused (see `lean`). On an
        accelerator the next batch is under way while one is handed out. The processes of a sharded
        session all call it, with as many batches as each has.
        """
        self._follow()
        with self._others.errors():
            network = self._others.evaluated(self._evaluated)
        logits = self._evaluating(network, batches)
        return arrays(logits, ahead=0 if self._device.type == "cpu" else 1)

    def _evaluating(self, network: nn.Module, batches: Iterable[Batch]) -> Iterator[Tensor]:
        lean = None if self._lean is None else self._lean.of(self.native, self._weights())
        for batch in batches:
            with torch.inference_mode(), self._cast():
                images = self._inputs.images(batch)
                logits = None if lean is None else lean(images)
                if logits is None:
                    with mode(self.native, training=False):
                        logits = network(images)
            yield logits.to(self._dtype)  # Outside: whoever takes it may be training.

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        weights = self._weights()
        trainable = {name: weights[name] for name in self._plan.trainable}
        with unchanged(self.native), mode(self.native, training=True):
            (part,) = self._inputs.parts(batch, 1)
            loss, _ = self._loss(part)
            scaled = self._others.gradients(self._scaler.scale(loss), list(trainable.values()))
        scale = self._scaler.get_scale()
        gradients = [gradient / scale for gradient in scaled]
        loss = loss.detach().clone()
        self._others.mean([*gradients, loss])
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
            stack.enter_context(hooked(self.native, self._plan.observed, keep))
            if train:
                images, _, noise, *_ = next(self._inputs.parts(batch, 1, labelled=False))
            else:
                images, noise = self._inputs.images(batch), {}
            stack.enter_context(handed(self.native, noise))
            stack.enter_context(self._cast())
            self.native(images)
        return ((name, outputs[name]) for name in self._plan.observed)

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield the loss's gradients by "input" and every node's output; changes nothing.

        Never compiled, as `activations`: each hook would cut the compiled graph in two.
        """
        found: Tensors = {}

        def ask(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
            # A hook on the tensor sees the gradient by this value, also where a ReLU then
            # overwrites it in place.
            output.register_hook(partial(found.__setitem__, name))

        with ExitStack() as stack:
            stack.enter_context(unchanged(self.native))
            stack.enter_context(mode(self.native, training=True))
            stack.enter_context(hooked(self.native, self._plan.observed, ask))
            (part,) = self._inputs.parts(batch, 1)
            part.images.requires_grad_()
            with handed(self.native, part.noise), self._cast():
                logits = self.native(part.images).to(self._dtype)
            loss = self._loss_of(logits, part.labels, part.targets, part.soft)
            (found["input"],) = torch.autograd.grad(self._scaler.scale(loss), part.images)
        scale = self._scaler.get_scale()
        names = ("input", *self._plan.observed)
        # The scale is undone in float32: in float16 small gradients would become zero.
        return ((name, to_array(found[name].to(self._dtype) / scale)) for name in names)

    def train(
        self,
        batches: Iterable[Batch],
        rates: NDArray[np.float64],
        keeps: NDArray[np.float64] | None = None,
    ) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        recipe = recipe_for_training(self._recipe)
        self._follow()
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        count: list[int] = []
        with ExitStack() as stack:
            stack.enter_context(mode(self.native, training=True))
            stack.enter_context(memory_errors(self._device))
            stack.enter_context(self._others.errors())
            for rate, keep, batch in kept_steps(batches, recipe, rates, keeps):
                loss, hits = self._step(batch, rate, recipe)
                if self._average and keep < 1.0:
                    move_average(self._average, self._weights(), self._plan, keep)
                losses.append(loss)
                correct.append(hits)
                count.append(len(batch))
            loss = self._others.whole(losses).mean(axis=0, dtype=np.float64)
            hits = self._others.whole(correct).sum(axis=0)
        return step_log(loss, hits, np.multiply(count, self._others.size), rates)

    def _step(self, batch: Batch, rate: float, recipe: Recipe) -> tuple[Tensor, Tensor]:
        """Take one optimiser step; return the mean loss and the correct images, on the device."""
        optimizer = self._optimizer
        assert optimizer is not None
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=self._dtype, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        parts = self._inputs.parts(batch, recipe.accumulate)
        for i, part in enumerate(parts, start=1):
            with self._others.part(self._forward, is_last=i == recipe.accumulate):
                loss, logits = self._loss(part)
                loss = loss / recipe.accumulate
                self._scaler.scale(loss).backward()
            total += loss.detach()
            correct += (logits.argmax(1) == part.labels).sum()
        self._others.send(self.native.parameters())
        clip(recipe.optimizer, optimizer, self._scaler)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self._scaler.step(optimizer)
        self._scaler.update()
        self._others.settle(self._statistics)
        return total, correct

    def _logits(self, images: Tensor) -> Tensor:
        with self._cast():
            return self._forward(images).to(self._dtype)

    def _loss(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits."""
        with handed(self.native, part.noise):
            logits = self._logits(part.images)
        return self._loss_of(logits, part.labels, part.targets, part.soft), logits

    def _wrapped(self) -> nn.Module:
        wrapped = self._others.wrapped(self.native)
        return torch.compile(wrapped) if self._compiles else wrapped  # pyright: ignore

    def _statistics(self) -> list[Tensor]:
        return [self._known[t.name] for t in self._plan.tensors if t.is_statistic and not t.frozen]

    def _weights(self) -> Tensors:
        return weights_of(self.native, self._plan)

    def _follow(self) -> None:
        """Take in what was replaced in the native module, or moved in memory, since last time."""
        weights = self._weights()
        recipe, before = self._recipe, self._known
        if self._optimizer is not None and recipe is not None:
            self._optimizer = followed(self._optimizer, before, weights, self._plan, recipe)
        if self._others.size > 1 and any(before[k] is not weights[k] for k in weights):
            self._forward = self._wrapped()
        self._known = weights

    def _slots(self) -> dict[str, list[Tensor]]:
        """Return the live slots and averages by name, in the order of a state."""
        self._follow()
        slots: dict[str, list[Tensor]] = {}
        if self._optimizer is not None and self._recipe is not None:
            slots = live_slots(self._optimizer, self._weights(), self._plan, self._recipe)
        return slots | {f"{AVERAGE}/{name}": [tensor] for name, tensor in self._average.items()}
