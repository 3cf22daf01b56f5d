"""The rules that optimisers follow when they mean the recipe's: where implementations differ.

What may differ in any optimiser stands here; what those of its kind get wrong, in `mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Tensor
from resnet_spec.optimizers import Equation, Settings, by_units, clipped, row_of
from resnet_spec.parity.localise.evidence import median_of, number, rounded
from resnet_spec.parity.localise.mistakes import mistakes
from resnet_spec.recipe import Recipe

Named = tuple[str, str, "Rule"]


class Move(NamedTuple):
    """One tensor's step: weight, slots by family and gradient before; weight and slots after.

    gradient: as the optimiser gets it; unclipped: before it was clipped, where it is.
    """

    tensor: Tensor
    weight: Array
    slots: State
    gradient: Array
    new_weight: Array
    new_slots: State
    step: int
    unclipped: Array | None = None


@dataclass(frozen=True)
class Rule:
    """One rule of descent: an equation with its settings, and where else implementations differ.

    shift: steps by which the schedule is late (1) or early (-1). scale: factor on the rate.
    by_tensor: whether the factor of each tensor (`Tensor.rate`) is on the rate.
    decay: factor on the weight decay.
    decayed: which tensors are decayed: as the recipe says, all, none, or those it leaves out.
    clips: how gradients are clipped: as the recipe says, not at all, or each tensor by itself, with
        clip_adaptive as one unit.
    """

    settings: Settings
    equation: Equation
    shift: int = 0
    scale: float = 1.0
    by_tensor: bool = True
    decay: float = 1.0
    decayed: Literal["recipe", "all", "none", "weights", "others"] = "recipe"
    clips: Literal["recipe", "none", "each"] = "recipe"

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
        gradient = self._clipped(move)
        return self.equation(self.settings, *numbers, move.weight, gradient, move.slots)

    def _clipped(self, move: Move) -> Array:
        if move.unclipped is None or self.clips == "recipe":
            return move.gradient
        if self.clips == "none":
            return move.unclipped
        if self.settings.has("clip_adaptive"):
            bound = self.settings.clip_adaptive
            return by_units(bound, move.weight[None], move.unclipped[None])[0]
        return clipped(self.settings, {"": move.unclipped})[""]


def rules(recipe: Recipe, rates: Array) -> Iterator[Named]:
    """Yield (cause, detail, rule) for what else the optimiser may do, the likeliest first."""
    right = Rule.of(recipe)
    for cause, detail, settings, equation in mistakes(right.settings):
        yield cause, detail, replace(right, settings=settings, equation=equation)
    if recipe.optimizer.weight_decay > 0:
        for decayed, text in (
            ("none", "no tensor is decayed"),
            ("all", "every tensor is decayed, norms and biases too"),
            ("weights", "kernels alone are decayed"),
            ("others", "the tensors that should be are not, and the others are"),
        ):
            yield "decayed tensors", text, replace(right, decayed=decayed)
    if any(recipe.optimizer.has(f"clip_{how}") for how in ("norm", "value", "adaptive")):
        yield "clipping", "the gradient is not clipped", replace(right, clips="none")
        text = "each tensor's gradient is clipped by itself"
        if recipe.optimizer.has("clip_adaptive"):
            text = "each tensor is clipped as a whole, and the classifier too"
        yield "clipping", text, replace(right, clips="each")
    for text in _factors(recipe):
        yield "learning rate", f"{text} left out", replace(right, by_tensor=False)
    for shift, text in ((1, "one step late"), (-1, "one step early")):
        if len(set(rates.tolist())) > 1:
            yield "schedule off by one step", text, replace(right, shift=shift)


def _factors(recipe: Recipe) -> Iterator[str]:
    if recipe.layer_decay != 1.0:
        yield f"the factors of layer_decay {number(recipe.layer_decay)} are"
    elif recipe.head_rate != 1.0:
        yield f"the classifier's factor {number(recipe.head_rate)} is"


def solved(recipe: Recipe, rates: Array, moves: Sequence[Move], right: Rule) -> Iterator[Named]:
    """Yield rules with numbers read off the moves: other settings, another rate or decay."""
    settings = right.settings
    for name in ("momentum", "beta1", "beta2"):
        value = getattr(settings, name) or 0.0
        without = right.set(**{name: 0.0})
        factor = _factor(moves, recipe, rates, right, without) if value else np.nan
        for found in rounded(factor * value):
            if 0.0 <= found < 1.0:
                detail = f"{name} {number(found)} instead of {number(value)}"
                yield name, detail, right.set(**{name: found})
    for scale in rounded(_scale(moves, recipe, rates, right)):
        detail = f"the rate is {number(scale)} times the recipe's"
        yield "learning rate", detail, replace(right, scale=scale)
    decay = settings.weight_decay
    without = replace(right, decay=0.0)
    factor = _factor(moves, recipe, rates, right, without) if decay else np.nan
    for found in rounded(factor * decay):
        detail = f"weight decay {number(found)} instead of {number(decay)}"
        yield "weight decay", detail, replace(right, decay=found / decay)


def _factor(
    moves: Sequence[Move], recipe: Recipe, rates: Array, right: Rule, without: Rule
) -> float:
    """Return how much of a number of the rule was there, read off whatever is linear in it.

    without: the rule with 0 in its place. Of each slot and, where no slot shows it, of the weight.
    """
    for family in (*moves[-1].new_slots, ""):
        for move in reversed(moves):
            (new, slots), (zero, zero_slots) = (
                rule.step(move, recipe, rates) for rule in (right, without)
            )
            with_it, none = (slots[family], zero_slots[family]) if family else (new, zero)
            found = move.new_slots[family] if family else move.new_weight
            if with_it.ndim and np.abs(with_it - none).max() > 0.0:
                with np.errstate(all="ignore"):
                    share = (found - none) / (with_it - none)
                return median_of(_where_large(share, with_it - none))
    return np.nan


def _scale(moves: Sequence[Move], recipe: Recipe, rates: Array, right: Rule) -> float:
    move = max(moves, key=lambda m: float(np.abs(m.new_weight - m.weight).max()))
    expected, _ = right.step(move, recipe, rates)
    with np.errstate(all="ignore"):
        found = (move.new_weight - move.weight) / (expected - move.weight)
    return median_of(_where_large(found, expected - move.weight))


def _where_large(values: Array, sizes: Array) -> Array:
    return values[np.abs(sizes) >= np.median(np.abs(sizes))]
