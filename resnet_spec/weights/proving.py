"""The proof that a written file computes what its source does: bits of tensors, and logits.

Both sides are evaluated by the float64 NumPy reference, so that no framework is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array, Batch, Precision, State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import without_classifier
from resnet_spec.planning.costs import count_params
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.printing.activity import doing


class Network(NamedTuple):
    """A spec and canonical tensors for it, of whatever precision the file has.

    has_classifier: whether the classifier's tensors are among them.
    """

    spec: Spec
    state: Mapping[str, Array]
    has_classifier: bool = True

    @property
    def plan(self) -> Plan:
        """The plan whose tensors the state holds."""
        plan = lower(self.spec)
        return plan if self.has_classifier else without_classifier(plan)


@dataclass(frozen=True)
class Proof:
    """What was compared. name, params: of the network.

    difference: the largest one between logits, as a fraction of the largest logit; 0.0 when all
    bits are equal. rounded: how many tensors hold other bits than the source, for they are rounded
    to float32 once.
    """

    name: str
    params: int
    images: int
    difference: float
    rounded: int

    @property
    def line(self) -> str:
        """The proof in one line."""
        network = f"({self.name}, {self.params:,} parameters)"
        if self.difference == 0.0:
            return f"proof: {self.images} images, logits equal bit by bit {network}"
        return (
            f"proof: {self.images} images, logits equal to {self.difference:.1e} of the largest: "
            f"{self.rounded} tensors are rounded to float32 {network}"
        )


def prove(source: Network, written: Network) -> Proof:
    """Compare the tensors bit by bit, and the logits of two small images.

    source: float64 where the file implies more digits than float32 has (folded biases). A tensor
    must have these very values, rounded to float32 once where they are float64.

    Raises CheckpointError, naming the tensor, where the written file has other values, and where
    the network's logits are not finite: of such a network nothing is proven.
    """
    rounded = 0
    for name, array in source.state.items():
        there = written.state[name]
        if not np.array_equal(array.astype(np.float32), there):
            raise CheckpointError(f"{name}: the written file does not hold the source's values")
        rounded += not np.array_equal(array, there)
    size = min(source.spec.input.size, _LARGEST_PROBE)
    with doing("comparing the logits of the file with those of its source"):
        ours, theirs = (_logits(network, size) for network in (source, written))
    # What float64 can hold may be beyond float32, in which networks are used.
    for precision, logits in (("float64", ours), ("float32", _logits(written, size, "float32"))):
        _check_finite(logits, precision)
    difference = 0.0
    if not np.array_equal(ours, theirs):
        difference = float(np.abs(ours - theirs).max() / np.abs(ours).max())
        if not (rounded and difference <= _ROUNDING):
            raise CheckpointError(
                f"logits: differ by {difference:.1e} of the largest between source and written file"
            )
    return Proof(
        written.spec.name, count_params(written.plan.tensors), _IMAGES, difference, rounded
    )


_IMAGES, _LARGEST_PROBE = 2, 64
_ROUNDING = 1e-5
"""A mean that is rounded to float32 moves by 6e-8 of itself; blocks add this up."""


def _check_finite(logits: Array, precision: str) -> None:
    bad = logits.size - int(np.count_nonzero(np.isfinite(logits)))
    if bad:
        raise CheckpointError(
            f"logits: {bad} of {logits.size} are NaN or infinite in {precision}, "
            "so nothing is proven; the network's weights are not sound"
        )


def _logits(network: Network, size: int, precision: Precision = "float64") -> Array:
    plan = lower(network.spec, size)
    # An encoder's features show in the logits of any classifier: one is drawn, the same each time.
    drawn = {} if network.has_classifier else initial_state(plan, 0)
    state: State = {**drawn, **network.state}
    shape = (_IMAGES, size, size, plan.input.channels)
    images = np.random.default_rng(0).standard_normal(shape).astype(precision)
    none = np.full(_IMAGES, -1, np.int64)
    session = load_backend("numpy").Session(plan, precision=precision)
    session.load(state)
    with np.errstate(over="ignore", invalid="ignore"):
        (logits,) = session.predict([Batch(images, none, none)])
    return logits
