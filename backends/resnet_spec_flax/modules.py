"""The plan as native modules: Flax's own layers, and one small class per op where it has none.

The attribute path of every module is its name in the plan: `model.layer1[0].conv1.kernel`, and
("layer1", "0", "conv1", "kernel") in `nnx.state`. Images and activations are NHWC, kernels HWIO
and [in, out]. Nothing here knows of sessions: the modules work under `nnx.jit`, `nnx.grad`,
`nnx.Optimizer`, `nnx.split` and `nnx.merge` without this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from resnet_spec.contract import State
from resnet_spec.ops import (
    Dropout,
    DropPath,
    Linear,
    Node,
    Norm,
    Pad,
    Residual,
)
from resnet_spec.ops import Activation as ActivationOp
from resnet_spec.ops import Add as AddOp
from resnet_spec.ops import AvgPool as AvgPoolOp
from resnet_spec.ops import Chain as ChainOp
from resnet_spec.ops import Conv as ConvOp
from resnet_spec.ops import Flatten as FlattenOp
from resnet_spec.ops import Gate as GateOp
from resnet_spec.ops import GlobalPool as GlobalPoolOp
from resnet_spec.ops import MaxPool as MaxPoolOp
from resnet_spec.ops import PadChannels as PadChannelsOp
from resnet_spec.plan import Plan
from resnet_spec_flax.weights import load_weights

Layers = dict[str, nnx.Module]


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32 on the CPU, in training mode.

    state: canonical name -> array for every tensor of the plan; without it, Flax's own
        initialisers fill the module, from `nnx.Rngs(0)`.

    Raises CheckpointError when `state` does not fit, with every name that does not.
    """
    with jax.default_device(jax.devices("cpu")[0]):
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

    def make() -> ResNet:
        return ResNet(plan, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))

    network = nnx.eval_shape(make)
    rngs = nnx.Rngs(0)
    for op in plan.noises:
        find(network, op.name).rngs = rngs.dropout.fork()
    for _, variable in nnx.to_flat_state(nnx.state(network, (nnx.Param, nnx.BatchStat))):
        variable.set_value(jnp.zeros(variable.shape, variable.dtype))
    return network


def find(network: nnx.Module, name: str) -> Any:
    """Return the layer called `name` in the plan."""
    found: Any = network
    for key in name.split("."):
        found = getattr(found, key)
    return found


class Chain(nnx.Module):
    """Layers one after another, each an attribute under its key in the plan."""

    def __init__(self, layers: Mapping[str, nnx.Module]) -> None:
        self._keys = _register(self, layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C'], or [N, F] after the flattening."""
        return _run(self, self._keys, x)

    def __getitem__(self, index: int) -> Any:
        """Return the layer at a place in the chain."""
        return getattr(self, self._keys[index])

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
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layers of `plan`, filled by Flax's initialisers.

        dtype: type to compute in; None follows the input and the parameters. Batch statistics are
            taken in `param_dtype` all the same.
        rngs: streams `params` and, with noise ops in the plan, `dropout`.
        """
        super().__init__(_Builder(dtype, param_dtype, rngs).layers(plan.root.children))


class Block(nnx.Module):
    """tail(add(body(e), shortcut(e))) with e = entry(x); without a shortcut, x itself is added."""

    def __init__(
        self, entry: Layers, body: Layers, shortcut: Layers, add: Layers, tail: Layers
    ) -> None:
        """Take the layers of each part by key; all become direct attributes."""
        self._entry = _register(self, entry)
        self._body = _register(self, body)
        self._shortcut = _register(self, shortcut)
        (self._add,) = _register(self, add)
        self._tail = _register(self, tail)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C']."""
        entered = _run(self, self._entry, x)
        body = _run(self, self._body, entered)
        shortcut = _run(self, self._shortcut, entered) if self._shortcut else x
        return _run(self, self._tail, getattr(self, self._add)(body, shortcut))


class Gate(Chain):
    """x times the output [N, 1, 1, C] of its layers (Hu et al. 2018)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        return x * super().__call__(x)


def pointwise(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: object,
    *,
    precision: jax.lax.PrecisionLike = None,
    out_sharding: Any = None,
    **_: object,
) -> jax.Array:
    """A 1x1 convolution as a matrix product, for `nnx.Conv(conv_general_dilated=...)`.

    x: [N, H, W, I]; kernel: [1, 1, I, O]; no padding, no groups.
    """
    rows, columns = strides
    return jnp.einsum(
        "nhwi,io->nhwo",
        x[:, ::rows, ::columns],
        kernel[0, 0],
        precision=precision,
        out_sharding=out_sharding,
    )


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation with both conventions of the running variance.

    Statistics are taken in the type of the running ones, in two passes: E[x^2] - E[x]^2 cancels.
    """

    def __init__(
        self, features: int, *, unbiased: bool, param_dtype: DTypeLike, **arguments: Any
    ) -> None:
        """As `nnx.BatchNorm`.

        unbiased: whether n/(n-1) times the batch variance enters the running variance, as in
            torch; the output is normalised with the biased one in any case.
        """
        super().__init__(features, param_dtype=param_dtype, **arguments)
        # nnx.BatchNorm keeps them in float32 whatever param_dtype is.
        self.mean = nnx.BatchStat(jnp.zeros(features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(features, param_dtype))
        self.unbiased = unbiased

    def __call__(self, x: jax.Array, use_running_average: bool | None = None) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        if use_running_average is None:
            use_running_average = self.use_running_average
        mean, var = self.mean[...], self.var[...]
        exact = x.astype(mean.dtype)
        if not use_running_average:
            mean, var = self._batch_statistics(exact)
        factor = jax.lax.rsqrt(var + self.epsilon) * self.scale[...]
        y = (exact - mean) * factor + self.bias[...]
        return y.astype(self.dtype or x.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and biased variance of `x`, after they have entered the running ones."""
        mean = x.mean((0, 1, 2))
        var = jnp.square(x - mean).mean((0, 1, 2))
        n = x.size // x.shape[-1]
        kept = var * (n / (n - 1)) if self.unbiased else var
        for running, new in ((self.mean, mean), (self.var, kept)):
            old = self.momentum * running[...]
            running[...] = old + (1.0 - self.momentum) * jax.lax.stop_gradient(new)
        return mean, var


class Noise(nnx.Variable):
    """Factors handed to one pass of a `NoiseLayer`."""


class NoiseLayer(nnx.Dropout):
    """`nnx.Dropout` that multiplies by `noise` where that is set: [N, C], or [N] for whole samples.

    With `broadcast_dims` (1, 2, 3) it is stochastic depth (Huang et al. 2016).
    """

    noise: Noise | None = None

    def __call__(self, inputs: jax.Array, **arguments: Any) -> jax.Array:
        """[N, H, W, C] or [N, C] to the same shape."""
        if self.deterministic or self.noise is None:
            return super().__call__(inputs, **arguments)
        shape = (len(inputs), *(1,) * (inputs.ndim - 2), -1)
        return inputs * self.noise[...].astype(inputs.dtype).reshape(shape)


class Activation(nnx.Module):
    """An element-wise function, a module so that it can be replaced like every layer."""

    def __init__(self, function: Callable[[jax.Array], jax.Array]) -> None:
        self.function = function

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape to the same shape."""
        return self.function(x)


class Add(nnx.Module):
    """The sum of body and shortcut."""

    def __call__(self, body: jax.Array, shortcut: jax.Array) -> jax.Array:
        """Two arrays of one shape to their sum."""
        return body + shortcut


class MaxPool(nnx.Module):
    """The maximum over windows, padded with minus infinity."""

    def __init__(self, kernel: int, stride: int, pad: Pad) -> None:
        self.kernel = kernel
        self.stride = stride
        self.pad = pad

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C]."""
        sides = (self.kernel,) * 2, (self.stride,) * 2
        return nnx.max_pool(x, *sides, padding=_edges(self.pad))


class AvgPool(nnx.Module):
    """The mean over windows; padding does not count."""

    def __init__(self, kernel: int, stride: int, pad: Pad) -> None:
        self.kernel = kernel
        self.stride = stride
        self.pad = pad

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C]."""
        sides = (self.kernel,) * 2, (self.stride,) * 2
        return nnx.avg_pool(x, *sides, padding=_edges(self.pad), count_include_pad=False)


class PadChannels(nnx.Module):
    """The parameter-free shortcut A: every `stride`-th pixel, zero channels (front, back) added."""

    def __init__(self, stride: int, channels: tuple[int, int]) -> None:
        self.stride = stride
        self.channels = channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), front + C + back]."""
        picked = x[:, :: self.stride, :: self.stride]
        return jnp.pad(picked, ((0, 0), (0, 0), (0, 0), self.channels))


class GlobalPool(nnx.Module):
    """The mean over height and width."""

    def __init__(self, keep_dims: bool) -> None:
        self.keep_dims = keep_dims

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, C], or [N, 1, 1, C] with `keep_dims`."""
        return x.mean((1, 2), keepdims=self.keep_dims)


class Flatten(nnx.Module):
    """Drops height and width."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, 1, 1, C] to [N, C]."""
        return x.reshape(len(x), -1)


@dataclass(frozen=True)
class _Builder:
    """Makes the layers of nodes; the fields are what every layer with parameters is given."""

    dtype: DTypeLike | None
    param_dtype: DTypeLike
    rngs: nnx.Rngs

    def layers(self, nodes: Iterable[Node]) -> Layers:
        """Return the layers of consecutive nodes under their keys."""
        return {node.key: self.layer(node) for node in nodes}

    def layer(self, node: Node) -> nnx.Module:
        """Return the layer of one node."""
        match node:
            case ChainOp():
                return Chain(self.layers(node.children))
            case GateOp():
                return Gate(self.layers(node.children))
            case Residual():
                shortcut = () if node.shortcut is None else (node.shortcut,)
                parts = (node.entry, node.body, shortcut, (node.add,), node.tail)
                return Block(*map(self.layers, parts))
            case ConvOp():
                return self._conv(node)
            case Norm():
                return self._norm(node)
            case Linear():
                features, classes = node.weight.shape[::-1]
                return nnx.Linear(features, classes, **self._types())
            case ActivationOp():
                return Activation(nnx.relu if node.kind == "relu" else nnx.sigmoid)
            case MaxPoolOp():
                return MaxPool(node.kernel, node.stride, node.pad)
            case AvgPoolOp():
                return AvgPool(node.kernel, node.stride, node.pad)
            case PadChannelsOp():
                return PadChannels(node.stride, node.channels)
            case AddOp():
                return Add()
            case GlobalPoolOp():
                return GlobalPool(node.keep_dims)
            case FlattenOp():
                return Flatten()
            case Dropout():
                return NoiseLayer(node.rate, rngs=self.rngs)
            case DropPath():
                return NoiseLayer(node.rate, broadcast_dims=(1, 2, 3), rngs=self.rngs)

    def _conv(self, op: ConvOp) -> nnx.Conv:
        is_pointwise = op.kernel == (1, 1) and op.groups == 1 and not any(op.pad)
        return nnx.Conv(
            op.in_shape[0],
            op.out_shape[0],
            op.kernel,
            strides=(op.stride, op.stride),
            padding=_edges(op.pad),
            kernel_dilation=(op.dilation, op.dilation),
            feature_group_count=op.groups,
            use_bias=op.bias is not None,
            conv_general_dilated=pointwise if is_pointwise else jax.lax.conv_general_dilated,
            **self._types(),
        )

    def _norm(self, op: Norm) -> BatchNorm:
        return BatchNorm(
            op.in_shape[0],
            unbiased=op.variance == "unbiased",
            momentum=op.decay,
            epsilon=op.eps,
            **self._types(),
        )

    def _types(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": self.rngs}


def _register(module: nnx.Module, layers: Mapping[str, nnx.Module]) -> tuple[str, ...]:
    for key, layer in layers.items():
        setattr(module, key, layer)
    return tuple(layers)


def _run(module: nnx.Module, keys: Sequence[str], x: jax.Array) -> jax.Array:
    for key in keys:
        x = getattr(module, key)(x)
    return x


def _edges(pad: Pad) -> tuple[tuple[int, int], tuple[int, int]]:
    top, bottom, left, right = pad
    return (top, bottom), (left, right)
