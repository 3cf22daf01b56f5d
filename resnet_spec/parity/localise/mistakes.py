"""What implementations of an optimiser get wrong, of every kind that has the part in question.

What there is to get wrong is read off the settings and slots of the row: a kind with a velocity can
have its rate inside, one that counts steps can leave the correction out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.optimizers import Equation, Row, Settings, row_of, slots_of
from resnet_spec.parity.localise.evidence import number
from resnet_spec.parity.localise.trust import TRUST

Slots = Mapping[str, Array]
Stepped = tuple[Array, dict[str, Array]]
Mistake = tuple[str, str, Settings, Equation]


def mistakes(settings: Settings) -> Iterator[Mistake]:
    """Yield (cause, detail, settings, equation) of what else an optimiser of this kind may do."""
    row = row_of(settings)
    has = row.settings
    # First: with the ratio left out, decay is coupled or decoupled, too.
    for detail, equation in TRUST.get(settings.kind, ()):
        yield "trust ratio", detail, settings, equation
    if "nesterov" in has:
        other = "plain momentum" if settings.nesterov else "Nesterov's momentum"
        changed = settings.model_copy(update={"nesterov": not settings.nesterov})
        yield "Nesterov form", f"{other} instead", changed, row.equation
    if settings.weight_decay > 0:
        yield from _of_decay(settings, row)
    if "momentum" in _families(settings):
        yield from _of_velocity(settings, row)
    if "beta1" in has:
        yield from _of_means(settings, row)
    for detail, equation in EPSILON_ELSEWHERE.get(settings.kind, ()):
        yield "place of epsilon", detail, settings, equation
    for other in EPSILONS if "epsilon" in has else ():
        detail = f"epsilon {number(other)} instead of {number(settings.epsilon)}"
        yield "epsilon", detail, settings.model_copy(update={"epsilon": other}), row.equation


def _families(settings: Settings) -> set[str]:
    return {slot.family for slot in slots_of(settings)}


def _of_decay(settings: Settings, row: Row) -> Iterator[Mistake]:
    amount = number(settings.weight_decay)
    for detail, equation in (
        (f"w -= rate * {amount} * w beside all else", decoupled),
        (f"{amount} * w is added to the gradient", coupled),
    ):
        yield "coupled against decoupled decay", detail, settings, bound(equation, row.equation)


def _of_velocity(settings: Settings, row: Row) -> Iterator[Mistake]:
    m = settings.momentum
    inside = "learning rate inside the velocity", "v = m v + rate g; w -= v"
    yield *inside, settings, bound(rate_inside, row.equation)
    inverted = f"{number(1.0 - m)} of the old velocity instead of {number(m)}"
    changed = settings.model_copy(update={"momentum": 1.0 - m})
    yield "momentum inverted", inverted, changed, row.equation
    yield "dampening", "v = m v + (1 - m) g", settings, bound(dampened, row.equation)


def _of_means(settings: Settings, row: Row) -> Iterator[Mistake]:
    beta1, beta2 = settings.beta1, settings.beta2
    swapped = settings.model_copy(update={"beta1": beta2, "beta2": beta1})
    yield "betas exchanged", f"beta1 {number(beta2)}, beta2 {number(beta1)}", swapped, row.equation
    if "steps" in _families(settings):
        detail = "the means are not divided by 1 - beta^t"
        equation = bound(uncorrected, row.equation)
        yield "bias correction left out", detail, settings, equation


class Given(NamedTuple):
    """What an equation is given, in its order: see `optimizers.Equation`."""

    settings: Settings
    rate: float
    decay: float
    weight: Array
    gradient: Array
    slots: Slots


def bound(change: Callable[[Equation, Given], Stepped], equation: Equation) -> Equation:
    """Return one of the changes below, of `equation`."""

    def bound(
        settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
    ) -> Stepped:
        return change(equation, Given(settings, rate, decay, weight, gradient, slots))

    return bound


# --- Changes of any equation that has the part ----------------------------------------------------


def decoupled(equation: Equation, given: Given) -> Stepped:
    """Decay beside the step (Loshchilov & Hutter 2019)."""
    new, moved = equation(*given._replace(decay=0.0))
    return new - given.rate * given.decay * given.weight, moved


def coupled(equation: Equation, given: Given) -> Stepped:
    """Decay in the gradient."""
    gradient = given.gradient + given.decay * given.weight
    return equation(*given._replace(decay=0.0, gradient=gradient))


def rate_inside(equation: Equation, given: Given) -> Stepped:
    """A rate that reaches the velocity, as Keras and Caffe have it."""
    return _with_velocity(equation, given, given.rate, 1.0)


def dampened(equation: Equation, given: Given) -> Stepped:
    """A velocity that is an average."""
    return _with_velocity(equation, given, 1.0 - given.settings.momentum, given.rate)


def _with_velocity(equation: Equation, given: Given, inner: float, outer: float) -> Stepped:
    """inner, outer: the factors of what enters the velocity, and of the step."""
    settings, slots = given.settings, given.slots
    m = settings.momentum
    # What the equation adds to its velocity is its step without one.
    still = {**slots, "momentum": np.zeros_like(given.weight)}
    plain = settings.model_copy(update={"nesterov": False})
    _, moved = equation(*given._replace(settings=plain, rate=1.0, slots=still))
    added = inner * moved["momentum"]
    v = m * slots["momentum"] + added if "momentum" in slots else added
    step = added + m * v if settings.nesterov else v
    return given.weight - outer * step, {k: v if k == "momentum" else a for k, a in moved.items()}


def uncorrected(equation: Equation, given: Given) -> Stepped:
    """Means as they are, which begin at 0: as after infinitely many steps."""
    steps = given.slots["steps"]
    late = {**given.slots, "steps": np.full_like(steps, 1e12)}
    new, moved = equation(*given._replace(slots=late))
    return new, {**moved, "steps": steps + 1}


# --- Epsilon and norms in other places ------------------------------------------------------------


def _adam_step(settings: Settings, gradient: Array, slots: Slots) -> Stepped:
    """Return Adam's step with epsilon inside the root."""
    beta1, beta2, t = settings.beta1, settings.beta2, float(slots["steps"]) + 1.0
    mean = beta1 * slots["mean"] + (1.0 - beta1) * gradient
    square = beta2 * slots["square"] + (1.0 - beta2) * gradient * gradient
    root = np.sqrt(square / (1.0 - beta2**t) + settings.epsilon)
    moved = {"mean": mean, "square": square, "steps": slots["steps"] + 1}
    return mean / (1.0 - beta1**t) / root, moved


def adam_inside(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """Adam with epsilon inside the root."""
    step, moved = _adam_step(settings, gradient + decay * weight, slots)
    return weight - rate * step, moved


def adamw_inside(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """AdamW with epsilon inside the root."""
    step, moved = _adam_step(settings, gradient, slots)
    return weight - rate * (step + decay * weight), moved


def rmsprop_outside(
    settings: Settings, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """RMSProp with epsilon beside the root, as torch has it."""
    g = gradient + decay * weight
    square = settings.beta2 * slots["rms"] + (1.0 - settings.beta2) * g * g
    step = g / (np.sqrt(square) + settings.epsilon)
    moved = {"rms": square}
    if "momentum" in slots:
        step = moved["momentum"] = settings.momentum * slots["momentum"] + step
    return weight - rate * step, moved


_INSIDE = "epsilon inside the root instead of beside it"
EPSILON_ELSEWHERE: dict[str, tuple[tuple[str, Equation], ...]] = {
    "adam": ((_INSIDE, adam_inside),),
    "adamw": ((_INSIDE, adamw_inside),),
    "rmsprop": (("epsilon beside the root instead of inside it", rmsprop_outside),),
}
EPSILONS = (1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3)
"""Usual ones."""
