"""The optimiser, given a side's own gradients: which rule leads from its weights to its weights.

The first steps of the run are looked at one by one, each from where the side really was: momentum
shows at the second step, and a schedule that is off by one where the rate changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Tensor
from resnet_spec.optimizers import Slot, clipped, row_of, slots_of
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.localise.rules import Move, Rule, rules, solved
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.report import Finding

_STEPS = 3
_LIMIT = 16.0
"""Roundings, of the largest value in the sum that makes a weight or a slot: a few operations."""


def search_update(got: Side, floors: Floors) -> Finding | None:
    """Return the first tensor and step that the recipe's rule does not explain, and which does."""
    recipe, rates = floors.expected.setup.recipe, floors.expected.setup.rates
    right = Rule.of(recipe)
    seen: list[list[Move]] = []
    for moves in _moves(got, floors.expected.setup.plan, recipe):
        seen.append(moves)
        wrong = [m for m in moves if _error(m, right, recipe, rates, got) > _LIMIT]
        if wrong:
            return _finding(got, recipe, rates, right, seen, wrong)
    return None


def _finding(
    got: Side,
    recipe: Recipe,
    rates: Array,
    right: Rule,
    seen: list[list[Move]],
    wrong: list[Move],
) -> Finding:
    first = wrong[0]
    errors = _errors(first, right, recipe, rates, got)
    error = max(errors.values())
    others = tuple(move.tensor.name for move in wrong[1:])
    moves = [move for step in seen for move in step]
    tried = [*rules(recipe, rates), *solved(recipe, rates, moves, right)]
    for cause, detail, rule in tried:
        # A rule is the explanation when it explains every tensor at every step seen so far.
        if all(_error(move, rule, recipe, rates, got) <= _LIMIT for move in moves):
            detail = f"{cause}: {detail} (step {first.step + 1})"
            return Finding(got.backend, "update", first.tensor.name, error, cause, detail, others)
    off = [f"{name} is off by {e:.3g} roundings" for name, e in errors.items() if e > _LIMIT]
    detail = f"step {first.step + 1}: {', '.join(off)}"
    return Finding(got.backend, "update", first.tensor.name, error, "", detail, others)


def _moves(got: Side, plan: Plan, recipe: Recipe) -> Iterator[list[Move]]:
    """Yield the moves of each of the first steps, from where the side is before it.

    plan: the reference's, which says at what rate a tensor should move.
    """
    session, setup, slots = got.session, got.setup, slots_of(recipe.optimizer)
    before = _wide(session.state())
    for i in range(min(_STEPS, len(setup.batches))):
        batch = setup.batches[i]
        found = session.gradients(batch)[1]
        gradients = clipped(recipe.optimizer, _wide(found), before, plan.classifier)
        session.train(iter([batch]), *setup.pace(i, i + 1))
        after = _wide(session.state())
        yield [
            _move(tensor, slots, before, gradients, after, i)._replace(
                unclipped=found[tensor.name].astype(np.float64)
            )
            for tensor in plan.tensors
            if tensor.trainable and tensor.name in gradients
        ]
        before = after


def _wide(state: State) -> State:
    return {name: array.astype(np.float64) for name, array in state.items()}


def _move(
    tensor: Tensor,
    slots: Sequence[Slot],
    before: State,
    gradients: State,
    after: State,
    step: int,
) -> Move:
    names = {slot.family: slot.name_for(tensor.name) for slot in slots}
    weight, gradient = before[tensor.name], gradients[tensor.name]
    # A side that lacks a slot starts it anew each time, as the first step does.
    own = {s.family: np.full(s.shape_for(weight.shape), s.first) for s in slots}
    own |= {family: before[name] for family, name in names.items() if name in before}
    new = {family: after[name] for family, name in names.items() if name in after}
    return Move(tensor, weight, own, gradient, after[tensor.name], new, step)


def _error(move: Move, rule: Rule, recipe: Recipe, rates: Array, got: Side) -> float:
    """Return the largest error of weight and slots, in roundings of the terms' largest value."""
    return max(_errors(move, rule, recipe, rates, got).values())


def _errors(move: Move, rule: Rule, recipe: Recipe, rates: Array, got: Side) -> dict[str, float]:
    """Return the error of the weight and of each slot, by what they are called."""
    new_weight, new_slots = rule.step(move, recipe, rates)
    unit = UNIT[got.precision]
    # A gradient that is computed twice may differ by its own rounding.
    slack = unit * (_largest(move.weight) + 64.0 * _largest(new_weight - move.weight))
    low = high = new_weight
    if row_of(recipe.optimizer).jumps:
        low, high = _reached(move, rule, recipe, rates, 64.0 * unit)
    beyond = np.maximum(move.new_weight - high, low - move.new_weight)
    errors = {"the weight": max(float(beyond.max()), 0.0) / slack}
    for family, new in move.new_slots.items():
        before, expected = move.slots[family], new_slots[family]
        slack = 64.0 * unit * max(_largest(before), _largest(expected))
        errors[family] = _largest(new - expected) / max(slack, 1e-300)
    return errors


def _reached(
    move: Move, rule: Rule, recipe: Recipe, rates: Array, roundings: float
) -> tuple[Array, Array]:
    """Return the lowest and highest weights that the rule leads to, as the gradient is rounded.

    A step that is a sign, or a gradient over its own size as Adam's first, is as long for a
    gradient of nearly 0 as for a large one: whether it goes up or down is rounding.
    """
    decayed = recipe.optimizer.weight_decay * _largest(move.weight)
    error = roundings * max(_largest(move.gradient), decayed)
    found: list[Array] = []
    for moved in (-error, 0.0, error):
        other = None if move.unclipped is None else move.unclipped + moved
        changed = move._replace(gradient=move.gradient + moved, unclipped=other)
        found.append(rule.step(changed, recipe, rates)[0])
    return np.minimum.reduce(found), np.maximum.reduce(found)


def _largest(array: Array) -> float:
    return float(np.abs(array).max())
