"""One side of a comparison: what a backend makes of a setup, each result computed once.

Nothing here knows of levels or limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, Session, State
from resnet_spec.loader import load_backend
from resnet_spec.parity.once import once
from resnet_spec.parity.setup import Setup
from resnet_spec.running.opening import check_trains


class _Backward(NamedTuple):
    """What one pass in training mode gives, forward and backward."""

    loss: float
    gradients: State
    by_images: Array
    outputs: State | None
    """None where the session does not tell."""


@dataclass(slots=True)
class _Held:
    """Whether a session's weights are the setup's, and nobody can have moved them since."""

    is_setups: bool = False


class Side:
    """A session of `backend` on `setup`; results are in float64 or the session's precision.

    options: more arguments for the session, where its backend takes some.
    """

    def __init__(
        self, backend: str, setup: Setup, precision: Precision = "float32", **options: Any
    ) -> None:
        self.backend = backend
        self.setup = setup
        self.precision: Precision = precision
        self._options = options
        self._held = _Held()

    @once
    def _session(self) -> Session:
        setup = self.setup
        check_trains(self.backend, setup.recipe, setup.plan.classes)
        session: Any = load_backend(self.backend).Session
        return session(setup.plan, setup.recipe, precision=self.precision, **self._options)

    @property
    def session(self) -> Session:
        """The session, holding the setup's weights and fresh slots, to train or to be asked."""
        self._held.is_setups = False
        self._session.load(self.setup.state)
        return self._session

    @property
    def _asked(self) -> Session:
        """The session, for what changes nothing: loaded once, and again after it has trained."""
        if not self._held.is_setups:
            self._session.load(self.setup.state)
            self._held.is_setups = True
        return self._session

    def sharing(self, **options: Any) -> Side:
        """Return a side of the same session but for `options`: its order, or its choices.

        For the reference only. Both have one set of weights: only one may compute at a time.
        """
        return _Sharing(self, options)

    def forget(self, *values: str) -> None:
        """Let go of values that were computed; who asks for one has it computed anew."""
        for value in values:
            self.__dict__.pop(value, None)

    def offers(self, level: str) -> bool:
        """Return whether the side can be compared at `level`; a session at every one."""
        return True

    @property
    def batch(self) -> Batch:
        """The batch that everything but a run is computed on."""
        return self.setup.batches[0]

    @property
    def info(self) -> Mapping[str, str]:
        """Framework, version, device, precision and math mode."""
        return self._session.info

    @once
    def state(self) -> State:
        """Weights, statistics and slots before the first step."""
        return self._asked.state()

    @once
    def logits(self) -> Array:
        """Evaluation-mode logits [N, classes]."""
        return next(iter(self._asked.predict([self.batch])))

    @once
    def dataset_logits(self) -> Array:
        """Evaluation-mode logits [images, classes] of the setup's dataset."""
        return np.concatenate(list(self._asked.predict(self.setup.dataset)))

    @once
    def evaluated(self) -> State:
        """Evaluation-mode output of every observed node."""
        return dict(self._asked.activations(self.batch))

    @once
    def activations(self) -> State:
        """Training-mode output of every observed node."""
        return dict(self._asked.activations(self.batch, train=True))

    @property
    def outputs(self) -> State:
        """Training-mode outputs, of the pass that gave the gradients where that tells them."""
        told = self._backward.outputs if "_backward" in self.__dict__ else None
        return self.activations if told is None else told

    @property
    def gradients(self) -> tuple[float, State]:
        """Loss and gradients by parameter."""
        return self._backward.loss, self._backward.gradients

    @property
    def input_gradient(self) -> Array:
        """The gradient by the normalised images, [N, C, H, W]."""
        return self._backward.by_images

    @once
    def _backward(self) -> _Backward:
        session: Any = self._asked
        # Asked of the class: what wraps a session answers for what it changes.
        if hasattr(session.__class__, "gradients_with_outputs"):
            loss, gradients, by_images, outputs = session.gradients_with_outputs(self.batch)
            told = None if "activations" in self.__dict__ else dict(outputs)
            return _Backward(loss, gradients, by_images, told)
        loss, gradients = session.gradients(self.batch)
        by_images = next(iter(session.node_gradients(self.batch)))[1]
        return _Backward(loss, gradients, by_images, None)

    @once
    def node_gradients(self) -> State:
        """Gradients by "input" and by the output of every observed node."""
        return dict(self._asked.node_gradients(self.batch))

    @once
    def _first_step(self) -> tuple[float, State]:
        session = self.session
        log = session.train(iter(self.setup.batches[:1]), *self.setup.pace(0, 1))
        return float(log.loss[0]), session.state()

    @property
    def stepped(self) -> State:
        """Weights, statistics and slots after the first step."""
        return self._first_step[1]

    def run_from(self, state: State) -> tuple[NDArray[np.float64], State]:
        """Return the losses of a whole run from other weights, and its end."""
        self._held.is_setups = False
        self._session.load(state)
        log = self._session.train(iter(self.setup.batches), *self.setup.pace(0))
        return log.loss, self._session.state()

    @once
    def run(self) -> tuple[NDArray[np.float64], State]:
        """The training loss of every step, and the state after the last."""
        loss, state = self._first_step
        if len(self.setup.batches) == 1:
            return np.array([loss]), state
        self._held.is_setups = False
        self._session.load(state)
        log = self._session.train(iter(self.setup.batches[1:]), *self.setup.pace(1))
        return np.concatenate([[loss], log.loss]), self._session.state()

    @property
    def by_itself(self) -> Side:
        """The run of one process, from which it is seen how far rounding carries this one."""
        return self

    @property
    def torn(self) -> Sequence[str]:
        """What of a run its processes disagree on, each in a few words; nothing in one process."""
        return ()

    @property
    def losses(self) -> NDArray[np.float64]:
        """The training loss of every step."""
        return self.run[0]


class _Sharing(Side):
    """A side of another's session, with options of its own."""

    def __init__(self, of: Side, options: Mapping[str, Any]) -> None:
        super().__init__(of.backend, of.setup, of.precision, **options)
        self._of = of
        self._held = of._held

    @once
    def _session(self) -> Session:
        session: Any = self._of._session
        return session.sharing(**self._options)
