"""The optimisers by name, and what each moves: cells of `descents` and `adaptive`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mindspore import nn

from resnet_spec.optimizers import Settings, slots_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec_mindspore.adaptive import Adam, Lion, RmsProp
from resnet_spec_mindspore.descents import Lars, Sgd, Trained
from resnet_spec_mindspore.weights import Parameters


def trained_of(
    plan: Plan, recipe: Recipe, weights: Parameters, slots: Parameters, is_guarded: bool
) -> Trained:
    """Return what a step of `recipe` moves, of a session's weights and slots by name."""
    tensors = [tensor for tensor in plan.tensors if tensor.trainable]
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    kept = {slot.family: slot.shapes(shapes) for slot in slots_of(recipe.optimizer)}
    return Trained(
        weights=[weights[name] for name in shapes],
        slots={family: [slots[name] for name in names] for family, names in kept.items()},
        decays=[recipe.decay_of(tensor) for tensor in tensors],
        factors=[tensor.rate for tensor in tensors],
        is_guarded=is_guarded,
    )


OPTIMIZERS: dict[str, Callable[[Settings, Trained], nn.Cell]] = {
    "sgd": Sgd,
    "adam": partial(Adam, form="coupled"),
    "adamw": partial(Adam, form="decoupled"),
    "lamb": partial(Adam, form="trusted"),
    "lars": Lars,
    "rmsprop": RmsProp,
    "lion": Lion,
}
"""By the names of the core's rows."""
