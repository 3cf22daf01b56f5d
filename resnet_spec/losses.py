"""Losses as data: what a person sets, and the targets that logits are compared with.

A loss is settled here but for one function of logits and targets. Which share of which class an
image is (its label, or two where images are mixed), smoothing, the threshold and class weights are
all in the targets, made on the host; backends import `Loss` and have one function for each kind,
and one more for what a teacher adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from resnet_spec.describing.descriptions import Fraction, Table
from resnet_spec.errors import BackendError, did_you_mean, problem

Kind = Literal["cross_entropy", "binary_cross_entropy"]
Native = TypeVar("Native")
OWN = ("threshold", "class_weights")
"""Settings that only some kinds read."""
Weight = Annotated[float, Field(ge=0.0, le=1e6)]
"""Of a class. What is far above 1 is a rate that is too high, and overflows in float32."""
OF_TEACHERS = ("teacher_weight", "temperature", "teacher_digest")
"""Settings that are read where there is a teacher."""


class Loss(Table):
    """What training minimises; of logits z [N, K] and targets t [N, K]."""

    kind: Kind = "cross_entropy"
    """`cross_entropy`: the mean over images of -sum t log softmax(z). `binary_cross_entropy`: the
    mean over images and classes of -(t log s + (1 - t) log(1 - s)), s = sigmoid(z); each class by
    itself (Wightman et al. 2021)."""
    threshold: Fraction | None = None
    """Of binary_cross_entropy: targets above it, smoothed and mixed, become 1, and all others 0."""
    class_weights: Annotated[tuple[Weight, ...], Field(strict=False)] = ()
    """Of cross_entropy: a factor on each class's targets, in the order of the classes. The mean is
    over the images, not over their weights. Empty: all are 1."""
    teacher: Annotated[str, Field(min_length=1)] | None = None
    """Weights to learn from: a file, a run, or a name of published ones. With a =
    `teacher_weight` and T = `temperature` the loss is (1 - a) times the one above, and a T^2 times
    the mean over images of -sum q log softmax(z / T), q = softmax(the teacher's logits / T)
    (Hinton, Vinyals & Dean 2015). The teacher's logits are of the very images, mixed and all."""
    teacher_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """a: how much of the loss is the teacher's; a run with a teacher needs more than 0."""
    temperature: Annotated[float, Field(ge=0.01, le=1000.0)] = 1.0
    """T: above 1 it shows more of what the teacher makes of classes that it does not choose."""
    teacher_digest: Annotated[str, Field(pattern="^xxh3-128:[0-9a-f]{32}$")] | None = None
    """Of the teacher's weights. A run fills it in as it begins, and goes on with no others."""

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule between fields that is broken."""
        if self.threshold is not None and self.kind != "binary_cross_entropy":
            rule = f"{self.kind} has no threshold; remove it, or set loss.kind"
            yield problem("loss.threshold", self.threshold, rule)
        if self.class_weights and self.kind != "cross_entropy":
            rule = f"{self.kind} has no class weights; remove them"
            yield problem("loss.class_weights", list(self.class_weights), rule)
        if self.class_weights and not any(self.class_weights):
            rule = "must not all be 0: nothing would be learnt"
            yield problem("loss.class_weights", list(self.class_weights), rule)
        for name in OF_TEACHERS if self.teacher is None else ():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                rule = "there is no teacher"
                yield problem(f"loss.{name}", value, rule, "give loss.teacher, too")

    def problem_with(self, classes: int, smoothing: float = 0.0) -> str | None:
        """Return what is wrong with this loss for a network of so many classes.

        smoothing: the recipe's `label_smoothing`.
        """
        given = len(self.class_weights)
        if given not in (0, classes):
            rule = f"must be {classes}, one for each class"
            return problem("loss.class_weights", f"{given} numbers", rule)
        if self.threshold is None:
            return None
        others = smoothing / classes
        if classes > 1 and others > self.threshold:
            rule = f"every target would be 1, for all are {others:.3g} or more by label_smoothing"
            return problem("loss.threshold", self.threshold, rule, "raise it")
        own = (1.0 - smoothing) + others
        if own <= self.threshold:
            rule = f"no target would be 1, for all are {own:.3g} or less by label_smoothing"
            return problem("loss.threshold", self.threshold, rule, "lower it")
        return None


def targets_of(loss: Loss, smoothing: float, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the targets [N, K] of images of which `shares` [N, K] are of each class.

    smoothing: e, as (1 - e) shares + e / K. Szegedy et al. 2016; with mixed images the order of
    mixing and smoothing does not matter.
    """
    targets = (1.0 - smoothing) * shares + smoothing / shares.shape[1]
    if loss.threshold is not None:
        return (targets > loss.threshold).astype(np.float64)
    if loss.class_weights:
        return targets * np.array(loss.class_weights)
    return targets


def soft_targets(loss: Loss, logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return a teacher's probabilities [N, K] at the temperature, of its logits [N, K]."""
    heated = logits.astype(np.float64) / loss.temperature
    powers = np.exp(heated - heated.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def native_loss(loss: Loss, natives: Mapping[str, Callable[..., Native]], backend: str) -> Any:
    """Return a backend's function for the kind of `loss`. Raises BackendError where it has none."""
    if loss.kind not in natives:
        hint = did_you_mean(loss.kind, natives)
        raise BackendError(problem("loss.kind", loss.kind, f"is not one of {backend}'s", hint))
    return natives[loss.kind]
