"""What is done to the gradient of a whole step before any optimiser sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_spec.errors import BackendError, problem
from resnet_spec.optimizers.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SHORTEST_UNIT = 1e-3
"""The length that `clip_adaptive` takes for a shorter unit: zeros could never become anything."""


def clipped(
    settings: Settings,
    gradients: Mapping[str, Array],
    weights: Mapping[str, Array] | None = None,
    classifier: Collection[str] = (),
) -> dict[str, Array]:
    """Return the gradients by trainable name, clipped as the settings say.

    clip_norm: times min(1, clip_norm / norm), norm: of all gradients together (Pascanu et al.
    2013). torch adds 1e-6 to the norm there, which optax and this do not. clip_value: each value
    brought into -clip_value ... clip_value. clip_adaptive: the gradient of each unit times
    min(1, clip_adaptive max(|w|, 0.001) / |g|) (Brock et al. 2021), |.|: the norm of the unit, what
    leads to one output of a convolution or a linear layer, and the whole of a bias or of a norm's
    scale or shift; but for the classifier's.

    weights: by the same names, in canonical layout, before the step. classifier: names that
    clip_adaptive leaves alone, `plan.classifier`. Raises BackendError where clip_adaptive is asked
    of who gives no weights.
    """
    if settings.has("clip_norm"):
        norm = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
        if norm > settings.clip_norm:
            return {name: g * (settings.clip_norm / norm) for name, g in gradients.items()}
    if settings.has("clip_value"):
        bound = settings.clip_value
        return {name: np.clip(g, -bound, bound) for name, g in gradients.items()}
    if settings.has("clip_adaptive"):
        bound = settings.clip_adaptive
        if weights is None:
            rule = "this backend clips without weights"
            raise BackendError(problem("optimizer.clip_adaptive", bound, rule, "leave it out"))
        return {
            name: g if name in classifier else by_units(bound, weights[name], g)
            for name, g in gradients.items()
        }
    return dict(gradients)


def by_units(bound: float, weight: Array, gradient: Array) -> Array:
    """Return a gradient whose units are at most `bound` times as long as those of the weight."""
    most = bound * np.maximum(_lengths(weight), SHORTEST_UNIT)
    found = _lengths(gradient)
    is_longer = found > most
    return gradient * np.where(is_longer, most / np.where(is_longer, found, 1.0), 1.0)


def _lengths(array: Array) -> Array:
    """Return the norm of each unit: [out, 1, ...] of [out, ...], and [1] of [n]."""
    axes = tuple(range(1, array.ndim)) or None
    return np.sqrt(np.square(array).sum(axes, keepdims=True))
