"""optax's transformations that compute the core's equations, and their slots by canonical name."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from resnet_spec.contract import Array, State
from resnet_spec.optimizers import Optimizer, native_of, slots_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_flax.weights import to_flax, to_state, trainable

Transformation = optax.GradientTransformation


class Native(NamedTuple):
    """One optimiser, without its last factor: the update is to be multiplied by the learning rate.

    make: takes the settings, and the transformation that adds the decayed weights.
    keys: for each family of slots, the field of optax's state.
    """

    make: Callable[[Optimizer, Transformation], Transformation]
    keys: Mapping[str, str]


def _sgd(settings: Optimizer, decay: Transformation) -> Transformation:
    if settings.momentum == 0:
        return decay
    return optax.chain(decay, optax.trace(settings.momentum, settings.nesterov))


OPTIMIZERS = {"sgd": Native(_sgd, {"momentum": "trace"})}
"""By the names of the core's rows."""


def make_optimizer(plan: Plan, recipe: Recipe) -> Transformation:
    """Return the recipe's optimiser, for dicts of trainable tensors by canonical name."""
    decayed = {t.name: recipe.decays(t) for t in trainable(plan)}
    factors = {t.name: t.rate for t in trainable(plan)}
    decay = optax.add_decayed_weights(recipe.optimizer.weight_decay, decayed)
    native = native_of(recipe.optimizer, OPTIMIZERS, "flax")
    # Last, as every rate: what the optimiser keeps knows nothing of it.
    factor = optax.stateless(lambda step, _: jax.tree.map(operator.mul, step, factors))
    return optax.chain(native.make(recipe.optimizer, decay), factor)


def optimizer_to_state(found: optax.OptState, plan: Plan, recipe: Recipe) -> State:
    """Return copies of the slots in optax's state, on the host and in canonical layout."""
    keys = native_of(recipe.optimizer, OPTIMIZERS, "flax").keys
    state: State = {}
    for slot in slots_of(recipe.optimizer):
        value: Any = optax.tree.get(found, keys[slot.family])
        if slot.per == "tensor":
            state |= to_state(trainable(plan), value, f"{slot.family}/")
        else:  # optax counts in whole numbers, a state holds floating-point ones.
            state |= dict.fromkeys(slot.shapes({"": ()}), np.array(value, np.float32))
    return state


def with_slots(
    found: optax.OptState,
    state: Mapping[str, Array],
    plan: Plan,
    recipe: Recipe,
    dtype: np.dtype,
    device: Any,
) -> optax.OptState:
    """Return optax's state with copies of the slots of `state` on the device, in Flax's layouts."""
    keys = native_of(recipe.optimizer, OPTIMIZERS, "flax").keys
    for slot in slots_of(recipe.optimizer):
        key = keys[slot.family]
        if slot.per == "tensor":
            tensors = [(t, state[slot.name_for(t.name)]) for t in trainable(plan)]
            value: Any = {t.name: to_flax(t, array, dtype) for t, array in tensors}
        else:
            before: Any = optax.tree.get(found, key)
            value = np.array(state[slot.name_for("")], before.dtype)
        found = optax.tree.set(found, **{key: jax.device_put(value, device)})
    return found
