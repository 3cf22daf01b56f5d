"""The loss of a recipe: of logits and labels, or of logits and targets for every class."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from resnet_spec.losses import native_loss
from resnet_spec.recipe import Recipe

LossOf = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Takes logits [N, K], labels [N], and targets [N, K] where the recipe needs them."""

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
}


def loss_of(recipe: Recipe | None) -> LossOf:
    """Return the mean loss of `recipe`; None: cross-entropy. See `resnet_spec.losses.Loss`."""
    if recipe is None or not recipe.needs_targets:
        smoothing = 0.0 if recipe is None else recipe.label_smoothing
        return lambda logits, labels, _: F.cross_entropy(logits, labels, label_smoothing=smoothing)
    compare = native_loss(recipe.loss, LOSSES, "torch")

    def compared(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return compare(logits, targets)

    return compared
