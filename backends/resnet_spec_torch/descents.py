"""Optimisers that torch lacks, or has with another equation: each is that of the core's row.

In torch's kernels over lists of tensors; of sharded tensors over the parts that lie in this
process, for all but norms is element by element. Used by `optimizers`.
"""

# torch's own optimisers are made of the kernels over lists, which it does not export.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from resnet_spec.optimizers import SHORTEST_UNIT, Settings
from resnet_spec_torch.weights import is_sharded, part_of

Groups = list[dict[str, Any]]


class Descent(Optimizer):
    """The step of groups that have `lr` and `weight_decay`; slots by the core's families."""

    def __init__(self, groups: Groups, settings: Settings, fused: bool) -> None:
        """`fused` asks for what there is not: these are a few kernels over all tensors."""
        super().__init__(groups, {"lr": 1.0, "weight_decay": 0.0})
        self._settings = settings

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient, and what is kept of them."""
        assert closure is None
        for group in self.param_groups:
            graded = [weight for weight in group["params"] if weight.grad is not None]
            if graded:
                self._move(graded, group["lr"], group["weight_decay"])

    @abstractmethod
    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None: ...

    def _slots(self, weights: Sequence[Tensor], family: str) -> list[Tensor]:
        return [part_of(self.state[weight][family]) for weight in weights]

    def _with_momentum(self, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the steps of gradients, which become so, with the velocity where there is one."""
        momentum = self._settings.momentum
        if momentum == 0:
            return gradients
        velocities = self._slots(weights, "momentum")
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients)
        if not self._settings.nesterov:
            return velocities
        torch._foreach_add_(gradients, velocities, alpha=momentum)
        return gradients


class Lamb(Descent):
    """LAMB (You et al. 2020); no trust ratio for tensors without weight decay."""

    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None:
        parts = [part_of(weight) for weight in weights]
        steps = self._adam_steps(weights)
        if decay:
            torch._foreach_add_(steps, parts, alpha=decay)
            lengths = lengths_of(parts, weights[0])
            found = lengths_of(steps, weights[0])
            _scale(steps, _ratios(lengths, found, (lengths > 0) & (found > 0)))
        torch._foreach_add_(parts, steps, alpha=-rate)

    def _adam_steps(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return Adam's steps in new tensors, and move its means."""
        settings, gradients = self._settings, _gradients(weights)
        beta1, beta2 = settings.beta1, settings.beta2
        means, squares = self._slots(weights, "mean"), self._slots(weights, "square")
        counts = self._slots(weights, "steps")  # On the host, as torch's own.
        torch._foreach_add_(counts, 1.0)
        t = counts[0].item()
        torch._foreach_lerp_(means, gradients, 1.0 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - beta2)
        roots = torch._foreach_div(squares, 1.0 - beta2**t)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, settings.epsilon)
        steps = torch._foreach_div(means, 1.0 - beta1**t)
        torch._foreach_div_(steps, roots)
        return list(steps)


class Lars(Descent):
    """LARS (You et al. 2017); tensors without weight decay step as in SGD."""

    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None:
        parts = [part_of(weight) for weight in weights]
        gradients = _gradients(weights)
        if decay:
            lengths = lengths_of(parts, weights[0])
            found = lengths_of(gradients, weights[0])
            below = found + decay * lengths + self._settings.epsilon
            apart = (lengths > 0) & (found > 0)
            gradients = list(torch._foreach_add(gradients, parts, alpha=decay))
            _scale(gradients, _ratios(self._settings.trust * lengths, below, apart))
        elif self._settings.nesterov:
            gradients = [gradient.clone() for gradient in gradients]
        torch._foreach_add_(parts, self._with_momentum(weights, gradients), alpha=-rate)


class RmsProp(Descent):
    """RMSProp in TensorFlow's form: epsilon below the root, and squares that begin at 1."""

    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None:
        settings = self._settings
        parts = [part_of(weight) for weight in weights]
        gradients, squares = _gradients(weights), self._slots(weights, "rms")
        if decay:
            gradients = torch._foreach_add(gradients, parts, alpha=decay)
        torch._foreach_mul_(squares, settings.beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - settings.beta2)
        roots = torch._foreach_add(squares, settings.epsilon)
        torch._foreach_sqrt_(roots)
        steps = list(torch._foreach_div(gradients, roots))
        torch._foreach_add_(parts, self._with_momentum(weights, steps), alpha=-rate)


class Lion(Descent):
    """Lion (Chen et al. 2023): steps of one size, and weight decay beside them."""

    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None:
        settings = self._settings
        parts = [part_of(weight) for weight in weights]
        gradients, means = _gradients(weights), self._slots(weights, "mean")
        steps = torch._foreach_lerp(means, gradients, 1.0 - settings.beta1)
        torch._foreach_sign_(steps)
        torch._foreach_lerp_(means, gradients, 1.0 - settings.beta2)
        torch._foreach_add_(steps, parts, alpha=decay)
        torch._foreach_add_(parts, steps, alpha=-rate)


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of the gradients that lie in this process; not to be changed."""
    return [part_of(weight.grad) for weight in weights if weight.grad is not None]


# --- Norms of whole tensors -----------------------------------------------------------------------


def lengths_of(parts: list[Tensor], like: Any) -> Tensor:
    """Return the Euclidean norms, [n], of whole tensors, of which `parts` lie in this process.

    like: a tensor that lies as they do; of sharded ones all processes ask.
    """
    lengths = torch.stack(torch._foreach_norm(parts))
    if not is_sharded(like):
        return lengths
    squares = lengths.square()
    torch.distributed.all_reduce(squares, group=like.device_mesh.get_group())
    return squares.sqrt()


@torch.no_grad()
def clip_units(bound: float, weights: Sequence[Any]) -> None:
    """Clip the gradients of `weights` in place, each unit by itself, as the core's `by_units`.

    Of what is sharded a process has whole units (FSDP2 cuts along the outputs), but for a bias or a
    norm's scale or shift, which is one.
    """
    kernels = [weight for weight in weights if weight.ndim > 1]
    for weight in kernels:
        gradient = part_of(weight.grad)
        axes = tuple(range(1, weight.ndim))
        most = _most(bound, torch.linalg.vector_norm(part_of(weight), dim=axes, keepdim=True))
        gradient *= _shrinking(most, torch.linalg.vector_norm(gradient, dim=axes, keepdim=True))
    whole = [weight for weight in weights if weight.ndim == 1]
    if whole:
        gradients = _gradients(whole)
        most = _most(bound, lengths_of([part_of(weight) for weight in whole], whole[0]))
        _scale(gradients, _shrinking(most, lengths_of(gradients, whole[0])))


def _most(bound: float, lengths: Tensor) -> Tensor:
    return bound * lengths.clamp(min=SHORTEST_UNIT)


def _shrinking(most: Tensor, lengths: Tensor) -> Tensor:
    """Return the factors that bring lengths to at most `most`; 1 for no length."""
    return _ratios(most, lengths, lengths > most)


def _ratios(above: Tensor, below: Tensor, apart: Tensor) -> Tensor:
    """Return ratios, as of trust, which are 1 where lengths are not `apart`."""
    return torch.where(apart, above / below, torch.ones_like(above))


def _scale(steps: list[Tensor], factors: Tensor) -> None:
    torch._foreach_mul_(steps, list(factors.unbind()))
