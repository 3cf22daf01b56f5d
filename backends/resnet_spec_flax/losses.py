"""The loss of a recipe: of logits and labels, or of logits and targets for every class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from resnet_spec.losses import Loss, native_loss
from resnet_spec.recipe import Recipe

LossOf = Callable[[jax.Array, Any, Any, Any], jax.Array]
"""Takes logits [N, K], labels [N], and targets and a teacher's [N, K] where the recipe needs them.
"""

LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": optax.softmax_cross_entropy,
    "binary_cross_entropy": optax.sigmoid_binary_cross_entropy,
}
"""Each image's, or each image's and class's."""


def distilled(logits: jax.Array, hard: jax.Array, soft: jax.Array, loss: Loss) -> jax.Array:
    """Return what a teacher's targets `soft` [N, K] make of a loss `hard`; see `losses.Loss`."""
    weight, heat = loss.teacher_weight, loss.temperature
    by_teacher = optax.softmax_cross_entropy(logits / heat, soft).mean()
    return (1.0 - weight) * hard + weight * heat**2 * by_teacher


def loss_of(recipe: Recipe | None, classes: int, dtype: np.dtype) -> LossOf:
    """Return the mean loss of `recipe`; None: cross-entropy. See `resnet_spec.losses.Loss`."""
    if recipe is not None and recipe.needs_targets:
        settings, compare = recipe.loss, native_loss(recipe.loss, LOSSES, "flax")

        def of_targets(logits: jax.Array, labels: Any, targets: Any, soft: Any) -> jax.Array:
            hard = compare(logits, targets).mean()
            return hard if soft is None else distilled(logits, hard, soft, settings)

        return of_targets
    smoothing = 0.0 if recipe is None else recipe.label_smoothing

    def of_labels(logits: jax.Array, labels: Any, targets: Any, soft: Any) -> jax.Array:
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=dtype), smoothing)
        return optax.softmax_cross_entropy(logits, smooth).mean()

    return of_labels
