"""One module per op: its forward and its backward pass, written out."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import DTypeLike

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec_numpy.passes import Leaf, Run
from resnet_spec_numpy.windows import Window, convolve, convolve_backward

# --- Ops with tensors -----------------------------------------------------------------------------


class Conv(Leaf):
    """Cross-correlation, zero padded; weight [O, C/groups, kh, kw], bias [O] or None."""

    op: ops.Conv
    weight: Array
    bias: Array | None = None

    @property
    def _window(self) -> Window:
        return Window(self.op.kernel, self.op.stride, self.op.pad, self.op.dilation)

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, O, H', W']."""
        run.save(self.op.name, x)
        y = convolve(x, self.weight, self._window, self.op.groups, run.order)
        return y if self.bias is None else y + _per_channel(self.bias)

    def backward(self, dy: Array, run: Run) -> Array:
        """The gradients of weight, bias and x."""
        x, op = run.saved.pop(self.op.name), self.op
        dx, dweight = convolve_backward(dy, x, self.weight, self._window, op.groups, run.order)
        run.gradients[op.weight.name] = dweight
        if op.bias is not None:
            run.gradients[op.bias.name] = run.total(dy, (0, 2, 3))
        return dx


class Norm(Leaf):
    """y = weight (x - mean) / sqrt(var + eps) + bias (Ioffe & Szegedy 2015, algorithm 1)."""

    op: ops.Norm
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array

    def forward(self, x: Array, run: Run) -> Array:
        """Mean and biased variance are those of the batch in training, else the running ones.

        A frozen norm takes the running ones in any case.
        """
        mean, var = self.running_mean, self.running_var
        uses_batch = run.training and not self.op.frozen
        if uses_batch:
            mean = run.mean(x, (0, 2, 3))
        centred = x - _per_channel(mean)
        if uses_batch:
            # The second pass over x; mean(x^2) - mean^2 would cancel.
            var = run.mean(np.square(centred), (0, 2, 3))
            self._note_statistics(mean, var, x.size // x.shape[1], run)
        inverse = 1.0 / np.sqrt(var + self.op.eps)
        normalised = centred * _per_channel(inverse)
        run.save(self.op.name, (normalised, inverse))
        return normalised * _per_channel(self.weight) + _per_channel(self.bias)

    def _note_statistics(self, mean: Array, var: Array, n: int, run: Run) -> None:
        """Put the new running values into `run`; n is the number of values per channel."""
        op = self.op
        if op.variance == "unbiased":
            var = var * (n / (n - 1))
        for tensor, old, new in (
            (op.running_mean, self.running_mean, mean),
            (op.running_var, self.running_var, var),
        ):
            run.statistics[tensor.name] = op.decay * old + (1.0 - op.decay) * new

    def backward(self, dy: Array, run: Run) -> Array:
        """Mean and variance depend on x, too: they take dy's mean and its part along y.

        Those of a frozen norm do not.
        """
        normalised, inverse = run.saved.pop(self.op.name)
        n = dy.size // dy.shape[1]
        dscale, dshift = run.total(dy * normalised, (0, 2, 3)), run.total(dy, (0, 2, 3))
        run.gradients[self.op.scale.name] = dscale
        run.gradients[self.op.shift.name] = dshift
        through = dy
        if not self.op.frozen:
            through = dy - _per_channel(dshift / n) - normalised * _per_channel(dscale / n)
        return through * _per_channel(self.weight * inverse)


class Linear(Leaf):
    """y = x weight^T + bias; weight [out, in]."""

    op: ops.Linear
    weight: Array
    bias: Array

    def forward(self, x: Array, run: Run) -> Array:
        """[N, in] to [N, out]."""
        run.save(self.op.name, x)
        return run.product(x, self.weight.T) + self.bias

    def backward(self, dy: Array, run: Run) -> Array:
        """The gradients of weight, bias and x."""
        x = run.saved.pop(self.op.name)
        run.gradients[self.op.weight.name] = run.product(dy.T, x)
        run.gradients[self.op.bias.name] = run.total(dy, (0,))
        return run.product(dy, self.weight)


# --- Ops without tensors --------------------------------------------------------------------------


class Activation(Leaf):
    """relu(x) = max(x, 0), with the gradient 0 at 0; or sigmoid(x) = 1 / (1 + exp(-x))."""

    op: ops.Activation

    def forward(self, x: Array, run: Run) -> Array:
        """Any shape to the same shape."""
        match self.op.kind:
            case "relu":
                passes = run.choices.get(self.op.name, x > 0)
                run.save(self.op.name, passes)
                return np.where(passes, x, 0) if self.op.name in run.choices else np.maximum(x, 0)
            case "sigmoid":
                y = _sigmoid(x)
                run.save(self.op.name, y)
                return y
            case _:
                assert_never(self.op.kind)

    def backward(self, dy: Array, run: Run) -> Array:
        """0 or 1 for a ReLU; a sigmoid's derivative is a function of its output."""
        kept = run.saved.pop(self.op.name)
        match self.op.kind:
            case "relu":
                return dy * kept
            case "sigmoid":
                return dy * kept * (1.0 - kept)
            case _:
                assert_never(self.op.kind)


class MaxPool(Leaf):
    """Maximum over windows; the padding is minus infinity."""

    op: ops.MaxPool

    @property
    def _window(self) -> Window:
        return Window((self.op.kernel, self.op.kernel), self.op.stride, self.op.pad)

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, C, H', W']."""
        windows = self._window.view(x, fill=-np.inf)
        n, c, _, _, *size = windows.shape
        pixels = windows.reshape(n, c, -1, *size)
        chosen = run.choices.get(self.op.name)
        first = pixels.argmax(2, keepdims=True) if chosen is None else chosen[:, :, None]
        run.save(self.op.name, (first, x.shape))
        return np.take_along_axis(pixels, first, 2)[:, :, 0]

    def backward(self, dy: Array, run: Run) -> Array:
        """Of equal maxima the first in row-major order of its window gets dy, as in torch."""
        first, shape = run.saved.pop(self.op.name)
        n, c, *size = dy.shape
        k = self.op.kernel
        chosen = first == np.arange(k * k)[:, None, None]
        parts = (chosen * dy[:, :, None]).reshape(n, c, k, k, *size)
        return self._window.scatter(parts, shape[2:])


class AvgPool(Leaf):
    """Mean over windows, divided by the number of pixels that are not padding."""

    op: ops.AvgPool

    @property
    def _window(self) -> Window:
        return Window((self.op.kernel, self.op.kernel), self.op.stride, self.op.pad)

    def _counts(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self._window.view(np.ones((1, 1, *shape[2:]), dtype)).sum((2, 3))

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, C, H', W']."""
        run.save(self.op.name, x.shape)
        summed = run.total(self._window.view(x), (2, 3))
        return summed / self._counts(x.shape, x.dtype)

    def backward(self, dy: Array, run: Run) -> Array:
        """Every pixel of a window gets the same share."""
        shape = run.saved.pop(self.op.name)
        share = (dy / self._counts(shape, dy.dtype))[:, :, None, None]
        n, c, _, _, *size = share.shape
        parts = np.broadcast_to(share, (n, c, self.op.kernel, self.op.kernel, *size))
        return self._window.scatter(parts, shape[2:])


class PadChannels(Leaf):
    """Every `stride`-th pixel from (0, 0); zero channels (front, back) are added."""

    op: ops.PadChannels

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, front + C + back, H', W']."""
        run.save(self.op.name, x.shape)
        picked = x[:, :, :: self.op.stride, :: self.op.stride]
        return np.pad(picked, ((0, 0), self.op.channels, (0, 0), (0, 0)))

    def backward(self, dy: Array, run: Run) -> Array:
        """Pixels that were not picked get zero."""
        shape = run.saved.pop(self.op.name)
        front, _ = self.op.channels
        dx = np.zeros(shape, dy.dtype)
        dx[:, :, :: self.op.stride, :: self.op.stride] = dy[:, front : front + shape[1]]
        return dx


class GlobalPool(Leaf):
    """Mean over height and width, kept as 1 x 1 with `keep_dims`."""

    op: ops.GlobalPool

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, C] or [N, C, 1, 1]."""
        run.save(self.op.name, x.shape)
        return run.mean(x, (2, 3), keep=self.op.keep_dims)

    def backward(self, dy: Array, run: Run) -> Array:
        """Every pixel gets the same share."""
        n, c, height, width = shape = run.saved.pop(self.op.name)
        return np.broadcast_to(dy.reshape(n, c, 1, 1) / (height * width), shape)


class Flatten(Leaf):
    """[N, C, 1, 1] to [N, C]."""

    op: ops.Flatten

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, 1, 1] to [N, C]."""
        return x[:, :, 0, 0]

    def backward(self, dy: Array, run: Run) -> Array:
        """[N, C] to [N, C, 1, 1]."""
        return dy[:, :, None, None]


class Dropout(Leaf):
    """In training x times noise [N, C]: 0 or 1/(1-rate) for every channel of a sample."""

    op: ops.Dropout | ops.DropPath

    def forward(self, x: Array, run: Run) -> Array:
        """Any shape [N, C, ...] to the same shape."""
        if not run.training:
            return x
        noise = run.noise.get(self.op.name)
        if noise is None:
            noise = self._draw(x.shape)
        # Noise is float32, in which 1/(1-rate) is rounded: that is the factor, in any precision.
        factors = noise.astype(x.dtype).reshape(noise.shape + (1,) * (x.ndim - noise.ndim))
        run.save(self.op.name, factors)
        return x * factors

    def backward(self, dy: Array, run: Run) -> Array:
        """The same factors."""
        return dy * run.saved.pop(self.op.name)

    def _draw(self, shape: tuple[int, ...]) -> Array:
        """Return noise [N, C] for an input of `shape`."""
        return _factors(shape[:2], self.op.rate)


class DropPath(Dropout):
    """In training x times noise [N]: 0 or 1/(1-rate) for a whole sample (Huang et al. 2016)."""

    def _draw(self, shape: tuple[int, ...]) -> Array:
        """Return noise [N] for an input of `shape`."""
        return _factors(shape[:1], self.op.rate)


class Add:
    """The sum of body and shortcut."""

    def __init__(self, op: ops.Add) -> None:
        self.op = op

    def forward(self, body: Array, shortcut: Array) -> Array:
        """Two arrays of one shape to their sum."""
        return body + shortcut

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of body and shortcut."""
        return dy, dy


LAYERS: dict[type[ops.Op], type[Leaf]] = {
    ops.Conv: Conv,
    ops.Norm: Norm,
    ops.Activation: Activation,
    ops.MaxPool: MaxPool,
    ops.AvgPool: AvgPool,
    ops.PadChannels: PadChannels,
    ops.GlobalPool: GlobalPool,
    ops.Flatten: Flatten,
    ops.Linear: Linear,
    ops.Dropout: Dropout,
    ops.DropPath: DropPath,
}
"""An `Add`, which has two inputs, belongs to its `Residual`."""


def layer_of(op: ops.Op, dtype: DTypeLike) -> Leaf:
    """Return the layer of `op`. Raises TypeError for a class that has none."""
    if type(op) not in LAYERS:
        raise TypeError(f"{op.name}: an op of class {type(op).__name__} has no layer in LAYERS")
    return LAYERS[type(op)](op, dtype)


# --- Arithmetic -----------------------------------------------------------------------------------


def _per_channel(values: Array) -> Array:
    """Return [C] as [C, 1, 1], which is broadcast over [N, C, H, W]."""
    return values[:, None, None]


def _sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) without overflow, to the last digits on both sides of zero."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _factors(shape: tuple[int, ...], rate: float) -> Array:
    kept = np.random.default_rng().random(shape) >= rate
    return kept / (1.0 - rate)
