"""torch's optimisers that compute the core's equations, and their slots by canonical name.

Its own where they compute the very equation, else those of `descents`.
"""

# torch's own optimisers are made of the kernels over lists, which it does not export.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from resnet_spec.contract import Array, Precision, State
from resnet_spec.optimizers import Optimizer as Settings
from resnet_spec.optimizers import Slot, native_of, slots_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import FIRST_LOSS_SCALE, GROWTH_STEPS, LOSS_SCALE
from resnet_spec_torch.descents import Lamb, Lars, Lion, RmsProp, clip_units, lengths_of
from resnet_spec_torch.in_memory_order import Adam, AdamW, Sgd
from resnet_spec_torch.weights import Tensors, is_sharded, part_of

Groups = list[dict[str, Any]]


class Native(NamedTuple):
    """One of torch's optimisers.

    make: takes groups that have their weight decay, the settings, and whether to be fused; raises
        RuntimeError where it cannot be. Its learning rate is set at every step.
    keys: for each family of slots, the key in torch's own state of a parameter.
    """

    make: Callable[[Groups, Settings, bool], Optimizer]
    keys: Mapping[str, str]


def _sgd(groups: Groups, settings: Settings, fused: bool) -> Optimizer:
    momentum, nesterov = settings.momentum, settings.nesterov
    return Sgd(groups, 1.0, momentum, nesterov=nesterov, fused=fused)


def _adam(groups: Groups, settings: Settings, fused: bool) -> Optimizer:
    betas = settings.beta1, settings.beta2
    return Adam(groups, 1.0, betas, settings.epsilon, fused=fused)


def _adamw(groups: Groups, settings: Settings, fused: bool) -> Optimizer:
    betas = settings.beta1, settings.beta2
    return AdamW(groups, 1.0, betas, settings.epsilon, fused=fused)


_ADAM = {"mean": "exp_avg", "square": "exp_avg_sq", "steps": "step"}
_OWN = {"mean": "mean", "square": "square", "steps": "steps", "rms": "rms", "momentum": "momentum"}

OPTIMIZERS = {
    "sgd": Native(_sgd, {"momentum": "momentum_buffer"}),
    "adam": Native(_adam, _ADAM),
    "adamw": Native(_adamw, _ADAM),
    # torch has no LAMB, LARS or Lion; its RMSprop begins at 0 and has epsilon outside the root.
    "lamb": Native(Lamb, _OWN),
    "lars": Native(Lars, _OWN),
    "rmsprop": Native(RmsProp, _OWN),
    "lion": Native(Lion, _OWN),
}
"""By the names of the core's rows."""


def make_optimizer(weights: Tensors, plan: Plan, recipe: Recipe) -> Optimizer:
    """Return the recipe's optimiser with fresh slots: a group for each decay and rate factor.

    A group's `lr` is to be the step's rate times its `rate_factor`; `clips_units` says whether
    adaptive clipping reaches it.

    Fused where the device can: one kernel for all tensors and, under a GradScaler, no wait for
    "found inf". On a CPU a step of ResNet-20 takes 0.44 ms fused and 0.75 ms otherwise. Sharded
    tensors have no such kernel (torch 2.13).
    """
    trainable = [tensor for tensor in plan.tensors if tensor.trainable]
    settings = recipe.optimizer
    free = plan.classifier if settings.clip_adaptive is not None else ()
    alike: dict[tuple[float, float, bool], list[Tensor]] = {}
    for tensor in trainable:
        kind = recipe.decay_of(tensor), tensor.rate, tensor.name not in free
        alike.setdefault(kind, []).append(weights[tensor.name])
    groups: Groups = [
        {"params": tensors, "weight_decay": decay, "rate_factor": factor, "clips_units": clips}
        for (decay, factor, clips), tensors in alike.items()
    ]
    native = native_of(settings, OPTIMIZERS, "torch")
    try:
        optimizer = native.make(groups, settings, not any(map(is_sharded, weights.values())))
    except RuntimeError:
        optimizer = native.make(groups, settings, False)
    for tensor in trainable:
        weight = weights[tensor.name]
        optimizer.state[weight] = {
            native.keys[slot.family]: _fresh(slot, weight, is_fused(optimizer))
            for slot in slots_of(settings)
        }
    return optimizer


def _fresh(slot: Slot, weight: Tensor, fused: bool) -> Tensor:
    """Return the first value of a slot, in the memory format of its weight."""
    if slot.per == "tensor":
        return torch.full_like(weight, slot.first, requires_grad=False)
    # torch counts steps on the host, unless one kernel moves everything.
    return torch.full((), slot.first, device=weight.device if fused else "cpu")


def is_fused(optimizer: Optimizer) -> bool:
    """Whether one kernel takes the step of all tensors."""
    return bool(optimizer.defaults.get("fused"))


def describe_optimizer(optimizer: Optimizer | None, recipe: Recipe | None) -> str:
    """Return the kind of optimiser, and whether it is fused; `none` without a recipe."""
    if optimizer is None or recipe is None:
        return "none"
    return f"{recipe.optimizer.kind}{', fused' if is_fused(optimizer) else ''}"


def clip(settings: Settings, optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Clip the gradients of a whole step in place, as `optimizers.clipped` of the core.

    torch's own clipping by norm would add 1e-6 to it.
    """
    if (settings.clip_value, settings.clip_norm, settings.clip_adaptive) == (None, None, None):
        return
    scaler.unscale_(optimizer)
    if settings.clip_adaptive is not None:
        for group in optimizer.param_groups:
            graded = [w for w in group["params"] if group["clips_units"] and w.grad is not None]
            clip_units(settings.clip_adaptive, graded)
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = [part_of(weight.grad) for weight in weights if weight.grad is not None]
    if settings.clip_value is not None:
        torch._foreach_clamp_min_(gradients, -settings.clip_value)
        torch._foreach_clamp_max_(gradients, settings.clip_value)
    if settings.clip_norm is not None:
        norm = torch.linalg.vector_norm(lengths_of(gradients, weights[0]))
        torch._foreach_mul_(gradients, (settings.clip_norm / norm).clamp(max=1.0))


def move_average(average: Tensors, weights: Tensors, plan: Plan, keep: float) -> None:
    """Move the moving average of every tensor that is not frozen, in place."""
    names = [tensor.name for tensor in plan.tensors if not tensor.frozen]
    move = get_ema_multi_avg_fn(keep)
    # Part by part: `_foreach_lerp_` takes no lists of sharded and plain tensors.
    move([part_of(average[k]) for k in names], [part_of(weights[k]) for k in names], 0)


def live_slots(
    optimizer: Optimizer, weights: Tensors, plan: Plan, recipe: Recipe
) -> dict[str, list[Tensor]]:
    """Return the live slots by name; of the number of steps there is one for each tensor."""
    keys = native_of(recipe.optimizer, OPTIMIZERS, "torch").keys
    found: dict[str, list[Tensor]] = {}
    for slot in slots_of(recipe.optimizer):
        for name in plan.trainable:
            tensor = optimizer.state[weights[name]][keys[slot.family]]
            found.setdefault(slot.name_for(name), []).append(tensor)
    return found


def followed(
    optimizer: Optimizer, before: Tensors, weights: Tensors, plan: Plan, recipe: Recipe
) -> Optimizer:
    """Return the optimiser for the tensors that the module has now; slots stay with names.

    before: the tensors that `optimizer` has. A slot takes the memory format of its tensor: the
    fused kernel reads both in one order, whatever theirs is.
    """
    kept = {name: dict(optimizer.state[before[name]]) for name in plan.trainable}
    if any(before[name] is not weights[name] for name in kept):
        optimizer = make_optimizer(weights, plan, recipe)
    for name, slots in kept.items():
        state, like = optimizer.state[weights[name]], weights[name].detach()
        for key, slot in slots.items():
            state[key] = _placed(slot, like) if slot.shape == like.shape else slot
    return optimizer


def _placed(slot: Tensor, like: Tensor) -> Tensor:
    """Return a slot in the memory format, in the type and on the device of its tensor."""
    if slot.stride() != like.stride() or slot.dtype != like.dtype:
        slot = torch.empty_like(like).copy_(slot)
    return slot.to(like.device)


def make_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Return the dynamic loss scaling of float16; switched off for every other precision."""
    return torch.amp.GradScaler(
        device.type,
        init_scale=FIRST_LOSS_SCALE["scale"],
        growth_interval=GROWTH_STEPS,
        enabled=precision == "float16",
    )


def loss_scale_of(scaler: torch.amp.GradScaler) -> State:
    """Return the two numbers of dynamic loss scaling; {} where it is off."""
    if not scaler.is_enabled():
        return {}
    state = scaler.state_dict()
    numbers = {"scale": state["scale"], "good_steps": state["_growth_tracker"]}
    return {f"{LOSS_SCALE}/{name}": np.array(n, np.float32) for name, n in numbers.items()}


def load_loss_scale(scaler: torch.amp.GradScaler, state: Mapping[str, Array]) -> None:
    """Take over the two numbers of a whole state, where there is loss scaling."""
    if scaler.is_enabled():
        scale, steps = (float(state[f"{LOSS_SCALE}/{name}"]) for name in ("scale", "good_steps"))
        kept = scaler.state_dict()
        scaler.load_state_dict({**kept, "scale": scale, "_growth_tracker": int(steps)})
