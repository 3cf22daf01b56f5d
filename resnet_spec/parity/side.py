"""One side of a comparison: what a backend computes from a setup.

Every result is computed once, when it is first asked for, with one session, so that a framework
compiles each function once however many levels look at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Precision, Session, State
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import Setup


class Side:
    """Results of one backend on one setup in one precision. Arrays must not be changed."""

    def __init__(self, backend: str, setup: Setup, precision: Precision = "float32") -> None:
        self.backend = backend
        self.setup = setup
        self.precision: Precision = precision

    @cached_property
    def _session(self) -> Session:
        session = load_backend(self.backend).Session
        return session(self.setup.plan, self.setup.recipe, precision=self.precision)

    @property
    def session(self) -> Session:
        """The session, holding the setup's weights and fresh slots."""
        self._session.load(self.setup.state)
        return self._session

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
        """Evaluation-mode logits [N, classes] of the first batch."""
        return next(iter(self.session.predict(self.setup.batches[:1])))

    @cached_property
    def activations(self) -> dict[str, Array]:
        """Training-mode output of every observed node on the first batch."""
        return dict(self.session.activations(self.setup.batches[0], train=True))

    @cached_property
    def gradients(self) -> tuple[float, State]:
        """Loss and gradients of the first batch."""
        return self.session.gradients(self.setup.batches[0])

    @cached_property
    def _first_step(self) -> tuple[float, State]:
        session = self.session
        log = session.train(iter(self.setup.batches[:1]), self.setup.rates[:1])
        return float(log.loss[0]), session.state()

    @property
    def stepped(self) -> State:
        """Weights, statistics and slots after the first step."""
        return self._first_step[1]

    def losses_from(self, state: State) -> NDArray[np.float64]:
        """Return the training loss of every step of a run from other weights."""
        self._session.load(state)
        return self._session.train(iter(self.setup.batches), self.setup.rates).loss

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The training loss of every step."""
        loss, state = self._first_step
        self._session.load(state)
        log = self._session.train(iter(self.setup.batches[1:]), self.setup.rates[1:])
        return np.concatenate([[loss], log.loss])
