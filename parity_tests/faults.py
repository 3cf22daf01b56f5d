"""Faults to plant in one side's setup, and the level that must catch each.

A fault changes the plan, the weights, the recipe or the rates that one side is given, so it works
for every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cases import CASES

from resnet_spec.contract import Array
from resnet_spec.lowering import lower
from resnet_spec.ops import Activation, Chain, Conv, Gate, MaxPool, Node, Norm, Op, Residual, Tensor
from resnet_spec.parity.setup import Setup
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.spec import Spec

Change = Callable[[Setup], Setup]


@dataclass(frozen=True)
class Fault:
    """A change to the setup of `case`, which `level` must show."""

    level: str
    case: str
    change: Change


# --- Changing a plan ------------------------------------------------------------------------------


def change_ops(setup: Setup, change: Callable[[Op], Op | None]) -> Setup:
    """Replace every op of the plan; None takes it out."""
    (root,) = _changed(setup.plan.root, change)
    assert isinstance(root, Chain) and root != setup.plan.root, "the fault changed nothing"
    return replace(setup, plan=replace(setup.plan, root=root))


def _changed(node: Node, change: Callable[[Op], Op | None]) -> tuple[Node, ...]:
    def each(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(new for node in nodes for new in _changed(node, change))

    match node:
        case Chain() | Gate():
            return (replace(node, children=each(node.children)),)
        case Residual():
            shortcut = None if node.shortcut is None else _changed(node.shortcut, change)[0]
            parts = {part: each(getattr(node, part)) for part in ("entry", "body", "tail")}
            return (replace(node, shortcut=shortcut, **parts),)
        case _:
            new = change(node)
            return () if new is None else (new,)


def _at(name: str, **changes: Any) -> Change:
    """Change fields of the op called `name`."""

    def change(op: Op) -> Op:
        return replace(op, **changes) if op.name == name else op

    return lambda setup: change_ops(setup, change)


def _norms(**changes: Any) -> Change:
    return lambda s: change_ops(s, lambda op: replace(op, **changes) if _is(op, Norm) else op)


def _is(op: Op, kind: type[Op]) -> bool:
    return isinstance(op, kind)


def _shift_windows(setup: Setup) -> Setup:
    """Put the uneven pads of SAME on the other sides."""

    def change(op: Op) -> Op:
        if not isinstance(op, Conv | MaxPool):
            return op
        top, bottom, left, right = op.pad
        return replace(op, pad=(bottom, top, right, left))

    return change_ops(setup, change)


def _without(name: str) -> Change:
    return lambda setup: change_ops(setup, lambda op: None if op.name == name else op)


def _renamed(setup: Setup) -> Setup:
    def change(op: Op) -> Op:
        if not isinstance(op, Conv) or op.name != "conv1":
            return op
        return replace(op, name="conv0", weight=replace(op.weight, name="conv0.weight"))

    state = {("conv0.weight" if k == "conv1.weight" else k): v for k, v in setup.state.items()}
    return replace(change_ops(setup, change), state=state)


def _lowered_from(**fields: Any) -> Callable[[Setup], Setup]:
    """Lower the case's spec with other fields."""

    def change(setup: Setup) -> Setup:
        case = CASES[setup.plan.name]
        plan = lower(Spec.from_dict(case.spec.to_dict() | fields), case.size)
        assert plan.root != setup.plan.root
        return replace(setup, plan=plan, state=_fitted(setup, plan))

    return change


def _fitted(setup: Setup, plan: Plan) -> dict[str, Array]:
    """Return the weights, with ones where `plan` has another shape or a new tensor."""

    def fit(tensor: Tensor) -> Array:
        array = setup.state.get(tensor.name)
        fits = array is not None and array.shape == tensor.shape
        return array if fits else np.ones(tensor.shape, np.float32)  # pyright: ignore[reportReturnType]

    return {tensor.name: fit(tensor) for tensor in plan.tensors}


# --- Changing weights, recipe and rates -----------------------------------------------------------


def _weights(name: str, change: Callable[[Array], Array]) -> Change:
    def apply(setup: Setup) -> Setup:
        new = np.ascontiguousarray(change(setup.state[name]))
        assert not np.array_equal(new, setup.state[name])
        return replace(setup, state=setup.state | {name: new})

    return apply


def _one_element(array: Array) -> Array:
    """Change the largest of the weights by one per mille."""
    changed = array.copy()
    changed.flat[np.argmax(np.abs(array))] *= np.float32(1.001)
    return changed


def _one_ulp(array: Array) -> Array:
    changed = array.copy()
    changed.flat[0] = np.nextafter(array.flat[0], np.float32(np.inf))
    return changed


def _one_pixel(setup: Setup) -> Setup:
    """Change one value of one image by one of 255."""
    images = setup.batches[0].images.copy()
    images.flat[0] ^= 1
    return replace(setup, batches=(replace(setup.batches[0], images=images), *setup.batches[1:]))


def _recipe(**changes: Any) -> Change:
    def apply(setup: Setup) -> Setup:
        fields = setup.recipe.to_dict()
        changed = {k: fields[k] | v if isinstance(v, dict) else v for k, v in changes.items()}
        assert fields | changed != fields
        return replace(setup, recipe=Recipe.from_dict(fields | changed))

    return apply


def _one_step_late(setup: Setup) -> Setup:
    return replace(setup, rates=np.concatenate([setup.rates[:1], setup.rates[:-1]]))


def _without_noise(setup: Setup) -> Setup:
    batches = tuple(
        replace(b, noise={name: np.ones_like(n) for name, n in b.noise.items()})
        for b in setup.batches
    )
    return replace(setup, batches=batches)


def _no_relu_in_se(op: Op) -> Op | None:
    return None if isinstance(op, Activation) and op.name.endswith("se.act") else op


FAULTS: dict[str, Fault] = {
    "renamed_tensor": Fault("names", "bottleneck", _renamed),
    "expansion": Fault("shapes", "projection_all", _lowered_from(expansion=3)),
    "missing_block": Fault(
        "counts",
        "imagenet_stem",
        _lowered_from(stages=[{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]),
    ),
    "nudged_start": Fault("init", "plain", _weights("conv1.weight", _one_ulp)),
    "perturbed_input": Fault("activations", "plain", _one_pixel),
    "perturbed_weight": Fault("logits", "bottleneck", _weights("conv1.weight", _one_element)),
    "flipped_pad": Fault("logits", "same_padding", _shift_windows),
    "explicit_for_same": Fault("logits", "same_padding", _lowered_from(padding="explicit")),
    "transposed_kernel": Fault(
        "logits", "plain", _weights("layer1.0.conv1.weight", lambda w: w.transpose(0, 1, 3, 2))
    ),
    "swapped_groups": Fault(
        "logits", "groups", _weights("layer1.0.conv2.weight", lambda w: np.roll(w, 4, axis=0))
    ),
    "eps": Fault("logits", "bottleneck", _norms(eps=1e-5)),
    "missing_relu": Fault("logits", "plain", _without("layer1.0.act1")),
    "missing_relu_in_se": Fault(
        "logits", "zero_init", lambda setup: change_ops(setup, _no_relu_in_se)
    ),
    "stride_on_the_wrong_conv": Fault(
        "logits", "stride_on_1x1", _lowered_from(stride_position="3x3")
    ),
    "zero_channels_at_the_end": Fault("logits", "zero_pad_both", _lowered_from(zero_pad_at="end")),
    "input_not_normalised": Fault(
        "logits",
        "imagenet_stem",
        lambda s: replace(s, plan=replace(s.plan, input=replace(s.plan.input, mean=(0.0,) * 3))),
    ),
    "missing_relu_in_training": Fault("train_logits", "noise", _without("layer2.0.act2")),
    "noise_left_out": Fault("train_logits", "noise", _without_noise),
    "eps_in_training": Fault("train_logits", "groups", _norms(eps=1e-3)),
    "no_smoothing": Fault("gradients", "plain", _recipe(label_smoothing=0.0)),
    "perturbed_scale": Fault(
        "gradients",
        "pre_activation_everything",
        _weights("stages.1.blocks.0.norm1.weight", _one_element),
    ),
    "biased_variance": Fault("statistics", "plain", _norms(variance="biased")),
    "unbiased_variance": Fault("statistics", "stride_on_1x1", _norms(variance="unbiased")),
    "inverted_decay": Fault("statistics", "plain", _norms(decay=0.1)),
    "decay_of_one_norm": Fault("statistics", "bottleneck", _at("layer2.0.bn3", decay=0.9)),
    "decay_on_norms": Fault("update", "plain", _recipe(optimizer={"decay_norms": True})),
    "no_decay_on_biases": Fault("update", "plain", _recipe(optimizer={"decay_biases": False})),
    "nesterov_for_a_step": Fault("update", "plain", _recipe(optimizer={"nesterov": True})),
    "smoothing_in_the_velocity": Fault("update", "plain", _recipe(label_smoothing=0.0)),
    "decay_on_norms_in_the_velocity": Fault(
        "update", "plain", _recipe(optimizer={"decay_norms": True})
    ),
    "rate": Fault("update", "plain", lambda s: replace(s, rates=s.rates * 1.01)),
    "nesterov": Fault("trajectory", "plain", _recipe(optimizer={"nesterov": True})),
    "momentum": Fault("trajectory", "plain", _recipe(optimizer={"momentum": 0.89})),
    "decay": Fault("trajectory", "plain", _recipe(optimizer={"weight_decay": 0.01})),
    "norms_decayed_in_a_run": Fault(
        "trajectory", "plain", _recipe(optimizer={"decay_norms": True})
    ),
    "rate_off_by_one_step": Fault("trajectory", "plain", _one_step_late),
    "statistics_of_one_step": Fault("statistics", "noise", _without_noise),
}
