"""The optimiser, given a side's own gradients: which rule leads from its weights to its weights.

The first steps of the run are looked at one by one, each from where the side really was: momentum
shows at the second step, and a schedule that is off by one where the rate changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Tensor
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.localise.rules import Move, Rule, rules, solved
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.report import Finding

_STEPS = 3
_LIMIT = 16.0
"""Roundings, of the largest value in the sum that makes a weight or velocity: a few operations."""


def search_update(got: Side, floors: Floors) -> Finding | None:
    """Return the first tensor and step that the recipe's rule does not explain, and which does."""
    recipe, rates = floors.expected.setup.recipe, floors.expected.setup.rates
    right = Rule.of(recipe)
    seen: list[list[Move]] = []
    for moves in _moves(got, floors.expected.setup.plan):
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
    error = _error(first, right, recipe, rates, got)
    others = tuple(move.tensor.name for move in wrong[1:])
    moves = [move for step in seen for move in step]
    tried = [*rules(recipe, rates), *solved(recipe, rates, moves, right)]
    for cause, detail, rule in tried:
        # A rule is the explanation when it explains every tensor at every step seen so far.
        if all(_error(move, rule, recipe, rates, got) <= _LIMIT for move in moves):
            detail = f"{cause}: {detail} (step {first.step + 1})"
            return Finding(got.backend, "update", first.tensor.name, error, cause, detail, others)
    detail = f"step {first.step + 1} is off by {error:.3g} roundings"
    return Finding(got.backend, "update", first.tensor.name, error, "", detail, others)


def _moves(got: Side, plan: Plan) -> Iterator[list[Move]]:
    """Yield the moves of each of the first steps, from where the side is before it.

    plan: the reference's, which says at what rate a tensor should move.
    """
    session, setup = got.session, got.setup
    before = session.state()
    for i in range(min(_STEPS, len(setup.batches))):
        batch = setup.batches[i]
        _, gradients = session.gradients(batch)
        session.train(iter([batch]), setup.rates[i : i + 1])
        after = session.state()
        yield [
            _move(tensor, before, gradients, after, i)
            for tensor in plan.tensors
            if tensor.trainable and tensor.name in gradients
        ]
        before = after


def _move(tensor: Tensor, before: State, gradients: State, after: State, step: int) -> Move:
    name, slot = tensor.name, f"momentum/{tensor.name}"
    wide = {
        key: state[key].astype(np.float64) if key in state else None
        for state in (before,)
        for key in (name, slot)
    }
    new_velocity = after.get(slot)
    weight = wide[name]
    assert weight is not None
    return Move(
        tensor,
        weight,
        wide[slot],
        gradients[name].astype(np.float64),
        after[name].astype(np.float64),
        None if new_velocity is None else new_velocity.astype(np.float64),
        step,
    )


def _error(move: Move, rule: Rule, recipe: Recipe, rates: Array, got: Side) -> float:
    """Return the larger error of weight and velocity, in roundings of the terms' largest value."""
    velocity = np.zeros_like(move.weight) if move.velocity is None else move.velocity
    decay = recipe.optimizer.weight_decay if rule.decays(move.tensor, recipe) else 0.0
    new_weight, new_velocity = rule.step(
        move.weight, velocity, move.gradient, decay, rule.rate(rates, move.step, move.tensor)
    )
    unit = UNIT[got.precision]
    change = float(np.abs(new_weight - move.weight).max())
    # A gradient that is computed twice may differ by its own rounding.
    slack = unit * (float(np.abs(move.weight).max()) + 64.0 * change)
    errors = [float(np.abs(move.new_weight - new_weight).max()) / slack]
    if move.new_velocity is not None and move.velocity is not None:
        largest = max(float(np.abs(a).max()) for a in (velocity, move.gradient, new_velocity))
        slack = 64.0 * unit * largest
        errors.append(float(np.abs(move.new_velocity - new_velocity).max()) / max(slack, 1e-300))
    return max(errors)
