"""Sessions that change batches and states on their way in, and put back what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from patches import Patch

from resnet_spec.contract import Array, Batch, State, StepLog


class Around:
    """A session around another: batches and states are changed going in, and put back coming out.

    Subclasses say how; here, nothing is changed.
    """

    def __init__(self, session: Any) -> None:
        self._inner = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def batch(self, batch: Batch) -> Batch:
        return batch

    def into(self, state: State) -> State:
        return state

    def back(self, state: State) -> State:
        return state

    def output(self, name: str, array: Array) -> Array:
        """Put back the output of a node, or the gradient by it."""
        return array

    def state(self) -> State:
        return self.back(self._inner.state())

    def load(self, state: State) -> None:
        self._inner.load(self.into(state))

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        return (self.output("", a) for a in self._inner.predict(map(self.batch, batches)))

    def gradients(self, batch: Batch) -> tuple[float, State]:
        loss, gradients = self._inner.gradients(self.batch(batch))
        return loss, self.back(gradients)

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        found = self._inner.activations(self.batch(batch), train)
        return ((name, self.output(name, array)) for name, array in found)

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        found = self._inner.node_gradients(self.batch(batch))
        return ((name, self.output(name, array)) for name, array in found)

    def train(self, batches: Iterable[Batch], rates: Array) -> StepLog:
        return self._inner.train(map(self.batch, batches), rates)


def around(kind: type[Around]) -> Patch:
    return lambda backend, session: kind(session)


def taken(batch: Batch, rows: Any) -> Batch:
    """Return the images `rows` of a batch."""
    return replace(
        batch,
        images=batch.images[rows],
        labels=batch.labels[rows],
        indices=batch.indices[rows],
        noise={name: noise[rows] for name, noise in batch.noise.items()},
    )


class ImagesReversed(Around):
    """The images of a batch come in reverse order."""

    def batch(self, batch: Batch) -> Batch:
        return taken(batch, np.arange(len(batch))[::-1])

    def output(self, name: str, array: Array) -> Array:
        return array[::-1]


class BatchSplit(Around):
    """In evaluation a batch is given in two parts."""

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        for batch in batches:
            yield np.concatenate(list(self._inner.predict(_halves(batch))))

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        if train:
            return super().activations(batch, train)
        parts = [dict(self._inner.activations(half)) for half in _halves(batch)]
        return ((name, np.concatenate([part[name] for part in parts])) for name in parts[0])


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    half = len(batch) // 2
    return taken(batch, slice(half)), taken(batch, slice(half, None))


class ImagesNormalised(Around):
    """Images are given as floating point, normalised."""

    def batch(self, batch: Batch) -> Batch:
        size = self._inner._plan.input
        images = batch.images.astype(np.float64) * np.array(size.scale) + np.array(size.shift)
        return replace(batch, images=images.astype(np.float32))


class ArraysStrided(Around):
    """Weights and images are views of every second element of larger arrays."""

    def batch(self, batch: Batch) -> Batch:
        return replace(batch, images=np.repeat(batch.images, 2, 2)[:, :, ::2])

    def into(self, state: State) -> State:
        return {name: np.repeat(array, 2, -1)[..., ::2] for name, array in state.items()}


class UsedBefore(Around):
    """The session has computed gradients and predictions of other weights and images before."""

    def load(self, state: State) -> None:
        images = other_batch(self._inner)
        other = {name: 1.1 * array for name, array in state.items()}
        self._inner.load({name: array.astype(np.float32) for name, array in other.items()})
        self._inner.gradients(images)
        list(self._inner.predict([images]))
        dict(self._inner.activations(images, train=True))
        self._inner.load(state)


def other_batch(session: Any) -> Batch:
    """Return a batch that nobody will compare."""
    plan = session._plan
    size = plan.input
    draw = np.random.default_rng(7)
    images = draw.integers(0, 256, (6, size.height, size.width, size.channels), dtype=np.uint8)
    noise = {op.name: np.ones((6, op.in_shape[0]), np.float32) for op in plan.noises}
    return Batch(images, np.zeros(6, np.int64), np.arange(6), noise=noise)


class OneStepPerCall(Around):
    """A run is made of calls of one step each."""

    def train(self, batches: Iterable[Batch], rates: Array) -> StepLog:
        given = zip(rates, batches, strict=False)
        logs = [self._inner.train(iter([b]), np.array([rate])) for rate, b in given]
        parts = ("loss", "correct", "count")
        return StepLog(**{p: np.concatenate([getattr(log, p) for log in logs]) for p in parts})


class ChannelsPermuted(Around):
    """The channels between a block's two convolutions are in another order throughout."""

    AXES: Mapping[str, int] = {
        "layer1.0.conv1.weight": 0,
        "layer1.0.bn1.weight": 0,
        "layer1.0.bn1.bias": 0,
        "layer1.0.bn1.running_mean": 0,
        "layer1.0.bn1.running_var": 0,
        "layer1.0.conv2.weight": 1,
    }
    NODES = ("layer1.0.conv1", "layer1.0.bn1", "layer1.0.act1")
    ORDER = np.array([3, 0, 6, 1, 7, 5, 2, 4])

    def into(self, state: State) -> State:
        return self._moved(state, self.ORDER)

    def back(self, state: State) -> State:
        return self._moved(state, np.argsort(self.ORDER))

    def output(self, name: str, array: Array) -> Array:
        return array[:, np.argsort(self.ORDER)] if name in self.NODES else array

    def _moved(self, state: State, order: Array) -> State:
        axes = {name: self.AXES.get(name.removeprefix("momentum/")) for name in state}
        return {
            name: array if axes[name] is None else array.take(order, axes[name])
            for name, array in state.items()
        }
