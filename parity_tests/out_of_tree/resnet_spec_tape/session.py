"""One plan in NumPy with its optimiser: everything that `resnet_spec.contract.Session` asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.optimizers import clipped, row_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE, family, state_shapes, whole_state
from resnet_spec.session_steps import Intake, Part, recipe_for_training, step_log, steps

from .modules import Network, Tape, apply
from .weights import copies, copy_into, zeros_of

PRECISIONS: tuple[Precision, ...] = ("float32", "float64")


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
        if device not in ("auto", "cpu"):
            raise BackendError(problem("device", device, "is not one of tape's", "use auto, cpu"))
        if precision not in PRECISIONS:
            hint = did_you_mean(precision, PRECISIONS)
            raise BackendError(problem("precision", precision, "is not one of tape's", hint))
        self._plan, self._recipe, self._dtype = plan, recipe, np.dtype(precision)
        self._weights = zeros_of(plan, self._dtype)
        self._shapes = state_shapes(plan, recipe, precision)
        shapes = self._shapes.items()
        self._slots = {n: np.zeros(shape, self._dtype) for n, shape in shapes if family(n)}
        self._intake = Intake(plan)
        self.native = Network(plan, self._weights)
        self.info: Mapping[str, str] = {
            "framework": "numpy",
            "version": np.__version__,
            "device": "cpu",
            "precision": precision,
            "math": "strict",
        }

    def state(self) -> State:
        return copies(self._weights | self._slots)

    def load(self, state: Mapping[str, Array]) -> None:
        copy_into(self._weights | self._slots, whole_state(self._shapes, state))

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        for batch in batches:
            yield self.native(self._images(self._intake.images(batch)))

    def gradients(self, batch: Batch) -> tuple[float, State]:
        (part,) = self._intake.parts(batch)
        tape, loss, _, _ = self._pass(part)
        return loss, copies({name: tape.gradients[name] for name in self._plan.trainable})

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        part = Part(self._intake.images(batch), batch.labels, {})
        if train:
            (part,) = self._intake.parts(batch, labelled=False)
        tape = Tape(self._weights, train, part.noise)
        apply(self._plan.root, self._images(part.images), tape)
        yield from copies({name: tape.outputs[name] for name in self._plan.observed}).items()

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        (part,) = self._intake.parts(batch)
        tape, _, _, dimages = self._pass(part)
        found = {"input": dimages} | tape.output_gradients
        yield from copies({name: found[name] for name in ("input", *self._plan.observed)}).items()

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        recipe = recipe_for_training(self._recipe)
        log = [
            (*self._step(batch, rate, recipe), len(batch)) for rate, batch in steps(batches, rates)
        ]
        loss, correct, count = zip(*log, strict=True) if log else ((), (), ())
        return step_log(loss, correct, count, rates)

    def _step(self, batch: Batch, rate: float, recipe: Recipe) -> tuple[float, int]:
        """Take one step; return the loss before it and the correct images."""
        parts = recipe.accumulate
        loss, correct, total = 0.0, 0, dict.fromkeys(self._plan.trainable, np.zeros(()))
        for part in self._intake.parts(batch, parts):
            tape, part_loss, hits, _ = self._pass(part)
            # Each part normalises by its own statistics, and the next one sees them.
            copy_into(self._weights, tape.statistics)
            loss, correct = loss + part_loss / parts, correct + hits
            total = {name: total[name] + tape.gradients[name] / parts for name in total}
        self._descend(total, rate, recipe)
        decay = recipe.ema.decay
        for tensor in self._plan.tensors if decay > 0 else ():
            if not tensor.frozen:
                average = self._slots[f"{AVERAGE}/{tensor.name}"]
                average[...] = decay * average + (1.0 - decay) * self._weights[tensor.name]
        return loss, correct

    def _descend(self, gradients: State, rate: float, recipe: Recipe) -> None:
        row, settings = row_of(recipe.optimizer), recipe.optimizer
        gradients = clipped(settings, gradients, self._weights, self._plan.classifier)
        moved: State = {}
        for tensor in (tensor for tensor in self._plan.tensors if tensor.trainable):
            numbers = rate * tensor.rate, recipe.decay_of(tensor)
            arrays = self._weights[tensor.name], gradients[tensor.name], self._slots
            new, slots = row.step(settings, tensor.name, *numbers, *arrays)
            moved |= {tensor.name: new, **slots}
        copy_into(self._weights | self._slots, moved)

    def _pass(self, part: Part) -> tuple[Tape, float, int, Array]:
        """Return a tape with gradients, the loss, correct images and the images' gradient."""
        tape = Tape(self._weights, True, part.noise)
        logits, pull = apply(self._plan.root, self._images(part.images), tape)
        smoothing = 0.0 if self._recipe is None else self._recipe.label_smoothing
        loss, dlogits = cross_entropy(logits, part.labels, smoothing)
        correct = int((logits.argmax(1) == part.labels).sum())
        return tape, loss, correct, pull(dlogits)

    def _images(self, given: Array) -> Array:
        """Return images [N, H, W, C] normalised, [N, C, H, W]."""
        images = given.astype(self._dtype)
        if given.dtype == np.uint8:
            scale, shift = self._plan.input.scale, self._plan.input.shift
            images = images * np.array(scale, self._dtype) + np.array(shift, self._dtype)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def cross_entropy(
    logits: Array, labels: NDArray[np.int64], smoothing: float
) -> tuple[float, Array]:
    """Return the mean smoothed cross-entropy of `logits` [N, K], and its gradient by them."""
    count, classes = logits.shape
    target = np.eye(classes, dtype=logits.dtype)[labels] * (1.0 - smoothing) + smoothing / classes
    highest = logits.max(1, keepdims=True)
    log_sum = highest + np.log(np.exp(logits - highest).sum(1, keepdims=True))
    loss = (target * (log_sum - logits)).sum() / count
    return float(loss), (np.exp(logits - log_sum) - target) / count
