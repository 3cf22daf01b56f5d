"""The loss of a recipe, as a cell: of logits and labels, or of logits and targets.

MindSpore's own losses with targets for every class are not used: `ops.cross_entropy` with them and
`ops.binary_cross_entropy_with_logits`, which wants two tensors of weights, are composed of more ops
than the equations here.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from mindspore import Tensor, nn, ops

from resnet_spec.losses import Loss, native_loss
from resnet_spec.recipe import Recipe


class OfLabels(nn.Cell):
    """The mean smoothed cross-entropy."""

    def __init__(self, smoothing: float) -> None:
        super().__init__(auto_prefix=False)
        self.smoothing = smoothing

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Take logits [N, K] and labels int32 [N]."""
        return ops.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class CrossEntropy(nn.Cell):
    """The mean over images of -sum t log softmax(z)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Take logits and targets [N, K]."""
        # On a CPU the gradient of `ops.log_softmax` is off by three times as many roundings.
        shifted = logits - ops.stop_gradient(logits.max(1, keepdims=True))
        normaliser = ops.log(ops.exp(shifted).sum(1))
        return (targets.sum(1) * normaliser - (targets * shifted).sum(1)).mean()


class BinaryCrossEntropy(nn.Cell):
    """The mean over images and classes of -(t log s + (1 - t) log(1 - s)), s = sigmoid(z)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Take logits and targets [N, K]."""
        # log(1 + e^z) - t z, with nothing that overflows.
        losses = ops.relu(logits) + ops.log1p(ops.exp(-ops.abs(logits))) - targets * logits
        return losses.mean(1).mean()  # By rows: see `sum_of_squares` on sums to one number.


LOSSES = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}


class Distilled(nn.Cell):
    """A loss with what a teacher's targets make of it."""

    def __init__(self, hard: nn.Cell, loss: Loss) -> None:
        super().__init__(auto_prefix=False)
        self.hard: Any = hard
        self.cross_entropy: Any = CrossEntropy()
        self.weight, self.heat = loss.teacher_weight, loss.temperature

    def construct(self, logits: Tensor, targets: Tensor, soft: Tensor) -> Tensor:
        """Take logits, targets and the teacher's targets [N, K]."""
        by_teacher = self.cross_entropy(logits / self.heat, soft)
        hard = self.hard(logits, targets)
        return (1.0 - self.weight) * hard + self.weight * self.heat**2 * by_teacher


def shares_in(recipe: Recipe | None) -> int:
    """Return how many arrays [N, K] the loss takes: targets, and a teacher's; 0: labels alone."""
    if recipe is None or not recipe.needs_targets:
        return 0
    return 1 if recipe.loss.teacher is None else 2


def loss_of(recipe: Recipe | None) -> nn.Cell:
    """Return the mean loss of `recipe`; None: cross-entropy. See `resnet_spec.losses.Loss`.

    It takes logits and as many arrays as `shares_in` says, or logits and labels.
    """
    if recipe is not None and recipe.needs_targets:
        hard = native_loss(recipe.loss, LOSSES, "mindspore")()
        return hard if recipe.loss.teacher is None else Distilled(hard, recipe.loss)
    return OfLabels(0.0 if recipe is None else recipe.label_smoothing)
