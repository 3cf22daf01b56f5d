"""The optimisers that keep means, as cells: Adam, AdamW, LAMB, RMSProp and Lion.

MindSpore's own nn.Adam and nn.Lamb add epsilon before the mean of squares is corrected, nn.RMSProp
begins at 0, and Lion is not there; so these are single operators.
"""

# MindSpore's cells are untyped: `construct` takes anything and what a cell returns is not known.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from typing import Any, Literal

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from resnet_spec.optimizers import Settings
from resnet_spec_mindspore.descents import (
    Trained,
    assigned,
    length_of,
    move_by,
    ratio_of,
    scaled,
    with_decay,
)

Shares = tuple[float, float]


def _shares(beta: float) -> Shares:
    """Return beta and 1 - beta: in a graph 1 - 0.999 is computed in float32, and off by 5e-5."""
    return beta, 1.0 - beta


def _mixed(shares: Shares, old: Any, new: Any) -> Any:
    return shares[0] * old + shares[1] * new


def _log(beta: float) -> float:
    """Return the logarithm; of 0 one whose every power is 0 in float32."""
    return math.log(beta) if beta > 0.0 else -1e4


class Adam(nn.Cell):
    """Adam, AdamW and LAMB."""

    def __init__(
        self,
        settings: Settings,
        trained: Trained,
        form: Literal["coupled", "decoupled", "trusted"],
    ) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(trained.weights)
        self.means = ParameterTuple(trained.slots["mean"])
        self.squares = ParameterTuple(trained.slots["square"])
        (self.steps,) = trained.slots["steps"]
        self.decays, self.factors = tuple(trained.decays), tuple(trained.factors)
        self.is_coupled, self.trusts = form == "coupled", form == "trusted"
        self.of_mean, self.of_square = _shares(settings.beta1), _shares(settings.beta2)
        self.logs = _log(settings.beta1), _log(settings.beta2)
        self.epsilon = settings.epsilon
        self.map = ops.HyperMap()

    def construct(
        self, rate: Tensor, finite: Tensor | None, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Move every weight by its gradient; return them."""
        t = self.steps + 1.0
        # 1 - beta^t, so that float32 holds it: 1 - 0.999 would be off by 5e-5 of it.
        corrections = -ops.expm1(t * self.logs[0]), -ops.expm1(t * self.logs[1])
        if self.is_coupled:
            gradients = self.map(with_decay, self.decays, self.weights, gradients)
        shares = self.of_mean, self.of_square
        step = ops.partial(_adam_step, shares, self.epsilon, finite, corrections)
        steps = self.map(step, self.means, self.squares, gradients)
        if not self.is_coupled:
            steps = self.map(ops.partial(_decayed, self.trusts), self.decays, self.weights, steps)
        move = ops.partial(_descend, rate, finite)
        moved = self.map(move, self.factors, self.weights, steps)
        return (*moved, assigned(finite, self.steps, t))


def _adam_step(
    shares: tuple[Shares, Shares],
    epsilon: float,
    finite: Tensor | None,
    corrections: tuple[Any, Any],
    mean: Parameter,
    square: Parameter,
    g: Tensor,
) -> Any:
    """Return Adam's step without the rate; move its means."""
    m = _mixed(shares[0], mean, g)
    s = _mixed(shares[1], square, g * g)
    step = m / corrections[0] / (ops.sqrt(s / corrections[1]) + epsilon)
    return ops.depend(step, (assigned(finite, mean, m), assigned(finite, square, s)))


def _decayed(trusts: bool, decay: float, weight: Parameter, step: Tensor) -> Tensor:
    """Return the step with decoupled decay; LAMB's has the length of the weight, times the rate."""
    if decay == 0.0:
        return step
    step = step + decay * weight
    if not trusts:
        return step
    length, found = length_of(weight), length_of(step)
    return step * ratio_of(length, found, found)


def _descend(
    rate: Tensor, finite: Tensor | None, factor: float, weight: Parameter, step: Tensor
) -> Any:
    return assigned(finite, weight, weight - scaled(rate, factor) * step)


class RmsProp(nn.Cell):
    """RMSProp in TensorFlow's form: epsilon below the root, and squares that begin at 1."""

    def __init__(self, settings: Settings, trained: Trained) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(trained.weights)
        self.squares = ParameterTuple(trained.slots["rms"])
        self.velocities = ParameterTuple(trained.slots.get("momentum", trained.weights))
        self.decays, self.factors = tuple(trained.decays), tuple(trained.factors)
        self.momentum, self.of_square = settings.momentum, _shares(settings.beta2)
        self.epsilon = settings.epsilon
        self.map = ops.HyperMap()

    def construct(
        self, rate: Tensor, finite: Tensor | None, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Move every weight by its gradient; return them."""
        decayed = self.map(with_decay, self.decays, self.weights, gradients)
        rooted = ops.partial(_rooted, self.of_square, self.epsilon, finite)
        steps = self.map(rooted, self.squares, decayed)
        move = ops.partial(move_by, self.momentum, False, rate, finite)
        return self.map(move, self.factors, self.weights, self.velocities, steps)


def _rooted(
    of_square: Shares, epsilon: float, finite: Tensor | None, square: Parameter, g: Tensor
) -> Any:
    """Return the gradient over its root mean square; move that mean."""
    s = _mixed(of_square, square, g * g)
    return ops.depend(g / ops.sqrt(s + epsilon), assigned(finite, square, s))


class Lion(nn.Cell):
    """Lion (Chen et al. 2023): steps of one size, and weight decay beside them."""

    def __init__(self, settings: Settings, trained: Trained) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(trained.weights)
        self.means = ParameterTuple(trained.slots["mean"])
        self.decays, self.factors = tuple(trained.decays), tuple(trained.factors)
        self.of_step, self.of_mean = _shares(settings.beta1), _shares(settings.beta2)
        self.map = ops.HyperMap()

    def construct(
        self, rate: Tensor, finite: Tensor | None, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Move every weight by its gradient; return them."""
        step = ops.partial(_lion_step, self.of_step, self.of_mean, finite)
        steps = self.map(step, self.means, gradients)
        steps = self.map(ops.partial(_decayed, False), self.decays, self.weights, steps)
        return self.map(ops.partial(_descend, rate, finite), self.factors, self.weights, steps)


def _lion_step(
    of_step: Shares, of_mean: Shares, finite: Tensor | None, mean: Parameter, g: Tensor
) -> Any:
    step = ops.sign(_mixed(of_step, mean, g))
    return ops.depend(step, assigned(finite, mean, _mixed(of_mean, mean, g)))
