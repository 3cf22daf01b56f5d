"""What training keeps beside the weights: made fresh, taken from a state, and given out as one.

Inside, optax's own state and dicts by canonical name; a state is the core's. Used by `session` and
by what it compiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE, FIRST_LOSS_SCALE, LOSS_SCALE
from resnet_spec.session_steps import kept
from resnet_spec_flax.optimizers import optimizer_to_state, with_slots
from resnet_spec_flax.weights import Weights, from_state, to_state, trainable


class Slots(NamedTuple):
    """What training keeps beside the weights."""

    optimizer: optax.OptState
    average: Weights
    """The moving average of every tensor; empty without one."""
    loss_scale: dict[str, jax.Array]
    """`scale` and `good_steps`; empty unless computing in float16."""


def has_average(recipe: Recipe | None) -> bool:
    """Whether training with `recipe` keeps a moving average."""
    return recipe is not None and recipe.ema.decay > 0


Keep = tuple[Any, Any] | None
"""How much of the average a step keeps and how much of the weights it takes; None: as always."""


def shares_of(
    recipe: Recipe,
    rates: NDArray[np.float64],
    keeps: NDArray[np.float64] | None,
    dtype: np.dtype,
) -> list[Keep]:
    """Return what each step keeps of the average and takes of the weights.

    None where that is the recipe's at every step, and compiled with it.
    """
    if keeps is None or not has_average(recipe):
        return [None] * len(rates)
    found = [(keep, 1.0 - keep) for keep in kept(recipe, rates, keeps)]
    return [(dtype.type(keep), dtype.type(take)) for keep, take in found]


def fresh_slots(
    plan: Plan,
    recipe: Recipe | None,
    optimizer: optax.GradientTransformation,
    weights: Weights,
    precision: str,
    device: Any,
) -> Slots:
    """Return the optimiser's fresh slots, an average equal to the weights, the loss scale."""
    first = FIRST_LOSS_SCALE.items() if precision == "float16" else ()
    trained = {t.name: weights[t.name] for t in trainable(plan)}
    return Slots(
        optimizer=jax.jit(optimizer.init)(trained),  # One program, and not one for each shape.
        average=jax.tree.map(jnp.copy, weights) if has_average(recipe) else {},
        loss_scale=jax.device_put({name: np.float32(value) for name, value in first}, device),
    )


def slots_from_state(
    slots: Slots,
    state: Mapping[str, Array],
    plan: Plan,
    recipe: Recipe | None,
    dtype: np.dtype,
    device: Any,
) -> Slots:
    """Return `slots` with copies of those of a whole `state` on the device, in Flax's layouts."""
    optimizer, average = slots.optimizer, slots.average
    if recipe is not None:
        optimizer = with_slots(optimizer, state, plan, recipe, dtype, device)
    if average:
        average = from_state(plan.tensors, state, dtype, f"{AVERAGE}/")
    names = slots.loss_scale
    numbers = {name: np.array(state[f"{LOSS_SCALE}/{name}"], np.float32) for name in names}
    return Slots(optimizer, *jax.device_put((average, numbers), device))


def slots_to_state(slots: Slots, plan: Plan, recipe: Recipe | None) -> State:
    """Return copies of the slots on the host, by name and in canonical layout."""
    state: State = {}
    if recipe is not None:
        state |= optimizer_to_state(slots.optimizer, plan, recipe)
    if slots.average:
        state |= to_state(plan.tensors, slots.average, f"{AVERAGE}/")
    numbers = jax.device_get(slots.loss_scale)
    names = [name for name in FIRST_LOSS_SCALE if name in numbers]  # jax sorts a dict's keys.
    return state | {f"{LOSS_SCALE}/{name}": np.array(numbers[name]) for name in names}
