"""One side of a comparison: what a backend makes of a setup, each result computed once.

Nothing here knows of levels or limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Precision, Session, State
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import Setup
from resnet_spec.running.opening import check_trains


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

    @cached_property
    def _session(self) -> Session:
        setup = self.setup
        check_trains(self.backend, setup.recipe, setup.plan.classes)
        session: Any = load_backend(self.backend).Session
        return session(setup.plan, setup.recipe, precision=self.precision, **self._options)

    @property
    def session(self) -> Session:
        """The session, holding the setup's weights and fresh slots."""
        self._session.load(self.setup.state)
        return self._session

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

    @cached_property
    def state(self) -> State:
        """Weights, statistics and slots before the first step."""
        return self.session.state()

    @cached_property
    def logits(self) -> Array:
        """Evaluation-mode logits [N, classes]."""
        return next(iter(self.session.predict([self.batch])))

    @cached_property
    def dataset_logits(self) -> Array:
        """Evaluation-mode logits [images, classes] of the setup's dataset."""
        return np.concatenate(list(self.session.predict(self.setup.dataset)))

    @cached_property
    def evaluated(self) -> State:
        """Evaluation-mode output of every observed node."""
        return dict(self.session.activations(self.batch))

    @cached_property
    def activations(self) -> State:
        """Training-mode output of every observed node."""
        return dict(self.session.activations(self.batch, train=True))

    @cached_property
    def gradients(self) -> tuple[float, State]:
        """Loss and gradients by parameter."""
        return self._backward[0]

    @property
    def input_gradient(self) -> Array:
        """The gradient by the normalised images, [N, C, H, W]."""
        return self._backward[1]

    @cached_property
    def _backward(self) -> tuple[tuple[float, State], Array]:
        session: Any = self.session
        # Asked of the class: what wraps a session answers for what it changes.
        if hasattr(session.__class__, "gradients_with_input"):
            loss, gradients, by_images = session.gradients_with_input(self.batch)
            return (loss, gradients), by_images
        found = session.gradients(self.batch)
        return found, next(iter(session.node_gradients(self.batch)))[1]

    @cached_property
    def node_gradients(self) -> State:
        """Gradients by "input" and by the output of every observed node."""
        return dict(self.session.node_gradients(self.batch))

    @cached_property
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
        self._session.load(state)
        log = self._session.train(iter(self.setup.batches), *self.setup.pace(0))
        return log.loss, self._session.state()

    @cached_property
    def run(self) -> tuple[NDArray[np.float64], State]:
        """The training loss of every step, and the state after the last."""
        loss, state = self._first_step
        if len(self.setup.batches) == 1:
            return np.array([loss]), state
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
