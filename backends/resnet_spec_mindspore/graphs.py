"""The cells that are compiled: loss, gradients, and a whole optimiser step in one graph.

MindSpore returns gradients without names, in the order of the weights they were asked for; that
order is `plan.trainable` throughout. Targets and noise are handed over as separate inputs, the
latter in the plan's order: a graph takes the tensors of a tuple for constants, and is compiled anew
for each.
"""

# MindSpore's cells are untyped: `construct` takes anything and what a cell returns is not known.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from resnet_spec.optimizers import SHORTEST_UNIT, Settings
from resnet_spec.plan import Input, Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import GROWTH_STEPS
from resnet_spec_mindspore.averages import Move
from resnet_spec_mindspore.descents import sum_of_squares
from resnet_spec_mindspore.losses import loss_of, shares_in
from resnet_spec_mindspore.modules import ResNet


@contextmanager
def mode(value: int) -> Iterator[None]:
    """Run cells in `value`, ms.GRAPH_MODE or ms.PYNATIVE_MODE, and go back to the user's mode.

    `ms.jit` would leave the mode alone, but it makes the main thread spin while a graph runs: on
    two cores a training step of ResNet-20 (batch 128) takes 1.3 s with it and 0.59 s in graph
    mode. There and back costs 44 us.
    """
    before = ms.get_context("mode")
    ms.set_context(mode=value)
    try:
        yield
    finally:
        ms.set_context(mode=before)


class Normalise(nn.Cell):
    """uint8 images [N, H, W, C] to normalised float32; float images are only transposed."""

    def __init__(self, image: Input) -> None:
        super().__init__()
        self.scale = Tensor(np.array(image.scale, np.float32))
        self.shift = Tensor(np.array(image.shift, np.float32))

    def construct(self, images: Tensor) -> Tensor:
        """[N, H, W, C] to [N, C, H, W]."""
        # Before the transposition: a CPU multiplies along the last axis faster.
        if images.dtype == ms.uint8:
            images = images.astype(ms.float32) * self.scale + self.shift
        return images.transpose(0, 3, 1, 2)


class Logits(nn.Cell):
    """Images to float32 logits [N, classes]."""

    def __init__(self, network: ResNet, plan: Plan) -> None:
        super().__init__(auto_prefix=False)
        self.network: Any = network
        self.normalise = Normalise(plan.input)

    def construct(self, images: Tensor, *noise: Tensor) -> Tensor:
        """[N, H, W, C] to [N, classes]; noise: one tensor for each of `plan.noises`, or none."""
        x = self.normalise(images)
        logits = self.network(x, noise) if len(noise) > 0 else self.network(x)
        return logits.astype(ms.float32)


class Loss(nn.Cell):
    """The mean loss of a recipe; multiplied by the loss scale where there is one."""

    def __init__(self, logits: Logits, recipe: Recipe | None, loss_scale: Parameter | None) -> None:
        super().__init__(auto_prefix=False)
        self.logits: Any = logits
        self.compare: Any = loss_of(recipe)
        self.shares = shares_in(recipe)
        self.has_scale = loss_scale is not None
        if loss_scale is not None:
            self.loss_scale = loss_scale

    def construct(
        self, images: Tensor, labels: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (scaled loss, loss, correct images), all of shape ().

        more: what the loss takes in the place of labels, then one tensor for each noise.
        """
        if self.shares > 0:
            logits = self.logits(images, *more[self.shares :])
            loss = self.compare(logits, *more[: self.shares])
        else:
            logits = self.logits(images, *more)
            loss = self.compare(logits, labels)
        correct = (logits.argmax(1) == labels).astype(ms.int32).sum()
        return (loss * self.loss_scale if self.has_scale else loss), loss, correct


class Gradients(nn.Cell):
    """Loss, correct images and the gradients of the scaled loss, in the order of `weights`."""

    def __init__(self, loss: Loss, weights: Sequence[Parameter]) -> None:
        super().__init__(auto_prefix=False)
        # Position None: by weights alone, and not by the images.
        self.run: Any = ms.value_and_grad(loss, None, tuple(weights), has_aux=True)  # pyright: ignore[reportArgumentType]

    def construct(
        self, images: Tensor, labels: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return (loss, correct, gradients)."""
        (_, loss, correct), gradients = self.run(images, labels, *more)
        return loss, correct, gradients


class Sum(nn.Cell):
    """Pairwise sums of two sets of gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.map = ops.HyperMap()

    def construct(self, *both: Tensor) -> tuple[Tensor, ...]:
        """Return a[i] + b[i] for the inputs a[0], a[1] ... b[0], b[1] ..."""
        half = len(both) // 2
        return self.map(ops.add, both[:half], both[half:])


def _is_finite(gradient: Tensor) -> Tensor:
    return ops.isfinite(gradient).all().astype(ms.float32)


def _divided(divisor: Any, gradient: Tensor) -> Tensor:
    return gradient / divisor


def _multiplied(factor: Any, gradient: Tensor) -> Tensor:
    return gradient * factor


def _bounded(bound: float, gradient: Tensor) -> Tensor:
    return ops.clamp(gradient, -bound, bound)


def _lengths(tensor: Tensor) -> Tensor:
    """Return the norm of each unit: of each output of a kernel, of the whole of a vector."""
    squares = ops.square(tensor)
    if tensor.ndim == 1:
        return ops.sqrt(squares.sum())
    axes = (1, 2, 3) if tensor.ndim == 4 else 1
    return ops.sqrt(squares.sum(axes, keepdims=True))


def _by_units(bound: float, weight: Parameter, gradient: Tensor) -> Tensor:
    if bound == 0.0:
        return gradient
    most = bound * ops.maximum(_lengths(weight), SHORTEST_UNIT)
    found = _lengths(gradient)
    return gradient * ops.select(found > most, most / found, ops.ones_like(found))


class Clip(nn.Cell):
    """Gradients of a whole step as `optimizers.clipped` of the core."""

    def __init__(self, settings: Settings, plan: Plan, weights: Sequence[Parameter]) -> None:
        """Take the trainable weights in the order of the plan."""
        super().__init__(auto_prefix=False)
        self.norm, self.value = settings.clip_norm, settings.clip_value
        self.weights = ParameterTuple(weights)
        bound, free = settings.clip_adaptive or 0.0, plan.classifier
        self.bounds = tuple(0.0 if name in free else bound for name in plan.trainable)
        self.is_adaptive = bound > 0.0
        self.map = ops.HyperMap()

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return them clipped; each process has the same."""
        if self.is_adaptive:
            gradients = self.map(_by_units, self.bounds, self.weights, gradients)
        if self.value is not None:
            gradients = self.map(ops.partial(_bounded, self.value), gradients)
        if self.norm is not None:
            norm = ops.sqrt(ops.stack(self.map(sum_of_squares, gradients)).sum())
            factor = ops.select(norm > self.norm, self.norm / norm, ops.ones_like(norm))
            gradients = self.map(ops.partial(_multiplied, factor), gradients)
        return gradients


class Update(nn.Cell):
    """One step of the optimiser by the mean gradient, clipped, in place.

    With a loss scale, a step with gradients that are not finite changes nothing but the scale.
    """

    def __init__(
        self, optimizer: nn.Cell, clip: Clip, parts: int, loss_scale: Sequence[Parameter]
    ) -> None:
        """Take a cell of `optimizers`; loss_scale: (scale, good steps) or ()."""
        super().__init__(auto_prefix=False)
        self.optimizer: Any = optimizer
        self.clip: Any = clip
        self.parts = float(parts)
        self.has_scale = len(loss_scale) > 0
        if self.has_scale:
            self.loss_scale, self.good_steps = loss_scale
        self.map = ops.HyperMap()

    def construct(self, rate: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Apply the gradients (sums over the parts) at `rate`, shape (); return the weights."""
        finite: Any = None
        divisor = self.parts if self.parts > 1.0 else None
        if self.has_scale:
            finite = ops.stack(self.map(_is_finite, gradients)).min() > 0.0
            divisor = self.loss_scale * self.parts
        if divisor is not None:
            gradients = self.map(ops.partial(_divided, divisor), gradients)
        moved = self.optimizer(rate, finite, self.clip(gradients))
        if self.has_scale:
            self.adapt(finite)
        return moved

    def adapt(self, finite: Tensor) -> None:
        """Move the loss scale after a step."""
        good = ops.select(finite, self.good_steps + 1.0, ops.zeros_like(self.good_steps))
        is_due = good >= GROWTH_STEPS
        scale = ops.select(finite, self.loss_scale, self.loss_scale * 0.5)
        ops.assign(self.loss_scale, ops.select(is_due, scale * 2.0, scale))
        ops.assign(self.good_steps, ops.select(is_due, ops.zeros_like(good), good))


class Step(nn.Cell):
    """Forward, backward, update and average of a whole batch in one graph."""

    def __init__(self, gradients: Gradients, move: Move) -> None:
        super().__init__(auto_prefix=False)
        self.gradients: Any = gradients
        self.move: Any = move

    def construct(
        self, pace: Tensor, images: Tensor, labels: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (loss, correct). pace: as `Move` takes it."""
        loss, correct, gradients = self.gradients(images, labels, *more)
        return ops.depend(loss, self.move(pace, *gradients)), correct
