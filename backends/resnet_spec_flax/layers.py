"""Layers that Flax lacks or has with another convention, NHWC throughout; and its hooks.

Every one is an `nnx.Module`, so that it can be replaced, observed and set to a mode like the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from resnet_spec.ops import Pad
from resnet_spec_flax.pools import max_pool


def edges(pad: Pad) -> Any:
    """Return ((top, bottom), (left, right)); Flax takes it, but annotates str in its pools."""
    top, bottom, left, right = pad
    return (top, bottom), (left, right)


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation with both conventions of the running variance.

    Statistics are taken in the type of the running ones, in two passes: E[x^2] - E[x]^2 cancels.
    """

    def __init__(
        self,
        features: int,
        *,
        unbiased: bool,
        frozen: bool = False,
        param_dtype: DTypeLike,
        **arguments: Any,
    ) -> None:
        """As `nnx.BatchNorm`.

        unbiased: whether n/(n-1) times the batch variance enters the running variance, as in
            torch; the output is normalised with the biased one in any case.
        frozen: whether the running statistics are used, and kept, in every mode.
        """
        super().__init__(features, param_dtype=param_dtype, **arguments)
        # nnx.BatchNorm keeps them in float32 whatever param_dtype is.
        self.mean = nnx.BatchStat(jnp.zeros(features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(features, param_dtype))
        self.unbiased = unbiased
        self.frozen = frozen

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # No mask: maps are whole.
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        if use_running_average is None:
            use_running_average = self.use_running_average
        assert self.scale is not None and self.bias is not None
        mean, var = self.mean[...], self.var[...]
        exact, scale, bias = x.astype(mean.dtype), self.scale[...], self.bias[...]
        if use_running_average or self.frozen:
            y = (exact - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        else:
            y, mean, var = _normalised(self.epsilon, exact, scale, bias)
            self._keep(mean, var, count=x.size // x.shape[-1])
        return y.astype(self.dtype or x.dtype)

    def _keep(self, mean: jax.Array, var: jax.Array, count: int) -> None:
        """Let the mean and biased variance of `count` values a feature enter the running ones."""
        kept = var * (count / (count - 1)) if self.unbiased else var
        for running, new in ((self.mean, mean), (self.var, kept)):
            old = self.momentum * running[...]
            # Not `running[...] =`, which asks what is traced for its sharding: the error that it
            # has none tells the whole of its origin, and that takes long in a large network.
            running.set_value(old + (1.0 - self.momentum) * jax.lax.stop_gradient(new))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _normalised(
    epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return [N, H, W, C] normalised by its own statistics; its mean and biased variance, [C].

    JAX is told the derivative: what it makes of that backwards has two sums over the map, of the
    gradient and of its product with `x - mean` (Ioffe & Szegedy 2015, section 3). What it makes of
    the formula has four, for two of which XLA writes their operands to memory.
    """
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean).mean((0, 1, 2))
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias, mean, var


@_normalised.defjvp
def _moved(epsilon: float, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return what `_normalised` does, and how that moves with its arguments."""
    (x, scale, _), (dx, dscale, dbias) = primals, tangents
    y, mean, var = _normalised(epsilon, *primals)
    apart, inverse = x - mean, jax.lax.rsqrt(var + epsilon)
    dmean, half_dvar = dx.mean((0, 1, 2)), (apart * dx).mean((0, 1, 2))
    factor = inverse * scale
    stretch = inverse * dscale - jnp.square(inverse) * factor * half_dvar
    dy = factor * dx + apart * stretch + (dbias - factor * dmean)
    return (y, mean, var), (dy, dmean, 2.0 * half_dvar)


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


def relu(x: jax.Array) -> jax.Array:
    """`nnx.relu`, which no NaN is lost in; a function of a module, where pickle finds it."""
    return _rectified(x)


@jax.custom_jvp
def _rectified(x: jax.Array) -> jax.Array:
    """Return the ReLU without a maximum.

    XLA (JAX 0.10) makes one loop of a CPU's sum and of what leads to it, in which a maximum makes 0
    of NaN: `jax.jit(lambda x: nnx.relu(x).mean())` hides it.
    """
    return jnp.where(x <= 0, jnp.zeros_like(x), x)


@_rectified.defjvp
def _rectified_moved(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Return the ReLU and how it moves: at 0 not at all, as Flax's."""
    (x,), (dx,) = primals, tangents
    return _rectified(x), jnp.where(x > 0, dx, jnp.zeros_like(dx))


def sigmoid(x: jax.Array) -> jax.Array:
    """`nnx.sigmoid`, as `relu`."""
    return nnx.sigmoid(x)


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
        return max_pool(self.kernel, self.stride, edges(self.pad), x)


class AvgPool(nnx.Module):
    """The mean over windows; padding does not count."""

    def __init__(self, kernel: int, stride: int, pad: Pad) -> None:
        self.kernel = kernel
        self.stride = stride
        self.pad = pad

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H', W', C]."""
        sides = (self.kernel,) * 2, (self.stride,) * 2
        return nnx.avg_pool(x, *sides, padding=edges(self.pad), count_include_pad=False)


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
        return x.reshape(x.shape[0], -1)


class Tap(nnx.Module):
    """Stands for a layer and passes on what `tap` makes of each of its outputs."""

    def __init__(self, layer: nnx.Module, tap: Callable[[jax.Array], jax.Array]) -> None:
        self.layer: Any = layer
        self.tap = tap

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Do as the layer does, and tap its output."""
        return self.tap(self.layer(*inputs))
