"""The rules that optimisers follow when they mean SGD with momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.ops import Tensor
from resnet_spec.parity.localise.evidence import median_of, number, rounded
from resnet_spec.recipe import Recipe

Named = tuple[str, str, "Rule"]


class Move(NamedTuple):
    """One tensor's step: weight, velocity and gradient before, weight and velocity after."""

    tensor: Tensor
    weight: Array
    velocity: Array | None
    gradient: Array
    new_weight: Array
    new_velocity: Array | None
    step: int


@dataclass(frozen=True)
class Rule:
    """One rule of descent; the fields are where implementations differ.

    shift: steps by which the schedule is late (1) or early (-1). scale: factor on the rate.
    by_tensor: whether the factor of each tensor (`Tensor.rate`) is on the rate.
    decayed: which tensors are decayed: as the recipe says, all, none, or those it leaves out.
    """

    momentum: float
    nesterov: bool
    decoupled: bool = False
    rate_inside: bool = False
    dampened: bool = False
    shift: int = 0
    scale: float = 1.0
    by_tensor: bool = True
    decay: float = 1.0
    decayed: Literal["recipe", "all", "none", "weights", "others"] = "recipe"

    @classmethod
    def of(cls, recipe: Recipe) -> Rule:
        """Return the contract's rule for `recipe`."""
        return cls(recipe.optimizer.momentum, recipe.optimizer.nesterov)

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

    def step(self, w: Array, v: Array, g: Array, decay: float, rate: float) -> tuple[Array, Array]:
        """Return weight and velocity after a step."""
        decay *= self.decay
        if not self.decoupled:
            g = g + decay * w
        taken = (1.0 - self.momentum) * g if self.dampened else g
        if self.rate_inside:
            taken = rate * taken
        velocity = self.momentum * v + taken
        move = taken + self.momentum * velocity if self.nesterov else velocity
        new = w - (move if self.rate_inside else rate * move)
        return (new - rate * decay * w if self.decoupled else new), velocity


def rules(recipe: Recipe, rates: Array) -> Iterator[Named]:
    """Yield (cause, detail, rule) for what else the optimiser may do, the likeliest first."""
    right = Rule.of(recipe)
    m, decay = right.momentum, recipe.optimizer.weight_decay
    other = "plain momentum" if right.nesterov else "Nesterov's momentum"
    yield "Nesterov form", f"{other} instead", replace(right, nesterov=not right.nesterov)
    inside = replace(right, rate_inside=True)
    yield "learning rate inside the velocity", "v = m v + rate g; w -= v", inside
    if decay > 0:
        text = f"w -= rate * {number(decay)} * w beside the momentum"
        yield "coupled against decoupled decay", text, replace(right, decoupled=True)
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
    inverted = f"{number(1.0 - m)} of the old velocity instead of {number(m)}"
    yield "momentum inverted", inverted, replace(right, momentum=1.0 - m)
    yield "dampening", "v = m v + (1 - m) g", replace(right, dampened=True)
    for shift, text in ((1, "one step late"), (-1, "one step early")):
        if len(set(rates.tolist())) > 1:
            yield "schedule off by one step", text, replace(right, shift=shift)


def solved(recipe: Recipe, rates: Array, moves: Sequence[Move], right: Rule) -> Iterator[Named]:
    """Yield rules with numbers read off the moves: another rate, decay or momentum."""
    for momentum in rounded(_momentum(moves, recipe)):
        detail = f"momentum {number(momentum)} instead of {number(right.momentum)}"
        yield "momentum", detail, replace(right, momentum=momentum)
    for scale in rounded(_scale(moves, recipe, rates, right)):
        detail = f"the rate is {number(scale)} times the recipe's"
        yield "learning rate", detail, replace(right, scale=scale)
    decay = recipe.optimizer.weight_decay
    for factor in rounded(_decay(moves, recipe)):
        detail = f"weight decay {number(factor * decay)} instead of {number(decay)}"
        yield "weight decay", detail, replace(right, decay=factor)


def _momentum(moves: Sequence[Move], recipe: Recipe) -> float:
    """Solve v' = m v + g + decay w for m, at the last step."""
    last = [m for m in moves if m.step == moves[-1].step]
    for move in last:
        if move.velocity is not None and move.new_velocity is not None and move.velocity.any():
            decay = recipe.optimizer.weight_decay if recipe.decays(move.tensor) else 0.0
            with np.errstate(all="ignore"):
                found = (move.new_velocity - move.gradient - decay * move.weight) / move.velocity
            return median_of(_where_large(found, move.velocity))
    return np.nan


def _scale(moves: Sequence[Move], recipe: Recipe, rates: Array, right: Rule) -> float:
    move = max(moves, key=lambda m: float(np.abs(m.new_weight - m.weight).max()))
    decay = recipe.optimizer.weight_decay if recipe.decays(move.tensor) else 0.0
    velocity = np.zeros_like(move.weight) if move.velocity is None else move.velocity
    rate = right.rate(rates, move.step, move.tensor)
    expected, _ = right.step(move.weight, velocity, move.gradient, decay, rate)
    with np.errstate(all="ignore"):
        found = (move.new_weight - move.weight) / (expected - move.weight)
    return median_of(_where_large(found, expected - move.weight))


def _decay(moves: Sequence[Move], recipe: Recipe) -> float:
    """Solve v' = m v + g + f decay w for f."""
    decay = recipe.optimizer.weight_decay
    for move in moves:
        if decay > 0 and recipe.decays(move.tensor) and move.new_velocity is not None:
            velocity = np.zeros_like(move.weight) if move.velocity is None else move.velocity
            rest = move.new_velocity - recipe.optimizer.momentum * velocity - move.gradient
            with np.errstate(all="ignore"):
                return median_of(_where_large(rest / (decay * move.weight), move.weight))
    return np.nan


def _where_large(values: Array, sizes: Array) -> Array:
    return values[np.abs(sizes) >= np.median(np.abs(sizes))]
