"""The plan as native modules: a tree of Flax's own layers, and ours of `layers` where it has none.

The attribute path of every module is its name in the plan: `model.layer1[0].conv1.kernel`, and
("layer1", "0", "conv1", "kernel") in `nnx.state`. Images and activations are NHWC, kernels HWIO
and [in, out]. Nothing here knows of sessions: the modules work under `nnx.jit`, `nnx.grad`,
`nnx.Optimizer`, `nnx.split` and `nnx.merge` without this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from resnet_spec import ops
from resnet_spec.contract import State
from resnet_spec.ops import ActivationKind, Node
from resnet_spec.plan import Plan
from resnet_spec_flax.convolutions import convolution_of
from resnet_spec_flax.devices import cpu
from resnet_spec_flax.layers import (
    Activation,
    Add,
    AvgPool,
    BatchNorm,
    Flatten,
    GlobalPool,
    MaxPool,
    NoiseLayer,
    PadChannels,
    edges,
    relu,
    sigmoid,
)
from resnet_spec_flax.weights import load_weights

Layers = dict[str, nnx.Module]

_ACTIVATIONS: dict[ActivationKind, Callable[[jax.Array], jax.Array]] = {
    "relu": relu,
    "sigmoid": sigmoid,
}


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32 on the CPU, in training mode.

    state: canonical name -> array for every tensor of the plan; without it, Flax's own
        initialisers fill the module, from `nnx.Rngs(0)`.

    Raises CheckpointError when `state` does not fit, with every name that does not.
    """
    with jax.default_device(cpu()):
        if state is None:
            return ResNet(plan, rngs=nnx.Rngs(0))
        network = empty(plan)
        load_weights(network, plan, state)
        return network


def empty(
    plan: Plan, *, dtype: DTypeLike | None = None, param_dtype: DTypeLike = jnp.float32
) -> ResNet:
    """Return the network of `plan` with zeros in every parameter; no initialiser runs.

    dtype, param_dtype: as in `ResNet`.
    """
    network = abstract(plan, dtype=dtype, param_dtype=param_dtype)
    rngs = nnx.Rngs(0)
    for op in plan.noises:
        find(network, op.name).rngs = rngs.dropout.fork()
    leaves = nnx.to_flat_state(nnx.state(network, (nnx.Param, nnx.BatchStat)))
    arrays = {path: np.zeros(leaf.shape, leaf.dtype) for path, leaf in leaves}
    nnx.update(network, nnx.from_flat_state(jax.device_put(arrays)))
    return network


def abstract(
    plan: Plan, *, dtype: DTypeLike | None = None, param_dtype: DTypeLike = jnp.float32
) -> ResNet:
    """Return the network of `plan` with shapes and types in place of arrays.

    Traced layer by layer: `nnx.eval_shape` of a whole network takes time with its depth squared.

    dtype, param_dtype: as in `ResNet`.
    """
    zeros = nnx.initializers.zeros
    return ResNet(
        plan,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=zeros,
        rngs=nnx.Rngs(0),
        abstract=True,
    )


def find(network: nnx.Module, name: str) -> Any:
    """Return the layer called `name` in the plan."""
    found: Any = network
    for key in name.split("."):
        found = getattr(found, key)
    return found


class _Container(nnx.Module):
    """Makes a layer of a plain function that is put in the place of one.

    NNX takes what an attribute holds for data or structure by what it held first.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        was_layer = isinstance(vars(self).get(name), nnx.Module)
        is_function = callable(value) and not isinstance(value, nnx.Module)
        layer: Any = Activation(value) if was_layer and is_function else value  # pyright: ignore[reportArgumentType]
        super().__setattr__(name, layer)


class Chain(_Container):
    """Layers one after another, each an attribute under its key in the plan.

    Any of them can be replaced; one that is deleted is left out, and one that is set under a new
    name comes after the others.
    """

    def __init__(self, layers: Mapping[str, nnx.Module]) -> None:
        self._keys = _register(self, layers)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a module under a new name is run after the others."""
        super().__setattr__(name, value)
        keys = vars(self).get("_keys")
        if keys is not None and isinstance(value, nnx.Module) and name not in keys:
            self._keys = (*keys, name)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute; a layer is left out from then on."""
        super().__delattr__(name)
        self._keys = tuple(key for key in self._keys if key != name)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C'], or [N, F] after the flattening."""
        return _run(self, self._keys, x)

    def __getitem__(self, index: int) -> Any:
        """Return the layer at a place in the chain."""
        return getattr(self, self._keys[index])

    def __setitem__(self, index: int, layer: Any) -> None:
        """Put `layer` in the place of the one there."""
        setattr(self, self._keys[index], layer)

    def __delitem__(self, index: int) -> None:
        """Leave out the layer at a place in the chain."""
        delattr(self, self._keys[index])

    def __len__(self) -> int:
        return len(self._keys)


class ResNet(Chain):
    """Normalised float images [N, H, W, C] to logits [N, classes]."""

    def __init__(
        self,
        plan: Plan,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        rngs: nnx.Rngs,
        abstract: bool = False,
    ) -> None:
        """Make the layers of `plan`; scales start at one, statistics and all biases as in Flax.

        dtype: type to compute in; None follows the input and the parameters. Batch statistics are
            taken in `param_dtype` all the same.
        kernel_init: fills the weights of convolutions and of the classifier.
        rngs: streams `params` and, with noise ops in the plan, `dropout`.
        abstract: whether every layer gets shapes and types in place of arrays.
        """
        builder = _Builder(dtype, param_dtype, kernel_init, rngs, abstract)
        super().__init__(builder.layers(plan.root.children))


class Block(_Container):
    """tail(add(body(e), shortcut(e))) with e = entry(x); without a shortcut, x itself is added.

    Any layer can be replaced; one that is deleted is left out, and a `downsample` that is set
    becomes the shortcut.
    """

    is_computed_again = False
    """Whether the backward pass computes its activations once more, from x, and none is kept.

    What its layers change, they change once: the second pass has the results of the first.
    """

    def __init__(
        self, entry: Layers, body: Layers, shortcut: Layers, add: Layers, tail: Layers
    ) -> None:
        """Take the layers of each part by key; all become direct attributes."""
        self._entry = _register(self, entry)
        self._body = _register(self, body)
        _register(self, shortcut)
        self._shortcut = ("downsample",)
        (self._add,) = _register(self, add)
        self._tail = _register(self, tail)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C']."""
        return nnx.remat(Block._output)(self, x) if self.is_computed_again else self._output(x)

    def _output(self, x: jax.Array) -> jax.Array:
        entered = _run(self, self._entry, x)
        body = _run(self, self._body, entered)
        has_shortcut = any(getattr(self, key, None) is not None for key in self._shortcut)
        shortcut = _run(self, self._shortcut, entered) if has_shortcut else x
        with jax.named_scope(self._add):
            total = getattr(self, self._add)(body, shortcut)
        return _run(self, self._tail, total)


class Gate(Chain):
    """x times the output [N, 1, 1, C] of its layers (Hu et al. 2018)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        return x * super().__call__(x)


@dataclass(frozen=True)
class _Builder:
    """Makes the layers of nodes; the fields are what every layer with parameters is given."""

    dtype: DTypeLike | None
    param_dtype: DTypeLike
    kernel_init: Initializer
    rngs: nnx.Rngs
    abstract: bool

    def layers(self, nodes: Iterable[Node]) -> Layers:
        """Return the layers of consecutive nodes under their keys."""
        return {node.key: self.layer(node) for node in nodes}

    def layer(self, node: Node) -> nnx.Module:
        """Return the layer of one node."""
        match node:
            case ops.Chain():
                return Chain(self.layers(node.children))
            case ops.Gate():
                return Gate(self.layers(node.children))
            case ops.Residual():
                shortcut = () if node.shortcut is None else (node.shortcut,)
                parts = (node.entry, node.body, shortcut, (node.add,), node.tail)
                return Block(*map(self.layers, parts))
            case ops.Conv():
                return self._made(lambda: self._conv(node))
            case ops.Norm():
                return self._made(lambda: self._norm(node))
            case ops.Linear():
                return self._made(lambda: self._linear(node))
            case ops.Activation():
                return Activation(_ACTIVATIONS[node.kind])
            case ops.MaxPool():
                return MaxPool(node.kernel, node.stride, node.pad)
            case ops.AvgPool():
                return AvgPool(node.kernel, node.stride, node.pad)
            case ops.PadChannels():
                return PadChannels(node.stride, node.channels)
            case ops.Add():
                return Add()
            case ops.GlobalPool():
                return GlobalPool(node.keep_dims)
            case ops.Flatten():
                return Flatten()
            case ops.Dropout():
                return NoiseLayer(node.rate, rngs=self.rngs)
            case ops.DropPath():
                return NoiseLayer(node.rate, broadcast_dims=(1, 2, 3), rngs=self.rngs)
            case _:
                assert_never(node)

    def _conv(self, op: ops.Conv) -> nnx.Conv:
        return nnx.Conv(
            op.in_shape[0],
            op.out_shape[0],
            op.kernel,
            strides=(op.stride, op.stride),
            padding=edges(op.pad),
            kernel_dilation=(op.dilation, op.dilation),
            feature_group_count=op.groups,
            use_bias=op.bias is not None,
            kernel_init=self.kernel_init,
            conv_general_dilated=convolution_of(op),
            **self._types(),
        )

    def _linear(self, op: ops.Linear) -> nnx.Linear:
        features, classes = op.weight.shape[::-1]
        return nnx.Linear(features, classes, kernel_init=self.kernel_init, **self._types())

    def _norm(self, op: ops.Norm) -> BatchNorm:
        return BatchNorm(
            op.in_shape[0],
            unbiased=op.variance == "unbiased",
            frozen=op.frozen,
            momentum=op.decay,
            epsilon=op.eps,
            **self._types(),
        )

    def _made(self, constructor: Callable[[], nnx.Module]) -> nnx.Module:
        return nnx.eval_shape(constructor) if self.abstract else constructor()

    def _types(self) -> dict[str, Any]:
        # A trace may not draw from streams made outside.
        rngs = nnx.Rngs(0) if self.abstract else self.rngs
        return {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": rngs}


def _register(module: nnx.Module, layers: Mapping[str, nnx.Module]) -> tuple[str, ...]:
    for key, layer in layers.items():
        setattr(module, key, layer)
    return tuple(layers)


def _run(module: nnx.Module, keys: Sequence[str], x: jax.Array) -> jax.Array:
    for key in keys:
        layer = getattr(module, key, None)
        if layer is not None:
            with jax.named_scope(key):  # For whoever profiles it: XLA keeps the names.
                x = layer(x)
    return x
