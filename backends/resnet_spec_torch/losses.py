"""The loss of a recipe: of logits and labels, or of logits and targets for every class."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from resnet_spec.losses import Loss, native_loss
from resnet_spec.recipe import Recipe

LossOf = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""Takes logits [N, K], labels [N], and targets and a teacher's [N, K] where the recipe needs them.
"""

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
}


def distilled(logits: Tensor, hard: Tensor, soft: Tensor, loss: Loss) -> Tensor:
    """Return what a teacher's targets `soft` [N, K] make of a loss `hard`; see `losses.Loss`."""
    weight, heat = loss.teacher_weight, loss.temperature
    return (1.0 - weight) * hard + weight * heat**2 * F.cross_entropy(logits / heat, soft)


def loss_of(recipe: Recipe | None) -> LossOf:
    """Return the mean loss of `recipe`; None: cross-entropy. See `resnet_spec.losses.Loss`."""
    if recipe is None or not recipe.needs_targets:
        smoothing = 0.0 if recipe is None else recipe.label_smoothing
        return lambda logits, labels, *_: F.cross_entropy(logits, labels, label_smoothing=smoothing)
    settings, compare = recipe.loss, native_loss(recipe.loss, LOSSES, "torch")

    def compared(
        logits: Tensor, labels: Tensor, targets: Tensor | None, soft: Tensor | None
    ) -> Tensor:
        assert targets is not None
        hard: Tensor = compare(logits, targets)
        return hard if soft is None else distilled(logits, hard, soft, settings)

    return compared
