"""Changes to one side's setup (plan, weights, recipe, rates, images); they suit every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from cases import CASES

from resnet_spec.contract import Array
from resnet_spec.describing.spec import Spec
from resnet_spec.ops import Activation, Chain, Conv, Gate, MaxPool, Node, Norm, Op, Residual, Tensor
from resnet_spec.parity.setup import Setup
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

Change = Callable[[Setup], Setup]


# --- Changing a plan ------------------------------------------------------------------------------


Edit = Callable[[Op], Op | tuple[Op, ...] | None]


def change_ops(setup: Setup, change: Edit) -> Setup:
    """Replace every op of the plan; None takes it out, and several take its place."""
    (root,) = changed(setup.plan.root, change)
    assert isinstance(root, Chain) and root != setup.plan.root, "the fault changed nothing"
    return replace(setup, plan=replace(setup.plan, root=root))


def changed(node: Node, change: Edit) -> tuple[Node, ...]:
    def each(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(new for node in nodes for new in changed(node, change))

    match node:
        case Chain() | Gate():
            return (replace(node, children=each(node.children)),)
        case Residual():
            shortcut = None if node.shortcut is None else changed(node.shortcut, change)[0]
            parts = {part: each(getattr(node, part)) for part in ("entry", "body", "tail")}
            return (replace(node, shortcut=shortcut, **parts),)
        case _:
            new = change(node)
            if new is None:
                return ()
            return new if isinstance(new, tuple) else (new,)


def at(name: str, **changes: Any) -> Change:
    """Change fields of the op called `name`."""

    def change(op: Op) -> Op:
        return replace(op, **changes) if op.name == name else op

    return lambda setup: change_ops(setup, change)


def norms(**changes: Any) -> Change:
    """Change fields of every norm."""

    def change(op: Op) -> Op:
        return replace(op, **changes) if isinstance(op, Norm) else op

    return lambda setup: change_ops(setup, change)


def relu_after(name: str) -> Change:
    """Put a ReLU after the op called `name`."""

    def change(op: Op) -> Op | tuple[Op, ...]:
        if op.name != name:
            return op
        return op, Activation(
            f"{name}_relu", op.out_shape, op.out_shape, kind="relu", at=op.address
        )

    return lambda setup: change_ops(setup, change)


def shift_windows(setup: Setup) -> Setup:
    """Put the uneven pads of SAME on the other sides."""

    def change(op: Op) -> Op:
        if not isinstance(op, Conv | MaxPool):
            return op
        top, bottom, left, right = op.pad
        return replace(op, pad=(bottom, top, right, left))

    return change_ops(setup, change)


def without(name: str) -> Change:
    return lambda setup: change_ops(setup, lambda op: None if op.name == name else op)


def renamed(setup: Setup) -> Setup:
    def change(op: Op) -> Op:
        if not isinstance(op, Conv) or op.name != "conv1":
            return op
        return replace(op, name="conv0", weight=replace(op.weight, name="conv0.weight"))

    state = {("conv0.weight" if k == "conv1.weight" else k): v for k, v in setup.state.items()}
    return replace(change_ops(setup, change), state=state)


def lowered_from(**fields: Any) -> Callable[[Setup], Setup]:
    """Lower the case's spec with other fields."""

    def change(setup: Setup) -> Setup:
        case = CASES[setup.plan.name]
        plan = lower(Spec.from_dict(case.spec.to_dict() | fields), case.size)
        assert plan.root != setup.plan.root
        return replace(setup, plan=plan, state=fitted(setup, plan))

    return change


def fitted(setup: Setup, plan: Plan) -> dict[str, Array]:
    """Return the weights, with ones where `plan` has another shape or a new tensor."""

    def fit(tensor: Tensor) -> Array:
        array = setup.state.get(tensor.name)
        fits = array is not None and array.shape == tensor.shape
        return array if fits else np.ones(tensor.shape, np.float32)  # pyright: ignore[reportReturnType]

    return {tensor.name: fit(tensor) for tensor in plan.tensors}


# --- Changing weights, recipe and rates -----------------------------------------------------------


def weights(name: str, change: Callable[[Array], Array]) -> Change:
    def apply(setup: Setup) -> Setup:
        new = np.ascontiguousarray(change(setup.state[name]))
        assert not np.array_equal(new, setup.state[name])
        return replace(setup, state=setup.state | {name: new})

    return apply


def one_element(array: Array) -> Array:
    """Change the largest of the weights by one per mille."""
    new = array.copy()
    new.flat[np.argmax(np.abs(array))] *= np.float32(1.001)
    return new


def one_ulp(array: Array) -> Array:
    new = array.copy()
    new.flat[0] = np.nextafter(array.flat[0], np.float32(np.inf))
    return new


def one_pixel(setup: Setup) -> Setup:
    """Change one value of one image by one of 255."""
    images = setup.batches[0].images.copy()
    images.flat[0] ^= 1
    return replace(setup, batches=(replace(setup.batches[0], images=images), *setup.batches[1:]))


def recipe(**changes: Any) -> Change:
    def apply(setup: Setup) -> Setup:
        fields = setup.recipe.to_dict()
        new = {k: fields[k] | v if isinstance(v, dict) else v for k, v in changes.items()}
        assert fields | new != fields
        return replace(setup, recipe=Recipe.from_dict(fields | new))

    return apply


def one_step_late(setup: Setup) -> Setup:
    return replace(setup, rates=np.concatenate([setup.rates[:1], setup.rates[:-1]]))


def one_step_early(setup: Setup) -> Setup:
    return replace(setup, rates=np.concatenate([setup.rates[1:], setup.rates[-1:]]))


def images_not_centred(setup: Setup) -> Setup:
    image = replace(setup.plan.input, mean=(0.0,) * setup.plan.input.channels)
    return replace(setup, plan=replace(setup.plan, input=image))


def channels_reversed(setup: Setup) -> Setup:
    """Give the images in the order blue, green, red."""
    batches = tuple(replace(b, images=b.images[..., ::-1].copy()) for b in setup.batches)
    return replace(setup, batches=batches)


def images_mirrored(setup: Setup) -> Setup:
    batches = tuple(replace(b, images=b.images[:, :, ::-1].copy()) for b in setup.batches)
    return replace(setup, batches=batches)


def labels_shifted(setup: Setup) -> Setup:
    """Give every image the label of the one before it."""
    batches = tuple(replace(b, labels=np.roll(b.labels, 1)) for b in setup.batches)
    return replace(setup, batches=batches)


def without_noise(setup: Setup) -> Setup:
    batches = tuple(
        replace(b, noise={name: np.ones_like(n) for name, n in b.noise.items()})
        for b in setup.batches
    )
    return replace(setup, batches=batches)


def no_relu_in_se(op: Op) -> Op | None:
    return None if isinstance(op, Activation) and op.name.endswith("se.act") else op
