"""What is done to the gradient of a whole step before any optimiser sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_spec.optimizers.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def clipped(settings: Settings, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradients by trainable name, clipped as the settings say.

    clip_norm: times min(1, clip_norm / norm), norm: of all gradients together (Pascanu et al.
    2013). torch adds 1e-6 to the norm there, which optax and this do not. clip_value: each value
    brought into -clip_value ... clip_value.
    """
    if settings.has("clip_norm"):
        norm = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
        if norm > settings.clip_norm:
            return {name: g * (settings.clip_norm / norm) for name, g in gradients.items()}
    if settings.has("clip_value"):
        bound = settings.clip_value
        return {name: np.clip(g, -bound, bound) for name, g in gradients.items()}
    return dict(gradients)
