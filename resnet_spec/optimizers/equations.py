"""The equations of the rows: one tensor's step in NumPy, the meaning of each optimiser.

In each, g is the gradient, w the weight, and the rate is the last factor: what is kept from step to
step knows nothing of it, so that a schedule may jump. TensorFlow and optax.lars have it inside the
velocity; at a constant rate both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_spec.optimizers.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Slots = Mapping[str, Array]
    Stepped = tuple[Array, dict[str, Array]]


def sgd(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """Stochastic gradient descent, momentum as torch has it (Sutskever et al. 2013, rate apart).

    g += decay w; v = momentum v + g; w -= rate v, or rate (g + momentum v).
    """
    g = gradient + decay * weight if decay else gradient
    step, moved = _with_momentum(settings, g, slots)
    return weight - rate * step, moved


def _with_momentum(settings: Settings, g: Array, slots: Slots) -> tuple[Array, dict[str, Array]]:
    """Return the step of a gradient, and the velocity where there is one."""
    if "momentum" not in slots:
        return g, {}
    v = settings.momentum * slots["momentum"] + g
    return (g + settings.momentum * v if settings.nesterov else v), {"momentum": v}


def adam(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """Adam (Kingma & Ba 2015), whose weight decay goes through both means, as torch has it.

    g += decay w; m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2;
    w -= rate (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + epsilon).
    """
    g = gradient + decay * weight if decay else gradient
    step, moved = _adam_step(settings, g, slots)
    return weight - rate * step, moved


def adamw(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), times the rate, as torch's.

    w -= rate (Adam's step of g + decay w).
    """
    step, moved = _adam_step(settings, gradient, slots)
    return weight - rate * (step + decay * weight), moved


def _adam_step(settings: Settings, g: Array, slots: Slots) -> tuple[Array, dict[str, Array]]:
    """Return Adam's step without the rate, and what it keeps."""
    beta1, beta2 = settings.beta1, settings.beta2
    mean = beta1 * slots["mean"] + (1.0 - beta1) * g
    square = beta2 * slots["square"] + (1.0 - beta2) * g * g
    # The corrections in float64: in float32 1 - 0.999 is off by 5e-5 of it.
    t = float(slots["steps"]) + 1.0
    root = np.sqrt(square / (1.0 - beta2**t))
    step = mean / (1.0 - beta1**t) / (root + settings.epsilon)
    return step, {"mean": mean, "square": square, "steps": slots["steps"] + 1}


def lamb(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """LAMB (You et al. 2020) with bias correction, as in timm and optax.

    u = Adam's step of g + decay w; w -= rate (|w| / |u|) u. A tensor without weight decay, as norms
    and biases in the authors' code and in timm, has no trust ratio: there w -= rate u. Nor has one
    where either norm is 0. optax.lamb adapts those, too.
    """
    step, moved = _adam_step(settings, gradient, slots)
    step = step + decay * weight
    if decay:
        step = step * _ratio(norm_of(weight), norm_of(step))
    return weight - rate * step, moved


def lars(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """LARS (You et al. 2017), as in timm; tensors without weight decay step as in SGD.

    g = trust |w| / (|g| + decay |w| + epsilon) (g + decay w); v = momentum v + g; w -= rate v.
    optax.lars has |g + decay w| in the place of the sum of norms. Where |w| or |g| is 0, the factor
    is 1.
    """
    g = gradient
    if decay:
        length, slope = norm_of(weight), norm_of(g)
        below = slope + decay * length + settings.epsilon
        g = (g + decay * weight) * _ratio(settings.trust * length, below, slope)
    step, moved = _with_momentum(settings, g, slots)
    return weight - rate * step, moved


def _ratio(above: float, below: float, slope: float = 1.0) -> float:
    """Return a trust ratio, which is 1 where a length is 0."""
    return above / below if above > 0.0 and below > 0.0 and slope > 0.0 else 1.0


def rmsprop(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """RMSProp in TensorFlow's form (Tieleman & Hinton 2012; timm's RMSpropTF, rate apart).

    g += decay w; s = beta2 s + (1 - beta2) g^2, from 1 on; v = momentum v + g / sqrt(s + epsilon);
    w -= rate v.
    """
    g = gradient + decay * weight if decay else gradient
    square = settings.beta2 * slots["rms"] + (1.0 - settings.beta2) * g * g
    step = g / np.sqrt(square + settings.epsilon)
    moved = {"rms": square}
    if "momentum" in slots:
        step = moved["momentum"] = settings.momentum * slots["momentum"] + step
    return weight - rate * step, moved


def lion(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """Lion (Chen et al. 2023): the sign of a mean, and weight decay beside it.

    w -= rate (sign(beta1 m + (1 - beta1) g) + decay w); m = beta2 m + (1 - beta2) g.
    """
    mean = slots["mean"]
    step = np.sign(settings.beta1 * mean + (1.0 - settings.beta1) * gradient)
    moved = settings.beta2 * mean + (1.0 - settings.beta2) * gradient
    return weight - rate * (step + decay * weight), {"mean": moved}


def norm_of(array: Array) -> float:
    """Return the Euclidean norm of a tensor."""
    return float(np.sqrt(np.square(array).sum()))
