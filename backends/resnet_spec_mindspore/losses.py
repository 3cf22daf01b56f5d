"""The loss of a recipe, as a cell: of logits and labels, or of logits and targets.

MindSpore's own losses with targets for every class are not used: `ops.cross_entropy` with them and
`ops.binary_cross_entropy_with_logits`, which wants two tensors of weights, are composed of more ops
than the equations here.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from mindspore import Tensor, nn, ops

from resnet_spec.losses import native_loss
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
        return -(targets * ops.log_softmax(logits, 1)).sum(1).mean()


class BinaryCrossEntropy(nn.Cell):
    """The mean over images and classes of -(t log s + (1 - t) log(1 - s)), s = sigmoid(z)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Take logits and targets [N, K]."""
        # log(1 + e^z) - t z, with nothing that overflows.
        return (ops.relu(logits) + ops.log1p(ops.exp(-ops.abs(logits))) - targets * logits).mean()


LOSSES = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}


def loss_of(recipe: Recipe | None) -> nn.Cell:
    """Return the mean loss of `recipe`; None: cross-entropy. See `resnet_spec.losses.Loss`.

    It takes logits and targets where the recipe needs them, otherwise logits and labels.
    """
    if recipe is not None and recipe.needs_targets:
        return native_loss(recipe.loss, LOSSES, "mindspore")()
    return OfLabels(0.0 if recipe is None else recipe.label_smoothing)
