"""optax's transformations that compute the core's equations, and their slots by canonical name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resnet_spec.contract import Array, State
from resnet_spec.optimizers import SHORTEST_UNIT, Settings, native_of, slots_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_flax.weights import to_flax, to_state, trainable

Transformation = optax.GradientTransformation
Decayed = Mapping[str, bool]


class Native(NamedTuple):
    """One optimiser, without its last factor: the update is to be multiplied by the learning rate.

    make: takes the settings, and by name whether a weight is decayed.
    keys: for each family of slots, the field of optax's state.
    """

    make: Callable[[Settings, Decayed], Transformation]
    keys: Mapping[str, str]


def _decay(settings: Settings, decayed: Decayed) -> Transformation:
    return optax.add_decayed_weights(settings.weight_decay, dict(decayed))


def _momentum(settings: Settings) -> Transformation:
    if settings.momentum == 0:
        return optax.identity()
    return optax.trace(settings.momentum, bool(settings.nesterov))


def _sgd(settings: Settings, decayed: Decayed) -> Transformation:
    return optax.chain(_decay(settings, decayed), _momentum(settings))


def _adam(settings: Settings, decayed: Decayed) -> Transformation:
    return optax.chain(_decay(settings, decayed), scale_by_adam(settings))


def _adamw(settings: Settings, decayed: Decayed) -> Transformation:
    return optax.chain(scale_by_adam(settings), _decay(settings, decayed))


def _lamb(settings: Settings, decayed: Decayed) -> Transformation:
    trust = optax.masked(optax.scale_by_trust_ratio(), dict(decayed))
    return optax.chain(_adamw(settings, decayed), trust)


def _lars(settings: Settings, decayed: Decayed) -> Transformation:
    return optax.chain(scale_by_lars(settings, decayed), _momentum(settings))


def _rmsprop(settings: Settings, decayed: Decayed) -> Transformation:
    scaling = optax.scale_by_rms(settings.beta2, settings.epsilon, initial_scale=1.0)
    return optax.chain(_decay(settings, decayed), scaling, _momentum(settings))


def _lion(settings: Settings, decayed: Decayed) -> Transformation:
    scaling = optax.scale_by_lion(settings.beta1, settings.beta2)
    return optax.chain(scaling, _decay(settings, decayed))


_ADAM = {"mean": "mu", "square": "nu", "steps": "count"}

OPTIMIZERS = {
    "sgd": Native(_sgd, {"momentum": "trace"}),
    "adam": Native(_adam, _ADAM),
    "adamw": Native(_adamw, _ADAM),
    "lamb": Native(_lamb, _ADAM),
    "lars": Native(_lars, {"momentum": "trace"}),
    "rmsprop": Native(_rmsprop, {"rms": "nu", "momentum": "trace"}),
    "lion": Native(_lion, {"mean": "mu"}),
}
"""By the names of the core's rows."""


def scale_by_adam(settings: Settings) -> Transformation:
    """Return `optax.scale_by_adam` with its corrections computed so that float32 holds them.

    optax takes 1 - beta2^t, which for 0.999 is off by 5e-5 of itself at the first step.
    """
    beta1, beta2 = settings.beta1, settings.beta2
    own = optax.scale_by_adam(beta1, beta2, settings.epsilon)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(updates, state.mu, beta1, 1)
        square = optax.tree.update_moment_per_elem_norm(updates, state.nu, beta2, 2)
        first, second = _correction(beta1, count), _correction(beta2, count)

        def step(m: jax.Array, s: jax.Array) -> jax.Array:
            root = jnp.sqrt(s / second.astype(s.dtype))
            return m / first.astype(m.dtype) / (root + settings.epsilon)

        return jax.tree.map(step, mean, square), optax.ScaleByAdamState(count, mean, square)

    return Transformation(own.init, update)


def _correction(beta: float, count: Any) -> jax.Array:
    """Return 1 - beta^count."""
    return -jnp.expm1(count * math.log(beta)) if beta > 0.0 else jnp.ones(())


def scale_by_lars(settings: Settings, decayed: Decayed) -> Transformation:
    """Return the trust ratio of LARS' paper, and decay: optax has |g + decay w| below the line."""
    decay = settings.weight_decay

    def scaled(g: jax.Array, w: jax.Array, is_decayed: bool) -> jax.Array:
        if not is_decayed:
            return g
        length, slope = jnp.linalg.norm(w.ravel()), jnp.linalg.norm(g.ravel())
        ratio = settings.trust * length / (slope + decay * length + settings.epsilon)
        return (g + decay * w) * jnp.where((length > 0.0) & (slope > 0.0), ratio, 1.0)

    def update(gradients: Any, weights: Any) -> Any:
        return {n: scaled(g, weights[n], decayed[n]) for n, g in gradients.items()}

    return optax.stateless(update)


def clip_by_units(bound: float, free: Collection[str]) -> Transformation:
    """Return adaptive clipping of all but `free`, as `optimizers.clipped` of the core.

    optax's own clips the classifier, too, and counts a gradient below 1e-6 for that long.
    """

    def lengths(array: jax.Array) -> jax.Array:
        # Kernels are HWIO and [in, out] here.
        axes = tuple(range(array.ndim - 1)) or None
        return jnp.sqrt(jnp.square(array).sum(axes, keepdims=True))

    def clipped(g: jax.Array, w: jax.Array) -> jax.Array:
        most, found = bound * jnp.maximum(lengths(w), SHORTEST_UNIT), lengths(g)
        is_longer = found > most
        return g * jnp.where(is_longer, most / jnp.where(is_longer, found, 1.0), 1.0)

    def update(gradients: Any, weights: Any) -> Any:
        return {n: g if n in free else clipped(g, weights[n]) for n, g in gradients.items()}

    return optax.stateless(update)


def _clip(settings: Settings, plan: Plan) -> Transformation:
    if settings.clip_adaptive is not None:
        return clip_by_units(settings.clip_adaptive, plan.classifier)
    if settings.clip_norm is not None:
        return optax.clip_by_global_norm(settings.clip_norm)
    return optax.identity() if settings.clip_value is None else optax.clip(settings.clip_value)


def make_optimizer(plan: Plan, recipe: Recipe) -> Transformation:
    """Return the recipe's optimiser, for dicts of trainable tensors by canonical name."""
    settings = recipe.optimizer
    decayed = {t.name: recipe.decays(t) for t in trainable(plan)}
    factors = {t.name: t.rate for t in trainable(plan)}
    native = native_of(settings, OPTIMIZERS, "flax")
    # Last, as every rate: what the optimiser keeps knows nothing of it.
    factor = optax.stateless(lambda step, _: jax.tree.map(operator.mul, step, factors))
    return optax.chain(_clip(settings, plan), native.make(settings, decayed), factor)


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
