"""LAMB and LARS with their trust ratio over other norms, or elsewhere: what implementations do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.optimizers import Equation, Settings
from resnet_spec.optimizers.equations import adamw, norm_of, sgd

Slots = Mapping[str, Array]
Stepped = tuple[Array, dict[str, Array]]
Ratio = Callable[[Settings, float, Array, Array, Array], tuple[float, float]]
"""(settings, decay, weight, gradient, Adam's step) to what is above and below the line."""


def _lamb(ratio_of: Ratio, *, everywhere: bool = False) -> Equation:
    """Return LAMB with another ratio. everywhere: also of tensors without weight decay."""

    def equation(
        settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
    ) -> Stepped:
        back, moved = adamw(settings, 1.0, 0.0, np.zeros_like(weight), gradient, slots)
        step = decay * weight - back
        factor = 1.0
        if decay or everywhere:
            factor = _quotient(*ratio_of(settings, decay, weight, gradient, -back))
        return weight - rate * factor * step, moved

    return equation


def _lars(ratio_of: Ratio, *, everywhere: bool = False) -> Equation:
    """Return LARS with another ratio. everywhere: also of tensors without weight decay."""

    def equation(
        settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
    ) -> Stepped:
        factor = 1.0
        if decay or everywhere:
            factor = _quotient(*ratio_of(settings, decay, weight, gradient, gradient))
        return sgd(settings, rate, 0.0, weight, factor * (gradient + decay * weight), slots)

    return equation


def _quotient(above: float, below: float) -> float:
    return above / below if above > 0.0 and below > 0.0 else 1.0


def _of_steps(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    return norm_of(w), norm_of(step + decay * w)


def _of_bare_steps(
    s: Settings, decay: float, w: Array, g: Array, step: Array
) -> tuple[float, float]:
    return norm_of(w), norm_of(step)


def _of_gradients(
    s: Settings, decay: float, w: Array, g: Array, step: Array
) -> tuple[float, float]:
    return norm_of(w), norm_of(g)


def _of_largest(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    return float(np.abs(w).max()), float(np.abs(step + decay * w).max())


def _of_nothing(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    return 1.0, 1.0


def _lars_paper(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    length = norm_of(w)
    return s.trust * length, norm_of(g) + decay * length + s.epsilon


def _lars_optax(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    return s.trust * norm_of(w), norm_of(g + decay * w) + s.epsilon


def _lars_bare(s: Settings, decay: float, w: Array, g: Array, step: Array) -> tuple[float, float]:
    return s.trust * norm_of(w), norm_of(g) + s.epsilon


TRUST: dict[str, tuple[tuple[str, Equation], ...]] = {
    "lamb": (
        ("|w| over the step without decay", _lamb(_of_bare_steps)),
        ("|w| over the gradient", _lamb(_of_gradients)),
        ("largest values instead of Euclidean norms", _lamb(_of_largest)),
        ("left out", _lamb(_of_nothing)),
        ("also of tensors without weight decay", _lamb(_of_steps, everywhere=True)),
    ),
    "lars": (
        ("|w| over |g + decay w|, as optax has it", _lars(_lars_optax)),
        ("|w| over |g|, without the decay", _lars(_lars_bare)),
        ("left out", _lars(_of_nothing)),
        ("also of tensors without weight decay", _lars(_lars_paper, everywhere=True)),
    ),
}
"""By the names of the rows: (detail, equation)."""
