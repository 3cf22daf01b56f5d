"""The optimisers as cells: each takes one step in place, by the equation of the core's row.

Those with means of squares are in `adaptive`. MindSpore's nn.LARS is SGD with the rate inside the
velocity, so LARS is made of single operators here.
"""

# MindSpore's cells are untyped: `construct` takes anything and what a cell returns is not known.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from resnet_spec.optimizers import Settings


class Trained(NamedTuple):
    """What a step moves. The lists are in the order of `plan.trainable`.

    slots: by family; the number of steps is a list of one.
    decays, factors: the weight decay of each weight, and what its rate is multiplied by.
    is_guarded: whether a step may be called off, as under a loss scale.
    """

    weights: Sequence[Parameter]
    slots: Mapping[str, Sequence[Parameter]]
    decays: Sequence[float]
    factors: Sequence[float]
    is_guarded: bool


# Updates go over all tensors by HyperMap: a loop with a condition in it nests, in the compiler, as
# many calls as it has turns, and ResNet-50 exceeds its limit of 1000.


def scaled(rate: Tensor, factor: float) -> Tensor:
    """Return the rate of one weight."""
    return rate if factor == 1.0 else rate * factor


def with_decay(decay: float, weight: Parameter, gradient: Tensor) -> Tensor:
    """Return the gradient with coupled weight decay."""
    return gradient + decay * weight if decay > 0.0 else gradient


def assigned(finite: Tensor | None, parameter: Parameter, new: Any) -> Any:
    """Assign `new`, where the step is not called off (`finite` None: in any case)."""
    return ops.assign(parameter, new if finite is None else ops.select(finite, new, parameter))


def sum_of_squares(tensor: Tensor) -> Tensor:
    """Return the sum over a whole tensor, of the same bits each time.

    On a CPU MindSpore 2.10 adds up the parts of a sum to one number in the order in which its
    threads are done. To several numbers each is one thread's, and few are one part.
    """
    return ops.square(tensor).reshape(tensor.shape[0], -1).sum(1).sum()


def length_of(tensor: Tensor) -> Tensor:
    """Return the Euclidean norm of a whole tensor."""
    return ops.sqrt(sum_of_squares(tensor))


def ratio_of(above: Any, below: Any, slope: Any) -> Any:
    """Return a trust ratio, which is 1 where a length is 0."""
    is_apart = ops.logical_and(above > 0.0, slope > 0.0)
    return ops.select(is_apart, above / below, ops.ones_like(above))


class Sgd(nn.Cell):
    """Momentum by the fused operator where it can be: nn.Momentum's ignores Nesterov on a CPU.

    With decay added before it, it is faster than nn.SGD's (0.454 against 0.476 s of CPU time in a
    step of ResNet-50, 64 px, batch 8; 0.50 s in single operators), and needs no third copy of the
    weights.
    """

    def __init__(self, settings: Settings, trained: Trained) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(trained.weights)
        # A map wants something in the place of velocities where there are none.
        self.velocities = ParameterTuple(trained.slots.get("momentum", trained.weights))
        self.decays = tuple(trained.decays)
        self.factors = tuple(trained.factors)
        self.momentum = settings.momentum
        self.nesterov = settings.nesterov
        self.is_fused = self.momentum > 0 and not self.nesterov and not trained.is_guarded
        self.apply_momentum = ops.ApplyMomentum()
        self.map = ops.HyperMap()

    def construct(
        self, rate: Tensor, finite: Tensor | None, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Move every weight by its gradient; return them."""
        decayed = self.map(with_decay, self.decays, self.weights, gradients)
        if self.is_fused:
            move = ops.partial(_move_fused, self.apply_momentum, self.momentum, rate)
        else:
            move = ops.partial(move_by, self.momentum, self.nesterov, rate, finite)
        return self.map(move, self.factors, self.weights, self.velocities, decayed)


def _move_fused(
    apply: Any,
    momentum: float,
    rate: Tensor,
    factor: float,
    weight: Parameter,
    velocity: Parameter,
    g: Tensor,
) -> Any:
    return apply(weight, velocity, scaled(rate, factor), g, momentum)


def move_by(
    momentum: float,
    nesterov: bool,
    rate: Tensor,
    finite: Tensor | None,
    factor: float,
    weight: Parameter,
    velocity: Parameter,
    g: Tensor,
) -> Any:
    """Move one weight in single operators."""
    step = g
    if momentum > 0.0:
        moved = momentum * velocity + g
        step = g + momentum * moved if nesterov else moved
        assigned(finite, velocity, moved)
    return assigned(finite, weight, weight - scaled(rate, factor) * step)


class Lars(nn.Cell):
    """LARS (You et al. 2017); tensors without weight decay step as in SGD."""

    def __init__(self, settings: Settings, trained: Trained) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(trained.weights)
        self.velocities = ParameterTuple(trained.slots.get("momentum", trained.weights))
        self.decays, self.factors = tuple(trained.decays), tuple(trained.factors)
        self.momentum, self.nesterov = settings.momentum, settings.nesterov
        self.trust, self.epsilon = settings.trust, settings.epsilon
        self.map = ops.HyperMap()

    def construct(
        self, rate: Tensor, finite: Tensor | None, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Move every weight by its gradient; return them."""
        trusted = ops.partial(_trusted, self.trust, self.epsilon)
        steps = self.map(trusted, self.decays, self.weights, gradients)
        move = ops.partial(move_by, self.momentum, self.nesterov, rate, finite)
        return self.map(move, self.factors, self.weights, self.velocities, steps)


def _trusted(trust: float, epsilon: float, decay: float, weight: Parameter, g: Tensor) -> Tensor:
    if decay == 0.0:
        return g
    length, slope = length_of(weight), length_of(g)
    below = slope + decay * length + epsilon
    return (g + decay * weight) * ratio_of(trust * length, below, slope)
