"""One plan in NumPy with its optimiser: everything that `resnet_spec.contract.Session` asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, State, StepLog
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

from .modules import Network, Tape, apply
from .weights import check_state, copies, copy_into, family, zeros_of

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
        self._slots: State = {}
        if recipe is not None and recipe.optimizer.momentum > 0:
            names = plan.trainable
            self._slots |= {f"momentum/{n}": np.zeros_like(self._weights[n]) for n in names}
        if recipe is not None and recipe.ema.decay > 0:
            self._slots |= {f"ema/{n}": np.zeros_like(a) for n, a in self._weights.items()}
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
        check_state(self._weights | self._slots, state)
        copy_into(self._weights, state)
        given = {family(name) for name in state}
        for name, slot in self._slots.items():
            if family(name) in given:
                slot[...] = state[name]
            elif name.startswith("momentum/"):
                slot[...] = 0.0
            else:
                slot[...] = self._weights[name.removeprefix("ema/")]

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        for batch in batches:
            yield self.native(self._images(batch))

    def gradients(self, batch: Batch) -> tuple[float, State]:
        tape, loss, _, _ = self._pass(batch)
        return loss, copies({name: tape.gradients[name] for name in self._plan.trainable})

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        tape = self._tape(batch, train)
        apply(self._plan.root, self._images(batch), tape)
        yield from copies({name: tape.outputs[name] for name in self._plan.observed}).items()

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        tape, _, _, dimages = self._pass(batch)
        found = {"input": dimages} | tape.output_gradients
        yield from copies({name: found[name] for name in ("input", *self._plan.observed)}).items()

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        recipe = self._recipe
        if recipe is None:
            raise BackendError("recipe = None: train needs one; give the session a recipe")
        # `rates` comes first: zip then stops before it takes a batch too many.
        steps = zip(rates.tolist(), batches, strict=False)
        log = [(*self._step(batch, rate, recipe), len(batch)) for rate, batch in steps]
        if len(log) < len(rates):
            rule = f"must hold one batch for each of {len(rates)} rates"
            raise BackendError(problem("batches", len(log), rule))
        loss, correct, count = zip(*log, strict=True) if log else ((), (), ())
        return StepLog(
            np.array(loss, np.float64), *(np.array(n, np.int64) for n in (correct, count))
        )

    def _step(self, batch: Batch, rate: float, recipe: Recipe) -> tuple[float, int]:
        """Take one step; return the loss before it and the correct images."""
        parts = recipe.accumulate
        loss, correct, total = 0.0, 0, dict.fromkeys(self._plan.trainable, np.zeros(()))
        for part in self._parts(batch, parts):
            tape, part_loss, hits, _ = self._pass(part)
            # Each part normalises by its own statistics, and the next one sees them.
            copy_into(self._weights, tape.statistics)
            loss, correct = loss + part_loss / parts, correct + hits
            total = {name: total[name] + tape.gradients[name] / parts for name in total}
        self._descend(total, rate, recipe)
        decay = recipe.ema.decay
        for tensor in self._plan.tensors if decay > 0 else ():
            if not tensor.frozen:
                average = self._slots[f"ema/{tensor.name}"]
                average[...] = decay * average + (1.0 - decay) * self._weights[tensor.name]
        return loss, correct

    def _descend(self, gradients: State, rate: float, recipe: Recipe) -> None:
        momentum = recipe.optimizer.momentum
        for tensor in (tensor for tensor in self._plan.tensors if tensor.trainable):
            weight, g = self._weights[tensor.name], gradients[tensor.name]
            if recipe.decays(tensor):
                g = g + recipe.optimizer.weight_decay * weight
            velocity = self._slots.get(f"momentum/{tensor.name}", np.zeros_like(g))
            velocity[...] = momentum * velocity + g
            step = g + momentum * velocity if recipe.optimizer.nesterov else velocity
            weight -= rate * tensor.rate * step

    def _parts(self, batch: Batch, parts: int) -> Iterator[Batch]:
        if len(batch) == 0 or len(batch) % parts:
            rule = f"must be a positive multiple of accumulate = {parts}"
            raise BackendError(problem("batch", len(batch), rule))
        size = len(batch) // parts
        for start in range(0, len(batch), size):
            at = slice(start, start + size)
            noise = {name: factors[at] for name, factors in batch.noise.items()}
            yield replace(
                batch,
                images=batch.images[at],
                labels=batch.labels[at],
                indices=batch.indices[at],
                noise=noise,
            )

    def _pass(self, batch: Batch) -> tuple[Tape, float, int, Array]:
        """Return a tape with gradients, the loss, correct images and the images' gradient."""
        tape = self._tape(batch, training=True)
        logits, pull = apply(self._plan.root, self._images(batch), tape)
        smoothing = 0.0 if self._recipe is None else self._recipe.label_smoothing
        loss, dlogits = cross_entropy(logits, batch.labels, smoothing)
        correct = int((logits.argmax(1) == batch.labels).sum())
        return tape, loss, correct, pull(dlogits)

    def _tape(self, batch: Batch, training: bool) -> Tape:
        missing = [op.name for op in self._plan.noises if training and op.name not in batch.noise]
        if missing:
            raise BackendError(f"batch.noise: lacks {', '.join(missing)}, which training needs")
        for op in self._plan.batch_norms if training else ():
            if len(batch) * prod(op.in_shape[1:]) == 1:
                rule = f"leaves {op.name} one value per channel, which has no variance"
                raise BackendError(problem("batch", len(batch), rule, "take more images"))
        return Tape(self._weights, training, batch.noise)

    def _images(self, batch: Batch) -> Array:
        """Return normalised images [N, C, H, W]."""
        images = batch.images.astype(self._dtype)
        if batch.images.dtype == np.uint8:
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
