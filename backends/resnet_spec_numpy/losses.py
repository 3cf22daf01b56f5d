"""The losses of `resnet_spec.losses.Loss`, each with its gradient by the logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array
from resnet_spec.losses import Loss, native_loss
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import Part

Compared = tuple[float, Array]
"""The loss, and its gradient by the logits [N, K]."""


def cross_entropy(logits: Array, targets: Array) -> Compared:
    """Return the mean over images of -sum t log softmax(z), and its gradient by z."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -(targets * log_probabilities).sum(1).mean()
    weights = targets.sum(1, keepdims=True)
    return float(loss), (np.exp(log_probabilities) * weights - targets) / len(logits)


def binary_cross_entropy(logits: Array, targets: Array) -> Compared:
    """Return the mean over images and classes of log(1 + exp z) - t z, and its gradient by z."""
    decay = np.exp(-np.abs(logits))
    loss = (np.maximum(logits, 0.0) + np.log1p(decay) - targets * logits).mean()
    sigmoid = np.where(logits >= 0.0, 1.0, decay) / (1.0 + decay)
    return float(loss), (sigmoid - targets) / logits.size


LOSSES: dict[str, Callable[[Array, Array], Compared]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}


def distilled(logits: Array, hard: Compared, soft: Array, loss: Loss) -> Compared:
    """Return what a teacher's targets `soft` [N, K] make of a loss `hard`, and its gradient.

    (1 - a) L + a T^2 C(z / T, q) with the cross-entropy C, whose gradient by z is a T-th of that by
    z / T (Hinton, Vinyals & Dean 2015).
    """
    weight, heat = loss.teacher_weight, loss.temperature
    value, gradient = cross_entropy(logits / heat, soft)
    return (
        (1.0 - weight) * hard[0] + weight * heat**2 * value,
        (1.0 - weight) * hard[1] + weight * heat * gradient,
    )


def smoothed_cross_entropy(
    logits: Array, labels: NDArray[np.int64], smoothing: float = 0.0
) -> Compared:
    """Return the mean cross-entropy of `logits` [N, K] and its gradient.

    The target is 1 - smoothing at the label, plus smoothing / K everywhere (Szegedy et al. 2016).
    """
    targets = np.full_like(logits, smoothing / logits.shape[1])
    targets[np.arange(len(logits)), labels] += 1.0 - smoothing
    return cross_entropy(logits, targets)


def loss_of(recipe: Recipe | None) -> Callable[[Array, Part], Compared]:
    """Return the mean loss of `recipe` and its gradient; None: cross-entropy of the labels."""
    if recipe is not None and recipe.needs_targets:
        settings, compare = recipe.loss, native_loss(recipe.loss, LOSSES, "numpy")

        def compared(logits: Array, part: Part) -> Compared:
            assert part.targets is not None
            hard: Compared = compare(logits, part.targets.astype(logits.dtype))
            if part.soft is None:
                return hard
            return distilled(logits, hard, part.soft.astype(logits.dtype), settings)

        return compared
    smoothing = 0.0 if recipe is None else recipe.label_smoothing
    return lambda logits, part: smoothed_cross_entropy(logits, part.labels, smoothing)
