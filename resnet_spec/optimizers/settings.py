"""What a person sets of an optimiser, as one table for all kinds.

A setting that a kind does not read is not there.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from resnet_spec.describing.descriptions import Fraction, Positive, Table

ABSENT: Any = None
"""In the place of a setting that the kind does not read, or that is off: it is not written either,
so that a description holds what its kind reads, and no more."""

Pattern = Annotated[str, Field(min_length=1, max_length=200)]
"""As the shell's for file names: `*` any text, `?` one character, `[12]` one of some."""


class Settings(Table):
    """How a step is made of the gradient g of each weight w."""

    kind: str = "sgd"
    momentum: Fraction = ABSENT
    """Of sgd, lars and rmsprop: the fraction of the old velocity that is kept."""
    nesterov: bool = ABSENT
    """Of sgd and lars: step with w -= rate (g + momentum v) instead."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1e6)] = 1e-4
    """Added to the gradient, times w, in sgd, adam, lars and rmsprop (coupled); to the step, beside
    all that the gradient has gone through, in adamw, lamb and lion (decoupled)."""
    decay_norms: bool = True
    """Whether decay reaches the scales and shifts of norms."""
    decay_biases: bool = True
    """Whether decay reaches biases."""
    no_decay: Annotated[tuple[Pattern, ...], Field(strict=False)] = ABSENT
    """Patterns of the names of weights that decay does not reach, as `fc.*` or `*.bn?.weight`."""
    beta1: Fraction = ABSENT
    """The fraction of the old mean of gradients that is kept; in lion, for the step."""
    beta2: Fraction = ABSENT
    """The fraction of the old mean of squares that is kept; in lion, of the mean of gradients."""
    epsilon: Positive = ABSENT
    """Added to the root of the mean of squares; in rmsprop below the root; in lars to the norms."""
    trust: Positive = ABSENT
    """Of lars: the factor of its trust ratio."""
    clip_norm: Positive = ABSENT
    """Shrink the gradient of all trainable tensors to this Euclidean norm where it is longer."""
    clip_value: Positive = ABSENT
    """Bring every value of the gradient to at most this size; not together with clip_norm."""
    clip_adaptive: Positive = ABSENT
    """Shrink the gradient of each unit, what leads to one output, to this many times the norm of
    its weights where it is longer; not of the classifier (Brock et al. 2021). Not together with
    clip_norm or clip_value."""

    def has(self, name: str) -> bool:
        """Whether a setting is there."""
        return getattr(self, name) is not ABSENT


ALWAYS = (
    "kind",
    "weight_decay",
    "decay_norms",
    "decay_biases",
    "no_decay",
    "clip_norm",
    "clip_value",
    "clip_adaptive",
)
"""What every kind reads."""
OWN = tuple(name for name in Settings.model_fields if name not in ALWAYS)
"""What only the kinds read whose rows name it."""
