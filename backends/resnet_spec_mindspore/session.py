"""One plan on one device: prediction, gradients, and the training loop with its optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.group import ALONE, Group
from resnet_spec.optimizers import native_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import (
    LOSS_SCALE,
    check_network,
    family,
    state_shapes,
    whole_state,
)
from resnet_spec.session_steps import Intake, filled, kept_steps, recipe_for_training, step_log
from resnet_spec_mindspore.averages import Move, average_of, pace_of
from resnet_spec_mindspore.containers import structure
from resnet_spec_mindspore.devices import describe_environment, find_device, find_dtype
from resnet_spec_mindspore.graphs import (
    Clip,
    Gradients,
    Logits,
    Loss,
    Normalise,
    Step,
    Sum,
    Update,
    mode,
)
from resnet_spec_mindspore.group import Alone, Several
from resnet_spec_mindspore.hooks import Hook, adding, hooked, keeping
from resnet_spec_mindspore.lean import Fetch, Lean, one_ahead
from resnet_spec_mindspore.losses import loss_of, shares_in
from resnet_spec_mindspore.modules import empty, reduce, training
from resnet_spec_mindspore.optimizers import OPTIMIZERS, trained_of
from resnet_spec_mindspore.recomputed import recompute
from resnet_spec_mindspore.weights import (
    Parameters,
    copy_into,
    fetched,
    parameters_of,
    to_array,
    to_state,
    to_tensor,
    typed,
    zero_slots,
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
    ) -> None:
        del compile  # Training and prediction always run as compiled graphs.
        self._plan, self._recipe, self._precision = plan, recipe, precision
        self._device = find_device(device)
        self._dtype = find_dtype(precision)
        self.native = empty(plan)
        self._others = Alone() if group.size == 1 else Several(plan, group)
        self._others.adapt(self.native)
        self._shapes = state_shapes(plan, recipe, precision)
        self._intake = Intake(plan, group, recipe=recipe)
        self._loss_of: Any = loss_of(recipe)
        self._shares = shares_in(recipe)
        self._slots = zero_slots(self._shapes)
        self._loss_scale = [p for name, p in self._slots.items() if family(name) == LOSS_SCALE]
        self._scale = self._loss_scale[0] if self._loss_scale else None
        self._sum: Any = Sum()
        self._structure: tuple[object, ...] = ()
        self._follow()
        self._lean = Lean(plan, self.native, is_on=precision == "float32")

    def _follow(self) -> None:
        """Make the graphs of the native cell as it is now, where a part of it was replaced."""
        now = structure(self.native)
        if now == self._structure:
            return
        plan, recipe = self._plan, self._recipe
        self._weights = parameters_of(self.native, plan)
        check_network({name: tuple(p.shape) for name, p in self._weights.items()}, plan)
        if self._dtype != ms.float32:
            reduce(self.native, self._dtype)
        recompute(self.native, plan)
        self._logits: Any = Logits(self.native, plan)
        loss = Loss(Logits(self.native, plan), recipe, self._scale)
        self._gradients: Any = Gradients(loss, [self._weights[name] for name in plan.trainable])
        self._move: Any = None
        self._step: Any = None
        if recipe is not None:
            average = average_of(plan, recipe, self._weights, self._slots)
            self._move = Move(self._make_update(recipe), average)
            self._step = Step(self._gradients, self._move)
        self._structure = now

    @property
    def info(self) -> Mapping[str, str]:
        """Framework, version, device, precision, math, mode and instruction set."""
        return describe_environment(self._device, self._precision, "graph", self._others.size)

    def _make_update(self, recipe: Recipe) -> nn.Cell:
        is_guarded = self._scale is not None
        trained = trained_of(self._plan, recipe, self._weights, self._slots, is_guarded)
        make = native_of(recipe.optimizer, OPTIMIZERS, "mindspore")
        optimizer = make(recipe.optimizer, trained)
        clip = Clip(recipe.optimizer, self._plan, trained.weights)
        update = Update(optimizer, clip, recipe.accumulate, self._loss_scale)
        return self._others.update(update, trained.weights, self._statistics(frozen=False))

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        self._follow()
        return to_state(self._weights | self._slots)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        self._follow()
        self._lean.changes += 1
        copy_into(self._weights | self._slots, whole_state(self._shapes, state))

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        In float32 norms are folded (see `lean`). The next batch is under way while one is handed
        out. A batch smaller than the first, as the last one often is, is filled up to its size: a
        graph is compiled for one size.
        """
        self._follow()
        yield from one_ahead(self._under_way(batches))

    def _under_way(self, batches: Iterable[Batch]) -> Iterator[tuple[Fetch, int]]:
        predict = self._lean.predictor(self.native, self._weights, self._evaluated)
        size = 0
        for batch in batches:
            size = size or len(batch)
            yield predict(to_tensor(filled(typed(self._intake.images(batch)), size))), len(batch)

    def _evaluated(self, images: Tensor) -> Tensor:
        with mode(ms.GRAPH_MODE), training(self.native, False):
            return self._logits(images)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        self._follow()
        (inputs,) = self._parts(batch, 1)
        with self._unchanged(), mode(ms.GRAPH_MODE), training(self.native, True):
            loss, _, gradients = self._gradients(*inputs)
            loss, *gradients = self._others.mean((loss, *gradients))
            arrays = map(to_array, gradients)
            if self._scale is not None:
                arrays = [array / self._scale.asnumpy() for array in arrays]
            return float(loss.asnumpy()), dict(zip(self._plan.trainable, arrays, strict=True))

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing.

        Runs op by op (PyNative), where cells can be hooked; on a CPU both modes give equal bits.
        """
        self._follow()
        outputs: State = {}
        if train:
            ((images, _, *noise),) = self._parts(batch, 1, labelled=False)
        else:
            images, noise = to_tensor(typed(self._intake.images(batch))), []
        with self._op_by_op(train, keeping(outputs)):
            x = Normalise(self._plan.input)(images)
            self.native(x, tuple(noise) or None)
        return ((name, outputs[name]) for name in self._plan.observed)

    def gradients_with_outputs(
        self, batch: Batch
    ) -> tuple[float, State, Array, Iterator[tuple[str, Array]]]:
        """Return what `gradients` does, the gradient by the normalised images, and `activations`.

        The first of the graph that trains, the others of one pass op by op.
        """
        outputs: State = {}
        (by_images,) = self._slopes(batch, keeping(outputs), {})
        told = ((name, outputs[name]) for name in self._plan.observed)
        return *self.gradients(batch), by_images, told

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield the loss's gradients by "input" and every node's output; changes nothing.

        Op by op, as `activations`. Each output has zeros added, and the gradient is by those.
        """
        outputs = self.activations(batch, train=True)
        zeros = {name: Tensor(np.zeros(array.shape, np.float32)) for name, array in outputs}
        return zip(("input", *zeros), self._slopes(batch, adding(zeros), zeros), strict=True)

    def _slopes(self, batch: Batch, hook: Hook, added: dict[str, Tensor]) -> list[Array]:
        """Return the loss's gradients by the normalised images and by `added`, op by op.

        hook: called for every observed node; may add to its output what is then in `added`.
        """
        ((images, labels, *more),) = self._parts(batch, 1)
        compared, noise = more[: self._shares] or [labels], more[self._shares :]
        scale = self._scale

        def loss_of(x: Tensor, *more: Tensor) -> Any:
            added.update(zip(added, more, strict=True))
            logits: Any = self.native(x, tuple(noise) or None)
            loss = self._loss_of(logits.astype(ms.float32), *compared)
            return loss if scale is None else loss * scale

        with self._op_by_op(True, hook):
            inputs = (Normalise(self._plan.input)(images), *added.values())
            gradients: Any = ms.grad(loss_of, tuple(range(len(inputs))))  # pyright: ignore[reportArgumentType]
            found = gradients(*inputs)
            arrays = list(map(to_array, found if added else (found,)))
        return arrays if scale is None else [array / scale.asnumpy() for array in arrays]

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
        with mode(ms.GRAPH_MODE), training(self.native, True), self._others.answered():
            for rate, keep, batch in kept_steps(batches, recipe, rates, keeps):
                for loss, hits in self._take_step(batch, pace_of(recipe.ema, rate, keep), recipe):
                    losses.append(loss)
                    correct.append(hits)
                count.append(len(batch))
        shape = (len(count), recipe.accumulate)
        loss = fetched(losses, np.float64).reshape(shape).mean(axis=1)
        hits = fetched(correct, np.int64).reshape(shape).sum(axis=1)
        loss, hits = self._others.whole(loss, hits)
        return step_log(loss, hits, np.multiply(count, self._others.size), rates)

    def _take_step(self, batch: Batch, pace: Tensor, recipe: Recipe) -> list[tuple[Tensor, Tensor]]:
        """Take one optimiser step; return loss and correct images of each part, on the device."""
        self._lean.changes += 1
        first, *others = self._parts(batch, recipe.accumulate)
        if not others:
            return [self._step(pace, *first)]
        loss, correct, total = self._gradients(*first)
        results = [(loss, correct)]
        for inputs in others:
            loss, correct, gradients = self._gradients(*inputs)
            total = self._sum(*total, *gradients)
            results.append((loss, correct))
        self._move(pace, *total)
        return results

    def _parts(
        self, batch: Batch, count: int, *, labelled: bool = True
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield images, labels, what the loss takes, and noise (in the plan's order), by parts."""
        for part in self._intake.parts(batch, count, labelled=labelled):
            shares = (a.astype(np.float32) for a in (part.targets, part.soft) if a is not None)
            arrays = (typed(part.images), part.labels.astype(np.int32), *shares)
            yield tuple(map(to_tensor, (*arrays, *part.noise.values())))

    def _statistics(self, *, frozen: bool = True) -> Parameters:
        """Return the running statistics by name. frozen: those of frozen norms, too."""
        found = (tensor for tensor in self._plan.tensors if tensor.is_statistic)
        return {t.name: self._weights[t.name] for t in found if frozen or not t.frozen}

    @contextmanager
    def _op_by_op(self, train: bool, hook: Hook) -> Iterator[None]:
        """Run the network in PyNative mode, with `hook` on every observed node; change nothing."""
        watched = hooked(self.native, self._plan.observed, hook)
        with self._unchanged(), mode(ms.PYNATIVE_MODE), training(self.native, train), watched:
            yield

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Undo, at the end, what a pass in training mode does to the statistics."""
        statistics = self._statistics()
        before = to_state(statistics)
        try:
            yield
        finally:
            copy_into(statistics, before)
