"""The rules that optimisers follow when they mean the recipe's: where implementations differ.

What may differ in any optimiser stands here for all of them; what only SGD can get wrong, apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Tensor
from resnet_spec.optimizers import Equation, Optimizer, row_of
from resnet_spec.parity.localise.evidence import median_of, number, rounded
from resnet_spec.recipe import Recipe

Named = tuple[str, str, "Rule"]


class Move(NamedTuple):
    """One tensor's step: weight, slots by family and gradient before; weight and slots after."""

    tensor: Tensor
    weight: Array
    slots: State
    gradient: Array
    new_weight: Array
    new_slots: State
    step: int


@dataclass(frozen=True)
class Rule:
    """One rule of descent: an equation with its settings, and where else implementations differ.

    shift: steps by which the schedule is late (1) or early (-1). scale: factor on the rate.
    by_tensor: whether the factor of each tensor (`Tensor.rate`) is on the rate.
    decay: factor on the weight decay.
    decayed: which tensors are decayed: as the recipe says, all, none, or those it leaves out.
    """

    settings: Optimizer
    equation: Equation
    shift: int = 0
    scale: float = 1.0
    by_tensor: bool = True
    decay: float = 1.0
    decayed: Literal["recipe", "all", "none", "weights", "others"] = "recipe"

    @classmethod
    def of(cls, recipe: Recipe) -> Rule:
        """Return the rule of the optimiser of `recipe`."""
        return cls(recipe.optimizer, row_of(recipe.optimizer).equation)

    def set(self, **settings: Any) -> Rule:
        """Return the rule with other settings."""
        return replace(self, settings=self.settings.model_copy(update=settings))

    def decays(self, tensor: Tensor, recipe: Recipe) -> bool:
        """Return whether the rule decays `tensor`."""
        match self.decayed:
            case "all":
                return True
            case "none":
                return False
            case "weights":
                return tensor.role in ("conv_weight", "linear_weight")
            case "others":
                return not recipe.decays(tensor)
            case "recipe":
                return recipe.decays(tensor)

    def rate(self, rates: Array, step: int, tensor: Tensor) -> float:
        """Return the rate that the rule takes for `tensor` at `step`."""
        factor = self.scale * (tensor.rate if self.by_tensor else 1.0)
        return factor * float(rates[min(max(step - self.shift, 0), len(rates) - 1)])

    def step(self, move: Move, recipe: Recipe, rates: Array) -> tuple[Array, State]:
        """Return the weight and the slots by family that the rule leads to."""
        decay = recipe.optimizer.weight_decay if self.decays(move.tensor, recipe) else 0.0
        numbers = self.rate(rates, move.step, move.tensor), self.decay * decay
        return self.equation(self.settings, *numbers, move.weight, move.gradient, move.slots)


def rules(recipe: Recipe, rates: Array) -> Iterator[Named]:
    """Yield (cause, detail, rule) for what else the optimiser may do, the likeliest first."""
    right = Rule.of(recipe)
    if recipe.optimizer.kind == "sgd":
        yield from _rules_of_sgd(right)
    if recipe.optimizer.weight_decay > 0:
        for decayed, text in (
            ("none", "no tensor is decayed"),
            ("all", "every tensor is decayed, norms and biases too"),
            ("weights", "kernels alone are decayed"),
            ("others", "the tensors that should be are not, and the others are"),
        ):
            yield "decayed tensors", text, replace(right, decayed=decayed)
    if recipe.head_rate != 1.0:
        text = f"the classifier's factor {number(recipe.head_rate)} is left out"
        yield "learning rate", text, replace(right, by_tensor=False)
    for shift, text in ((1, "one step late"), (-1, "one step early")):
        if len(set(rates.tolist())) > 1:
            yield "schedule off by one step", text, replace(right, shift=shift)


def _rules_of_sgd(right: Rule) -> Iterator[Named]:
    settings = right.settings
    m, decay = settings.momentum, settings.weight_decay
    other = "plain momentum" if settings.nesterov else "Nesterov's momentum"
    yield "Nesterov form", f"{other} instead", right.set(nesterov=not settings.nesterov)
    inside = replace(right, equation=rate_inside)
    yield "learning rate inside the velocity", "v = m v + rate g; w -= v", inside
    if decay > 0:
        text = f"w -= rate * {number(decay)} * w beside the momentum"
        yield "coupled against decoupled decay", text, replace(right, equation=decoupled)
    inverted = f"{number(1.0 - m)} of the old velocity instead of {number(m)}"
    yield "momentum inverted", inverted, right.set(momentum=1.0 - m)
    yield "dampening", "v = m v + (1 - m) g", replace(right, equation=dampened)


Slots = Mapping[str, Array]
Stepped = tuple[Array, dict[str, Array]]


def rate_inside(
    settings: Optimizer, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """SGD whose rate reaches the velocity, as Keras and Caffe have it."""
    m, scaled = settings.momentum, rate * (gradient + decay * weight)
    moved = {family: m * v + scaled for family, v in slots.items()}
    v = next(iter(moved.values()), scaled)
    return weight - (scaled + m * v if settings.nesterov else v), moved


def decoupled(
    settings: Optimizer, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """SGD whose decay stands beside the velocity (Loshchilov & Hutter 2019)."""
    sgd = row_of(settings).equation
    new, moved = sgd(settings, rate, 0.0, weight, gradient, slots)
    return new - rate * decay * weight, moved


def dampened(
    settings: Optimizer, rate: float, decay: float, weight: Array, gradient: Array, slots: Slots
) -> Stepped:
    """SGD whose velocity is an average of gradients."""
    m = settings.momentum
    taken = (1.0 - m) * (gradient + decay * weight)
    moved = {family: m * v + taken for family, v in slots.items()}
    v = next(iter(moved.values()), taken)
    return weight - rate * (taken + m * v if settings.nesterov else v), moved


def solved(recipe: Recipe, rates: Array, moves: Sequence[Move], right: Rule) -> Iterator[Named]:
    """Yield rules with numbers read off the moves: another rate, decay or momentum."""
    is_sgd = recipe.optimizer.kind == "sgd"
    for momentum in rounded(_momentum(moves, recipe)) if is_sgd else ():
        detail = f"momentum {number(momentum)} instead of {number(right.settings.momentum)}"
        yield "momentum", detail, right.set(momentum=momentum)
    for scale in rounded(_scale(moves, recipe, rates, right)):
        detail = f"the rate is {number(scale)} times the recipe's"
        yield "learning rate", detail, replace(right, scale=scale)
    decay = recipe.optimizer.weight_decay
    for factor in rounded(_decay(moves, recipe)) if is_sgd else ():
        detail = f"weight decay {number(factor * decay)} instead of {number(decay)}"
        yield "weight decay", detail, replace(right, decay=factor)


def _momentum(moves: Sequence[Move], recipe: Recipe) -> float:
    """Solve v' = m v + g + decay w for m, at the last step."""
    for move in (m for m in moves if m.step == moves[-1].step):
        for before, after in _velocities(move):
            if before.any():
                known = move.gradient + recipe.decay_of(move.tensor) * move.weight
                with np.errstate(all="ignore"):
                    return median_of(_where_large((after - known) / before, before))
    return np.nan


def _velocities(move: Move) -> list[tuple[Array, Array]]:
    """Return the velocity before and after the step; nothing where there is none."""
    return [(v, move.new_slots[f]) for f, v in move.slots.items() if f in move.new_slots]


def _scale(moves: Sequence[Move], recipe: Recipe, rates: Array, right: Rule) -> float:
    move = max(moves, key=lambda m: float(np.abs(m.new_weight - m.weight).max()))
    expected, _ = right.step(move, recipe, rates)
    with np.errstate(all="ignore"):
        found = (move.new_weight - move.weight) / (expected - move.weight)
    return median_of(_where_large(found, expected - move.weight))


def _decay(moves: Sequence[Move], recipe: Recipe) -> float:
    """Solve v' = m v + g + f decay w for f."""
    for move in moves:
        decay = recipe.decay_of(move.tensor)
        for before, after in _velocities(move) if decay > 0 else ():
            rest = after - recipe.optimizer.momentum * before - move.gradient
            with np.errstate(all="ignore"):
                return median_of(_where_large(rest / (decay * move.weight), move.weight))
    return np.nan


def _where_large(values: Array, sizes: Array) -> Array:
    return values[np.abs(sizes) >= np.median(np.abs(sizes))]
