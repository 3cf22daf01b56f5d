"""The cells that are compiled: loss, gradients, and a whole optimiser step in one graph.

MindSpore returns gradients without names, in the order of the weights they were asked for; that
order is `plan.trainable` throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from resnet_spec.plan import Input
from resnet_spec.recipe import Recipe
from resnet_spec_mindspore.modules import Noise, ResNet


class Normalise(nn.Cell):
    """uint8 images [N, H, W, C] to normalised float32 [N, C, H, W]; float images only
    transposed."""

    def __init__(self, image: Input) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.scale = Tensor(np.array(image.scale, np.float32).reshape(shape))
        self.shift = Tensor(np.array(image.shift, np.float32).reshape(shape))

    def construct(self, images: Tensor) -> Tensor:
        """[N, H, W, C] to [N, C, H, W]."""
        x = images.transpose(0, 3, 1, 2)
        if images.dtype == ms.uint8:
            return x.astype(ms.float32) * self.scale + self.shift
        return x.astype(ms.float32)


class Logits(nn.Cell):
    """Images to float32 logits [N, classes]."""

    def __init__(self, network: ResNet, normalise: Normalise) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.normalise = normalise
        self.is_noisy = isinstance(network, ResNet) and any(network.takes_noise)

    def construct(self, images: Tensor, noise: Noise) -> Tensor:
        """[N, H, W, C] and the noise by op name to [N, classes]."""
        x = self.normalise(images)
        logits = self.network(x, noise) if self.is_noisy else self.network(x)
        return logits.astype(ms.float32)


class Loss(nn.Cell):
    """The mean smoothed cross-entropy (times `scale`), itself without it, and correct images."""

    def __init__(self, logits: Logits, smoothing: float) -> None:
        super().__init__(auto_prefix=False)
        self.logits = logits
        self.smoothing = smoothing

    def construct(
        self, images: Tensor, labels: Tensor, noise: Noise, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (scaled loss, loss, correct), all of shape ()."""
        logits = self.logits(images, noise)
        loss = ops.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        correct = (logits.argmax(1) == labels).astype(ms.int32).sum()
        return loss * scale, loss, correct


class Gradients(nn.Cell):
    """Loss, correct images and the gradients of the scaled loss, in the order of `weights`."""

    def __init__(self, loss: Loss, weights: Sequence[Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.run = ms.value_and_grad(loss, None, tuple(weights), has_aux=True)

    def construct(
        self, images: Tensor, labels: Tensor, noise: Noise, scale: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return (loss, correct, gradients)."""
        (_, loss, correct), gradients = self.run(images, labels, noise, scale)
        return loss, correct, gradients


class Update(nn.Cell):
    """One step of SGD by `contract.Session.train`'s formulas, in place.

    nn.Momentum ignores Nesterov on a CPU, so only the plain form uses the fused operator. With a
    loss scale, a step whose gradients are not finite changes nothing but the scale.
    """

    # torch's GradScaler: doubled after so many good steps, halved after a bad one.
    GROWTH_STEPS = 2000

    def __init__(
        self,
        recipe: Recipe,
        weights: Sequence[Parameter],
        velocities: Sequence[Parameter],
        decayed: Sequence[bool],
        loss_scale: tuple[Parameter, Parameter] | None,
    ) -> None:
        super().__init__(auto_prefix=False)
        optimizer = recipe.optimizer
        self.weights = ParameterTuple(weights)
        self.velocities = ParameterTuple(velocities)
        self.decays = tuple(optimizer.weight_decay if decays else 0.0 for decays in decayed)
        self.momentum = optimizer.momentum
        self.nesterov = optimizer.nesterov
        self.fused = self.momentum > 0 and not self.nesterov and loss_scale is None
        self.apply = ops.ApplyMomentum()
        self.has_scale = loss_scale is not None
        if loss_scale is not None:
            self.loss_scale, self.good_steps = loss_scale

    def construct(self, gradients: tuple[Tensor, ...], rate: Tensor) -> Tensor:
        """Apply the gradients (of the scaled loss) at `rate`, shape (); return whether it did."""
        finite = ops.ones((), ms.bool_)
        if self.has_scale:
            for gradient in gradients:
                finite = ops.logical_and(finite, ops.isfinite(gradient).all())
        for i in range(len(self.weights)):
            weight, gradient = self.weights[i], gradients[i]
            if self.has_scale:
                gradient = gradient / self.loss_scale
            if self.decays[i] > 0:
                gradient = gradient + self.decays[i] * weight
            if self.fused:
                self.apply(weight, self.velocities[i], rate, gradient, self.momentum)
            else:
                self._apply(i, gradient, rate, finite)
        if self.has_scale:
            self._adapt(finite)
        return finite

    def _apply(self, i: int, gradient: Tensor, rate: Tensor, finite: Tensor) -> None:
        weight, step = self.weights[i], gradient
        if self.momentum > 0:
            old = self.velocities[i]
            velocity = self.momentum * old + gradient
            step = gradient + self.momentum * velocity if self.nesterov else velocity
            if self.has_scale:
                velocity = ops.select(finite, velocity, old)
            ops.assign(old, velocity)
        new = weight - rate * step
        if self.has_scale:
            new = ops.select(finite, new, weight)
        ops.assign(weight, new)

    def _adapt(self, finite: Tensor) -> None:
        good = ops.select(finite, self.good_steps + 1.0, ops.zeros_like(self.good_steps))
        grown = good >= self.GROWTH_STEPS
        scale = ops.select(finite, self.loss_scale, self.loss_scale * 0.5)
        ops.assign(self.loss_scale, ops.select(grown, scale * 2.0, scale))
        ops.assign(self.good_steps, ops.select(grown, ops.zeros_like(good), good))


class Step(nn.Cell):
    """Forward, backward and update of a whole batch in one graph."""

    def __init__(self, gradients: Gradients, update: Update, average: Average | None) -> None:
        super().__init__(auto_prefix=False)
        self.gradients = gradients
        self.update = update
        self.average = average
        self.has_average = average is not None

    def construct(
        self, images: Tensor, labels: Tensor, noise: Noise, scale: Tensor, rate: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (loss, correct)."""
        loss, correct, gradients = self.gradients(images, labels, noise, scale)
        done = self.update(gradients, rate)
        if self.has_average:
            done = ops.depend(done, self.average())
        return ops.depend(loss, done), correct


class Average(nn.Cell):
    """The exponential moving average of weights and statistics, in place."""

    def __init__(
        self, decay: float, tensors: Sequence[Parameter], averages: Sequence[Parameter]
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decay = decay
        self.tensors = ParameterTuple(tensors)
        self.averages = ParameterTuple(averages)

    def construct(self) -> Tensor:
        """Move every average by one step."""
        for i in range(len(self.averages)):
            kept = self.decay * self.averages[i]
            ops.assign(self.averages[i], kept + (1.0 - self.decay) * self.tensors[i])
        return ops.ones((), ms.bool_)
