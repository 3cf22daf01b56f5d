"""One plan in NumPy: prediction, gradients, and steps by the optimiser's equation itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.freed_memory import keep_freed_memory
from resnet_spec.optimizers import clipped, row_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE, family, state_shapes, whole_state
from resnet_spec.session_steps import Intake, Part, kept_steps, recipe_for_training, step_log
from resnet_spec_numpy.losses import loss_of
from resnet_spec_numpy.modules import empty
from resnet_spec_numpy.passes import Run, reached_of
from resnet_spec_numpy.sums import Order
from resnet_spec_numpy.weights import copy_into, to_state, weights_of

PRECISIONS: tuple[Precision, ...] = ("float32", "float64")


def _silence() -> np.errstate:
    """Let overflow pass: a run that diverges is seen in its losses, as in the other frameworks."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Pass(NamedTuple):
    """What a forward and backward pass over a part gives."""

    loss: float
    correct: int
    gradients: State
    statistics: State
    input_gradient: Array
    """Of no meaning where the backward pass does not come back to the images."""


class Session:
    """See `resnet_spec.contract.Session`. `compile` is for the backends that can.

    order: of every pass (see `Run`), for comparisons that must know what rounding can do.
    """

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None = None,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,
        order: Order = "natural",
    ) -> None:
        if device not in ("auto", "cpu"):
            raise BackendError(problem("device", device, "is not one of numpy's", "use auto, cpu"))
        if precision not in PRECISIONS:
            hint = did_you_mean(precision, PRECISIONS)
            raise BackendError(problem("precision", precision, "is not one of numpy's", hint))
        self._plan = plan
        self._recipe = recipe
        self._shapes = state_shapes(plan, recipe, precision)
        self._intake = Intake(plan, recipe=recipe)
        self._loss_of = loss_of(recipe)
        self._dtype = np.dtype(precision)
        self._order: Order = order
        self._choices: Mapping[str, Array] = {}
        self._reached = reached_of(plan)
        self.native = empty(plan, self._dtype)
        shapes = self._shapes.items()
        self._slots = {n: np.zeros(shape, self._dtype) for n, shape in shapes if family(n)}
        self.info: Mapping[str, str] = {
            "framework": "numpy",
            "version": np.__version__,
            "device": "cpu",
            "precision": precision,
            "math": "strict",
            "blas": _blas(),
            "freed_memory": keep_freed_memory(),
        }

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `contract.State`)."""
        return to_state(self._weights() | self._slots)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`; slots that it lacks start fresh. Changes nothing when it raises."""
        whole = whole_state(self._shapes, state)
        copy_into(self._weights() | self._slots, whole)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        for batch in batches:
            images = self._normalised(self._intake.images(batch))
            with _silence():
                logits = self.native.forward(images, self._run())
            yield np.array(logits, order="C")

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        (part,) = self._parts(batch, 1)
        done = self._differentiate(part)
        return done.loss, to_state({name: done.gradients[name] for name in self._plan.trainable})

    def gradients_with_outputs(
        self, batch: Batch
    ) -> tuple[float, State, Array, Iterator[tuple[str, Array]]]:
        """Return what `gradients` does, the gradient by the normalised images, and `activations`.

        All of one pass in training mode; images are [N, C, H, W].
        """
        outputs: State = {}
        (part,) = self._parts(batch, 1)
        done = self._differentiate(part, to_input=True, outputs=outputs)
        by_name = to_state({name: done.gradients[name] for name in self._plan.trainable})
        by_images = np.array(done.input_gradient, order="C")
        return done.loss, by_name, by_images, self._observed(outputs)

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield the loss's gradients by "input" and every node's output; changes nothing."""
        outputs: State = {}
        (part,) = self._parts(batch, 1)
        done = self._differentiate(part, outputs)
        outputs["input"] = done.input_gradient
        return ((k, np.array(outputs[k], order="C")) for k in ("input", *self._plan.observed))

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in order; changes nothing."""
        outputs: State = {}
        noise: Mapping[str, Array] = {}
        if train:
            (part,) = self._intake.parts(batch, labelled=False)
            noise = part.noise
        images = self._normalised(self._intake.images(batch))
        with _silence():
            self.native.forward(images, self._run(train, noise, outputs))
        return self._observed(outputs)

    def sharing(
        self, *, order: Order | None = None, choices: Mapping[str, Array] | None = None
    ) -> Session:
        """Return a session of the very same weights and slots, with another order, or choices.

        They are as in `Run`; choices hold for batches of their length only.
        """
        other = copy(self)
        other._order, other._choices = order or self._order, choices or self._choices
        return other

    def train(
        self,
        batches: Iterable[Batch],
        rates: NDArray[np.float64],
        keeps: NDArray[np.float64] | None = None,
    ) -> StepLog:
        """Take len(rates) optimiser steps; see `contract.Session.train` for the arithmetic."""
        recipe = recipe_for_training(self._recipe)
        losses: list[float] = []
        correct: list[int] = []
        count: list[int] = []
        for rate, keep, batch in kept_steps(batches, recipe, rates, keeps):
            loss, hits = self._step(batch, rate, recipe)
            self._move_average(keep)
            losses.append(loss)
            correct.append(hits)
            count.append(len(batch))
        return step_log(losses, correct, count, rates)

    @_silence()
    def _step(self, batch: Batch, rate: float, recipe: Recipe) -> tuple[float, int]:
        """Take one optimiser step; return the mean loss and the number of correct images."""
        loss, correct = 0.0, 0
        total: dict[str, Any] = dict.fromkeys(self._plan.trainable, 0.0)
        for part in self._parts(batch, recipe.accumulate):
            done = self._differentiate(part)
            copy_into(self._weights(), done.statistics)
            loss += done.loss / recipe.accumulate
            correct += done.correct
            total = {name: total[name] + done.gradients[name] for name in total}
        mean = {name: total[name] / recipe.accumulate for name in total}
        fixed = self._weights(), self._plan.classifier
        self._descend(clipped(recipe.optimizer, mean, *fixed), rate, recipe)
        return loss, correct

    def _descend(self, gradients: Mapping[str, Any], rate: float, recipe: Recipe) -> None:
        """Move every trainable tensor by the equation of the optimiser, and what that keeps."""
        settings, weights = recipe.optimizer, self._weights()
        moved: State = {}
        for tensor in self._plan.tensors:
            if tensor.trainable:
                numbers = rate * tensor.rate, recipe.decay_of(tensor)
                own = weights[tensor.name], gradients[tensor.name], self._slots
                new, slots = row_of(settings).step(settings, tensor.name, *numbers, *own)
                moved |= {tensor.name: new, **slots}
        copy_into(weights | self._slots, moved)

    def _move_average(self, keep: float) -> None:
        weights = self._weights()
        for tensor in self._plan.tensors:
            average = self._slots.get(f"{AVERAGE}/{tensor.name}")
            if average is not None and not tensor.frozen and keep < 1.0:
                average[...] = keep * average + (1.0 - keep) * weights[tensor.name]

    @_silence()
    def _differentiate(
        self,
        part: Part,
        output_gradients: State | None = None,
        to_input: bool = False,
        outputs: State | None = None,
    ) -> Pass:
        """Run the network on `part` in training mode, forward and backward.

        to_input: come back to the images even where there is nothing to train on the way.
        """
        run = self._run(True, part.noise, outputs)
        run.output_gradients = output_gradients
        if output_gradients is None and not to_input:
            run.reached = self._reached
        logits = self.native.forward(part.images, run)
        loss, dlogits = self._loss_of(logits, part)
        dimages = self.native.backward(dlogits, run)
        assert not run.saved, f"no backward pass of {', '.join(run.saved)}"
        correct = int((logits.argmax(1) == part.labels).sum())
        return Pass(loss, correct, run.gradients, run.statistics, dimages)

    def _run(
        self,
        training: bool = False,
        noise: Mapping[str, Array] | None = None,
        outputs: State | None = None,
    ) -> Run:
        return Run(training, noise or {}, outputs, order=self._order, choices=self._choices)

    def _observed(self, outputs: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        return ((name, np.array(outputs[name], order="C")) for name in self._plan.observed)

    def _parts(self, batch: Batch, count: int) -> Iterator[Part]:
        """Yield equal consecutive parts of `batch`, ready for the network."""
        for part in self._intake.parts(batch, count):
            yield part._replace(images=self._normalised(part.images))

    def _normalised(self, images: Array) -> Array:
        """Return images [N, H, W, C] normalised, [N, C, H, W], in the session's precision."""
        size, is_raw = self._plan.input, images.dtype == np.uint8
        images = images.astype(self._dtype)
        if is_raw:
            images = images * self._cast(size.scale) + self._cast(size.shift)
        return images.transpose(0, 3, 1, 2)

    def _cast(self, values: tuple[float, ...]) -> Array:
        return np.array(values, self._dtype)

    def _weights(self) -> State:
        return weights_of(self.native, self._plan)


def _blas() -> str:
    """Name the library that multiplies matrices, as far as NumPy knows."""
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
