"""Faults in native code: a layer that computes something else, or an optimiser with another rule.

A patch is given a session before its first use. torch's and Flax's layers are patched with a
function that is handed the framework's few functions, so that a fault is written down once;
MindSpore compiles source, and has its cells in patches_mindspore.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnet_spec import optimizers
from resnet_spec.contract import Batch, StepLog
from resnet_spec.optimizers import slots_of
from resnet_spec.parity.localise.rules import Move, Rule
from resnet_spec.parity.once import once
from resnet_spec.parity.setup import Setup
from resnet_spec.parity.side import Side

Patch = Callable[[str, Any], Any]
"""(backend, session) -> the session to use instead, or None for the same."""


class PatchedSide(Side):
    """A side whose session has been tampered with."""

    def __init__(self, backend: str, setup: Setup, patch: Patch, **options: Any) -> None:
        super().__init__(backend, setup, **options)
        self._patch = patch

    @once
    def _session(self) -> Any:
        session = Side._session.func(self)  # pyright: ignore[reportAttributeAccessIssue]
        return self._patch(self.backend, session) or session


@dataclass(frozen=True)
class Kit:
    """What a fault needs of a framework; arrays are NCHW, but in Flax NHWC."""

    detach: Callable[[Any], Any]
    maximum: Callable[[Any], Any]
    """max(x, 0)"""
    mean: Callable[[Any, tuple[int, ...]], Any]
    """With axes kept."""
    constant: Callable[[np.ndarray], Any]
    channel: int
    """The channels' axis of an image."""

    @property
    def space(self) -> tuple[int, int]:
        return (1, 2) if self.channel == 3 else (2, 3)

    def along(self, values: Any) -> Any:
        """Return [C] so that it is broadcast over images."""
        return values if self.channel == 3 else values.reshape(1, -1, 1, 1)


Layer = Callable[[Kit, Any, tuple[Any, ...]], Any]
"""(kit, the layer replaced, its inputs) -> output"""


def layer(name: str, fault: Layer) -> Patch:
    """Replace the layer called `name`."""

    def patch(backend: str, session: Any) -> None:
        _REPLACE[backend](session, name, fault)

    return patch


def _replace_torch(session: Any, name: str, fault: Layer) -> None:
    import torch

    kit = Kit(
        detach=lambda x: x.detach(),
        maximum=torch.relu,
        mean=lambda x, axes: x.mean(axes, keepdim=True),
        constant=torch.from_numpy,
        channel=1,
    )

    class AsItWas:
        """The layer as it was, for the fault to call: the module itself is patched."""

        def __init__(self, module: Any) -> None:
            self._module = module
            self._forward = module.forward

        def __call__(self, *inputs: Any) -> Any:
            return self._forward(*inputs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._module, name)

    for part in session.native.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False  # A fault may read an input that the next layer would overwrite.
    module = session.native.get_submodule(name)
    layer = AsItWas(module)
    module.forward = lambda *inputs: fault(kit, layer, inputs)


def _replace_flax(session: Any, name: str, fault: Layer) -> None:
    import jax

    kit = Kit(
        detach=jax.lax.stop_gradient,
        maximum=jax.nn.relu,
        mean=lambda x, axes: x.mean(axes, keepdims=True),
        constant=jax.numpy.asarray,
        channel=3,
    )

    module: Any = session.native
    for key in name.split("."):
        module = getattr(module, key)
    kind: Any = type(module)

    class AsItWas:
        """The layer as it was, for the fault to call: the module has another class now."""

        def __init__(self, module: Any) -> None:
            self._module = module

        def __call__(self, *inputs: Any) -> Any:
            return kind.__call__(self._module, *inputs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._module, name)

    class Faulty(kind):
        def __call__(self, *inputs: Any) -> Any:
            return fault(kit, AsItWas(self), inputs)

    module.__class__ = Faulty


def _replace_mindspore(session: Any, name: str, fault: Layer) -> None:
    from patches_mindspore import CELLS

    cells = dict(session.native.cells_and_names())
    shape = {op.name: op.out_shape for op in session._plan.ops}.get(name)
    parent, _, key = name.rpartition(".")
    cell = cells[parent] if parent else session.native
    cell.insert_child_to_cell(key, CELLS[fault.__name__](cells[name], shape))


_REPLACE = {"torch": _replace_torch, "flax": _replace_flax, "mindspore": _replace_mindspore}
NATIVE = frozenset(_REPLACE)
"""Backends whose native layers can be replaced."""


# --- Layers that are wrong ------------------------------------------------------------------------


def gradient_everywhere(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A ReLU that sends its gradient back where its output is zero, too."""
    (x,) = inputs
    return x + kit.detach(layer(x) - x)


def statistics_constant(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A norm with no gradient through the batch's mean and variance."""
    (x,) = inputs
    y = kit.detach(layer(x))  # Keeps the running statistics as they should be.
    is_torch = kit.channel == 1
    scale, shift = (layer.weight, layer.bias) if is_torch else (layer.scale[...], layer.bias[...])
    axes = (0, *kit.space)
    centred = x - kit.detach(kit.mean(x, axes))
    deviation = (kit.mean(kit.detach(centred * centred), axes) + _eps(layer)) ** 0.5
    free = centred / deviation * kit.along(scale) + kit.along(shift)
    return y + free - kit.detach(free)


def _eps(layer: Any) -> float:
    return layer.eps if hasattr(layer, "eps") else layer.epsilon


def shortcut_detached(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    body, shortcut = inputs
    return layer(body, kit.detach(shortcut))


def gradient_halved(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A layer that sends back half of what it should."""
    y = layer(*inputs)
    return 0.5 * y + kit.detach(0.5 * y)


def not_gated(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A gate whose factors are computed and not applied."""
    (x,) = inputs
    return x + 0.0 * layer(x)


def factors_detached(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A gate that sends nothing back to its factors."""
    (x,) = inputs
    y = layer(x)
    return x * kit.detach(y / x) + 0.0 * y


def body_alone(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A sum without its shortcut."""
    body, shortcut = inputs
    return body + 0.0 * shortcut


def leaking(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A leaky ReLU of slope 0.01."""
    (x,) = inputs
    y = layer(x)
    return y + 0.01 * (x - y)


def batch_statistics_always(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A norm that takes the batch's statistics in evaluation, too."""
    (x,) = inputs
    is_torch = kit.channel == 1
    scale, shift = (layer.weight, layer.bias) if is_torch else (layer.scale[...], layer.bias[...])
    axes = (0, *kit.space)
    centred = x - kit.mean(x, axes)
    deviation = (kit.mean(centred * centred, axes) + _eps(layer)) ** 0.5
    return centred / deviation * kit.along(scale) + kit.along(shift)


def over_width_alone(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A global pool that averages over the width, and takes the first row."""
    (x,) = inputs
    y = kit.mean(x, kit.space[1:])
    y = y[:, :1] if kit.channel == 3 else y[:, :, :1]
    return y.reshape(layer(x).shape)


def padded_with_zeros(kit: Kit, layer: Any, inputs: tuple[Any, ...]) -> Any:
    """A max-pool whose padding of zeros takes part: where a window sticks out, max(y, 0)."""
    (x,) = inputs
    y = layer(x)
    # 3x3 with stride 2, padded by 1: on maps of even size the first row and column stick out.
    edge = np.zeros([y.shape[axis] for axis in kit.space], np.float32)
    edge[0, :] = edge[:, 0] = 1.0
    return y + (kit.maximum(y) - y) * kit.constant(edge[..., None] if kit.channel == 3 else edge)


# --- Optimisers with another rule -----------------------------------------------------------------


def rule(**fields: Any) -> Patch:
    """Follow another rule of descent; the fields are those of `Rule` over the recipe's own."""

    def patch(backend: str, session: Any) -> Any:
        return _OtherRule(session, fields)

    return patch


class _OtherRule:
    """A session that takes its steps by a rule of its own, with the real session's gradients."""

    def __init__(self, session: Any, fields: dict[str, Any]) -> None:
        self._inner = session
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def train(self, batches: Iterable[Batch], rates: np.ndarray) -> StepLog:
        logs = [self._step(batch, rate) for rate, batch in zip(rates, batches, strict=False)]
        parts = {key: np.concatenate([getattr(log, key) for log in logs]) for key in _LOGGED}
        return StepLog(**parts)

    def _step(self, batch: Batch, rate: float) -> StepLog:
        inner, recipe = self._inner, self._inner._recipe
        chosen, families = replace(Rule.of(recipe), **self._fields), slots_of(recipe.optimizer)
        before = inner.state()
        _, gradients = inner.gradients(batch)
        wide = {name: array.astype(np.float64) for name, array in gradients.items()}
        fixed = before, inner._plan.classifier
        clipped = optimizers.clipped(recipe.optimizer, wide, *fixed)
        log = inner.train(iter([batch]), np.array([rate]))
        after = inner.state()  # Of which the statistics are kept.
        for tensor in inner._plan.tensors:
            if tensor.trainable:
                w, g = (a[tensor.name].astype(np.float64) for a in (before, gradients))
                names = {slot.family: slot.name_for(tensor.name) for slot in families}
                own = {family: before[name].astype(np.float64) for family, name in names.items()}
                move = Move(tensor, w, own, clipped[tensor.name], w, {}, 0, g)
                new, slots = chosen.step(move, recipe, np.array([rate]))
                after[tensor.name] = new.astype(after[tensor.name].dtype)
                for family, name in names.items():
                    after[name] = slots[family].astype(after[name].dtype)
        inner.load(after)
        return log


_LOGGED = ("loss", "correct", "count")
