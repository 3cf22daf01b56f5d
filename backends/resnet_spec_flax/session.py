"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.freed_memory import keep_freed_memory
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import state_shapes, whole_state
from resnet_spec.session_steps import Intake, Part, filled, recipe_for_training, step_log
from resnet_spec_flax.compiling import compiler_options
from resnet_spec_flax.devices import (
    REDUCED,
    check_precision,
    describe,
    find_device,
    is_every,
    memory_errors,
    settings,
)
from resnet_spec_flax.known_programs import KnownPrograms
from resnet_spec_flax.mesh import Alone, together
from resnet_spec_flax.modules import empty
from resnet_spec_flax.optimizers import make_optimizer
from resnet_spec_flax.passes import Inputs
from resnet_spec_flax.programs import Program, all_finite
from resnet_spec_flax.slots import Slots, fresh_slots, shares_of, slots_from_state, slots_to_state
from resnet_spec_flax.weights import (
    Weights,
    check_native,
    from_state,
    of_state,
    read,
    to_state,
    trainable,
    write,
)

LossScale = Mapping[str, Any]


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
        check_precision(precision)
        self._plan = plan
        self._recipe = recipe
        self._shapes = state_shapes(plan, recipe, precision)
        freed = keep_freed_memory()
        self._device = here = find_device(device)
        self._alone = Alone(here)
        self._others = together(plan, recipe, here, group, every=is_every(device), shard=shard)
        self._intake = Intake(plan, group, self._others.replicas, recipe)
        self._precision = precision
        self._settings = partial(settings, here, precision)
        self._dtype = np.dtype("float64" if precision == "float64" else "float32")
        self._optimizer = optax.identity() if recipe is None else make_optimizer(plan, recipe)
        self._programs: KnownPrograms[Program] = KnownPrograms()
        with self._settings():
            self.native = empty(plan, dtype=jnp.dtype(precision), param_dtype=self._dtype)
            fixed = read(self.native, plan.tensors), precision, here
            slots = fresh_slots(plan, recipe, self._optimizer, *fixed)
            self._slots: Slots = self._others.kept(slots)
        self.info: Mapping[str, str] = {
            "framework": "flax",
            "version": flax.__version__,
            "device": describe(self._device),
            "precision": precision,
            "math": f"computes in {precision}" if precision in REDUCED else "strict",
            "jax": jax.__version__,
            "optax": optax.__version__,
            "freed_memory": freed,
            **self._others.info(),
        }

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        check_native(self.native, self._plan)
        with self._others.answering(), self._settings():
            weights = read(self.native, self._plan.tensors)
            state = to_state(self._plan.tensors, self._others.whole(weights))
            slots = self._others.whole(self._slots)
            return state | slots_to_state(slots, self._plan, self._recipe)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        check_native(self.native, self._plan)
        whole, tensors = whole_state(self._shapes, state), self._plan.tensors
        with self._settings():
            fixed = self._plan, self._recipe, self._dtype, self._device
            slots = slots_from_state(self._slots, whole, *fixed)
            write(self.native, tensors, self._put(from_state(tensors, whole, self._dtype)))
            self._slots = self._others.kept(slots)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        On an accelerator the next batch is under way while one is handed out. A batch smaller than
        the first one is filled up to its size, for every new shape would be compiled.
        """
        ahead = 0 if self._device.platform == "cpu" else 1
        waiting: deque[tuple[jax.Array, int]] = deque()
        program, weights = self._program()
        size = 0
        for batch in batches:
            size = size or len(batch)
            with self._settings():
                images = self._typed(filled(self._intake.images(batch), size))
                waiting.append((program.predict(weights, self._put(images)), len(batch)))
            if len(waiting) > ahead:
                yield _first(*waiting.popleft())
        yield from (_first(*item) for item in waiting)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        with self._others.answering(), self._settings():
            program, weights = self._program()
            (inputs,) = self._parts(batch, 1, self._others)

            def backward(loss_scale: LossScale) -> tuple[jax.Array, Weights]:
                spread = self._others.spread((weights, loss_scale))
                _, sums = program.backward(*spread, inputs)
                return self._others.whole(self._others.kept((sums.loss, sums.gradients)))

            loss, gradients = self._without_overflow(backward)
        return float(loss), to_state(trainable(self._plan), gradients)

    def gradients_with_outputs(
        self, batch: Batch
    ) -> tuple[float, State, Array, Iterator[tuple[str, Array]]]:
        """Return what `gradients` does, the gradient by the normalised images, and `activations`.

        All of one pass in training mode; images are [N, C, H, W]. Where blocks are computed again
        in the backward pass, no output of theirs can be had of it, and there is another pass.
        """
        with self._settings():
            program, weights = self._program()
            (inputs,) = self._parts(batch, 1, self._alone)
            (loss, outputs), found = self._without_overflow(
                lambda loss_scale: program.backward_with_outputs(weights, loss_scale, inputs)
            )
        by_images = np.array(found.pop("input"), order="C")
        gradients = to_state(trainable(self._plan), found)
        told = self.activations(batch, train=True) if self._plan.remat else self._named(outputs)
        return float(loss), gradients, by_images, told

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing."""
        with self._settings():
            program, weights = self._program()
            if train:
                (inputs,) = self._parts(batch, 1, self._alone, labelled=False)
            else:
                inputs = self._put(Inputs(self._typed(self._intake.images(batch)), None, {}))
            outputs = program.activations(weights, inputs, train=train)
        return self._named(outputs)

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield the loss's gradients by "input" and every node's output; changes nothing."""
        with self._settings():
            program, weights = self._program()
            (inputs,) = self._parts(batch, 1, self._alone)
            _, found = self._without_overflow(
                lambda loss_scale: (None, program.node_gradients(weights, loss_scale, inputs))
            )
        names = ("input", *self._plan.observed)
        return ((name, np.array(found[name], order="C")) for name in names)

    def train(
        self,
        batches: Iterable[Batch],
        rates: NDArray[np.float64],
        keeps: NDArray[np.float64] | None = None,
    ) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        recipe = recipe_for_training(self._recipe)
        losses: list[jax.Array] = []
        correct: list[jax.Array] = []
        count: list[int] = []
        with self._others.answering(), self._settings(), memory_errors(self._device):
            program, weights = self._program()
            weights = self._others.given_up(weights)
            if self._others.in_parts:  # Or the module would keep a whole copy while steps go on.
                write(self.native, self._plan.tensors, weights)
            slots = self._others.spread(self._slots)
            ahead = self._ahead(islice(batches, len(rates)), recipe.accumulate)
            numbers, shares = (
                rates.astype(self._dtype),
                shares_of(recipe, rates, keeps, self._dtype),
            )
            try:
                for rate, keep, parts in zip(numbers, shares, ahead, strict=False):
                    weights, slots, loss, hits = program.step(weights, slots, rate, keep, parts)
                    losses.append(loss)
                    correct.append(hits)
                    count.append(sum(len(part.labels) for part in parts))
            finally:
                weights, self._slots = self._others.kept((weights, slots))
                write(self.native, self._plan.tensors, weights)
            if self._others.in_parts:  # Those who predict do so each by itself.
                write(self.native, self._plan.tensors, self._others.whole(weights))
            losses, correct = jax.device_get((losses, correct))  # The only wait of a chunk.
        return step_log(losses, correct, count, rates)

    def _ahead(self, batches: Iterable[Batch], parts: int) -> Iterator[list[Inputs]]:
        """Yield the parts of each batch; those of the next one are then already on their way."""
        waiting: deque[list[Inputs]] = deque()
        for batch in batches:
            waiting.append(self._parts(batch, parts, self._others))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting

    def _parts(
        self, batch: Batch, count: int, others: Alone, *, labelled: bool = True
    ) -> list[Inputs]:
        """Return equal consecutive parts of a training batch on the device, not waiting for it.

        others: those whose share goes with this one.
        """
        parts = self._intake.parts(batch, count, labelled=labelled)
        return [others.share(self._inputs(part)) for part in parts]

    def _inputs(self, part: Part) -> Inputs:
        labels, images = part.labels.astype(np.int32), self._typed(part.images)
        shares = (part.targets, part.soft)
        typed = (None if array is None else array.astype(self._dtype) for array in shares)
        return Inputs(images, labels, part.noise, *typed)

    def _typed(self, images: Array) -> Array:
        """Return uint8 images as they are, others in the type of the parameters."""
        return images if images.dtype == np.uint8 else images.astype(self._dtype)

    def _without_overflow(
        self, run: Callable[[LossScale], tuple[Any, Weights]]
    ) -> tuple[Any, Weights]:
        """Return what `run` makes of the loss scale, the second of it gradients that are finite.

        Training would skip the step; here, float16 overflows at no fault of the weights, and the
        scale is halved for it.
        """
        loss_scale = dict(self._slots.loss_scale)
        found = run(loss_scale)
        while _can_halve(loss_scale) and not all_finite(found[1]):
            loss_scale["scale"] *= 0.5
            found = run(loss_scale)
        return found

    def _program(self) -> tuple[Program, Weights]:
        """Return the functions for the native module as the user left it, and its weights."""
        graphdef, state, others = nnx.split(self.native, (nnx.Param, nnx.BatchStat), ...)
        if (program := self._programs.of(graphdef, others)) is None:
            check_native(self.native, self._plan, exactly=True)
            options = compiler_options(self._plan, self.native, self._device.platform)
            known = self._plan, self._recipe, self._optimizer, self._dtype, options
            made = self._others.program(*known, graphdef, others)
            program = self._programs.keep(graphdef, others, made)
        return program, self._others.whole(of_state(state, self._plan.tensors))

    def _named(self, outputs: Sequence[jax.Array]) -> Iterator[tuple[str, Array]]:
        arrays = (np.array(output, order="C") for output in outputs)
        return zip(self._plan.observed, arrays, strict=True)

    def _put(self, values: Any) -> Any:
        return jax.device_put(values, self._device)


def _can_halve(loss_scale: LossScale) -> bool:
    return bool(loss_scale) and bool(loss_scale["scale"] > 1.0)


def _first(logits: jax.Array, count: int) -> Array:
    return np.array(logits)[:count]
