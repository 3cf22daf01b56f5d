"""A person's own model in the place of a session: canonical names and layouts around its own.

What it cannot do it does not offer: `levels` says what it can be compared at.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, State, StepLog
from resnet_spec.errors import BackendError, ResnetSpecError
from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec.running.evaluate import Predictor
from resnet_spec.weights.naming.lifting import check, lift, to_canonical, to_foreign
from resnet_spec.weights.naming.names import Foreign, Output

Outputs = Mapping[str, tuple[Output, ...]]
Seen = Mapping[str, Sequence[Array]]
"""Path of a module -> what belongs to each of its calls; "" is the whole model."""


class Function(Predictor, Protocol):
    """A model that maps images to logits and shows nothing else."""

    native: Any


class Model(Function, Protocol):
    """What a backend's `wrap.wrap(model, plan, recipe=, precision=)` returns.

    Names, paths and the layouts of weights are the model's own; activations and their gradients
    are NCHW. Every pass leaves the model as it was.
    """

    def tensors(self) -> State:
        """Return copies of all parameters and statistics."""
        ...

    def assign(self, state: Mapping[str, Array]) -> None:
        """Put `state`, whose names and shapes are right, into the model."""
        ...

    def modules(self) -> frozenset[str]:
        """Return the paths of the modules whose outputs can be seen."""
        ...

    def gradients(self, batch: Batch, names: Sequence[str]) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by the tensors `names`."""
        ...

    def outputs(self, batch: Batch, paths: Iterable[str], train: bool) -> Seen:
        """Return what the modules at `paths` put out, and the logits under ""."""
        ...

    def output_gradients(self, batch: Batch, paths: Iterable[str]) -> tuple[Array, Seen]:
        """Return the loss's gradient by the normalised images, and by all of `outputs`."""
        ...

    def statistics(self, batch: Batch) -> State:
        """Return all tensors as they are after one pass in training mode."""
        ...


class WrappedFunction:
    """A function from images to logits as a session that predicts.

    state: the weights it has, by canonical name; {} where they are not known.
    """

    levels: frozenset[str]
    """The levels it can be compared at."""

    def __init__(self, model: Function, plan: Plan, state: State) -> None:
        self._function = model
        self._plan = plan
        self._known = state
        known = {"names", "shapes", "counts"} if state else set[str]()
        self.levels = frozenset({"logits", "accuracy"} | known)

    @property
    def native(self) -> Any:
        """The model that is run."""
        return self._function.native

    @property
    def info(self) -> Mapping[str, str]:
        """Framework, version, device, precision and math mode."""
        return self._function.info

    def state(self) -> State:
        """Return copies of the weights by canonical name; {} where they are not known."""
        return {name: array.copy() for name, array in self._known.items()}

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order.

        Raises BackendError when the model fails, or puts out something else.
        """
        for batch in batches:
            with named_failure(self.native, "predict"):
                (logits,) = self._function.predict([batch])
            wanted = (len(batch), self._plan.classes)
            if logits.shape != wanted:
                rule = f"must give logits of shape {list(wanted)}, not {list(logits.shape)}"
                raise BackendError(f"model = {type(self.native).__name__}: {rule}")
            _check_type(self.native, logits, self.info["precision"])
            yield logits

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield the last node with the logits, all that shows; in training mode nothing does."""
        if not train:
            for logits in self.predict([batch]):
                yield self._plan.observed[-1], logits


class WrappedModel(WrappedFunction):
    """A model of a framework as a session without an optimiser.

    Offers all of `contract.Session` but `train`, and `statistics`. Nodes for which the model has no
    module are left out of `activations` and `node_gradients`; the last node always has the logits.
    """

    def __init__(
        self, model: Model, plan: Plan, names: Mapping[str, Foreign], outputs: Outputs
    ) -> None:
        """Take `model`, the name of each tensor in it, and the places of outputs, best first.

        Raises CheckpointError that lists every missing, unexpected and misshapen tensor.
        """
        super().__init__(model, plan, lift(plan, names, model.tensors()))
        self._model = model
        self._names = names
        self._outputs: Outputs = {**outputs, plan.observed[-1]: (Output(""),)}
        self._shapes: dict[str, Shape] = {op.name: op.out_shape for op in plan.ops}
        self.levels |= {"activations"}
        # A model draws its own noise, which the reference cannot be given.
        if not plan.noises:
            self.levels |= {"train_logits", "gradients", "statistics"}

    def state(self) -> State:
        """Return copies of weights and statistics by canonical name."""
        return lift(self._plan, self._names, self._model.tensors())

    def load(self, state: Mapping[str, Array]) -> None:
        """Put `state`, canonical, into the model. Raises CheckpointError; changes nothing then."""
        own = {t.name: Foreign(t.name, t.layout) for t in self._plan.tensors}
        check(self._plan, own, {name: array.shape for name, array in state.items()})
        foreign: State = {}
        for tensor in self._plan.tensors:
            there = self._names[tensor.name]
            foreign[there.name] = to_foreign(tensor, there.layout, state[tensor.name])
        self._model.assign(foreign)

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing."""
        tensors = [tensor for tensor in self._plan.tensors if tensor.trainable]
        foreign = [self._names[tensor.name] for tensor in tensors]
        with named_failure(self.native, "gradients"):
            loss, found = self._model.gradients(batch, [there.name for there in foreign])
        return loss, {
            tensor.name: to_canonical(tensor, there.layout, found[there.name])
            for tensor, there in zip(tensors, foreign, strict=True)
        }

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for the nodes that show, in the plan's order; changes nothing."""
        with named_failure(self.native, "activations"):
            seen = self._model.outputs(batch, self._places, train)
        return self._shown(seen)

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield the loss's gradient by "input" and the nodes that show; changes nothing."""
        with named_failure(self.native, "node_gradients"):
            by_image, seen = self._model.output_gradients(batch, self._places)
        yield "input", by_image
        yield from self._shown(seen)

    def statistics(self, batch: Batch) -> State:
        """Return the state after one pass in training mode; the model is put back as it was."""
        with named_failure(self.native, "statistics"):
            found = self._model.statistics(batch)
        return lift(self._plan, self._names, found)

    def train(self, batches: Iterable[Batch], rates: NDArray[np.float64]) -> StepLog:
        """Raise BackendError."""
        raise BackendError("train: a bare model has no optimiser; compare it without training")

    @cached_property
    def _places(self) -> list[str]:
        """The modules of the model that may show a node's output."""
        wanted = {place.module for places in self._outputs.values() for place in places}
        return sorted(wanted & self._model.modules())

    def _shown(self, seen: Seen) -> Iterator[tuple[str, Array]]:
        for node in self._plan.observed:
            for module, call, calls in self._outputs.get(node, ()):
                if len(seen.get(module, ())) == calls:
                    yield node, self._shaped(node, seen[module][call])
                    break

    def _shaped(self, node: str, array: Array) -> Array:
        """Return [N, C, 1, 1] as [N, C], or the reverse, as the plan has it; others as they are."""
        shape = (len(array), *self._shapes.get(node, array.shape[1:]))
        trimmed = tuple(size for size in shape if size != 1)
        is_same = trimmed == tuple(size for size in array.shape if size != 1)
        return array.reshape(shape) if is_same else array


def _check_type(model: object, logits: Array, precision: str) -> None:
    if logits.dtype != precision:
        rule = f"computes in {logits.dtype} though its weights are {precision}"
        raise BackendError(
            f"model = {type(model).__name__}: {rule}; use precision = {logits.dtype}"
        )


@contextmanager
def named_failure(model: object, what: str) -> Generator[None]:
    """Turn what a model raises into one line that says which model, and in what."""
    try:
        yield
    except ResnetSpecError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        where = f"model = {type(model).__name__}: {what} fails in it"
        raise BackendError(f"{where}: {type(error).__name__}: {first}") from error
