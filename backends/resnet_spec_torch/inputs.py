"""Batches on the device: checked, split into parts, normalised, in the session's memory format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_spec.contract import Array, Batch
from resnet_spec.group import Group
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import Intake
from resnet_spec_torch.weights import Tensors, to_tensor


class Part(NamedTuple):
    """A part of a training batch on the device.

    images: normalised, [N, C, H, W]. labels: int64 [N]. noise: factors by the name of the op.
    targets: [N, classes] where the recipe needs them, else None. soft: a teacher's, likewise.
    """

    images: Tensor
    labels: Tensor
    noise: Tensors
    targets: Tensor | None
    soft: Tensor | None


class Inputs:
    """What a session of `plan` on `device` makes of batches."""

    def __init__(
        self,
        plan: Plan,
        group: Group,
        device: torch.device,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
        recipe: Recipe | None = None,
    ) -> None:
        self._intake = Intake(plan, group, recipe=recipe)
        self._device, self._dtype, self._format = device, dtype, memory_format
        self._scale, self._shift = (
            torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
            for values in (plan.input.scale, plan.input.shift)
        )

    def images(self, batch: Batch) -> Tensor:
        """Return the normalised images [N, C, H, W] of a batch for evaluation mode."""
        return self._normalised(self._intake.images(batch))

    def parts(self, batch: Batch, count: int, *, labelled: bool = True) -> Iterator[Part]:
        """Yield equal consecutive parts for training mode."""
        for part in self._intake.parts(batch, count, labelled=labelled):
            noise = {name: self._moved(factors) for name, factors in part.noise.items()}
            images, labels = self._normalised(part.images), self._moved(part.labels)
            yield Part(images, labels, noise, self._typed(part.targets), self._typed(part.soft))

    def _normalised(self, given: Array) -> Tensor:
        # NHWC in memory is channels_last: the permutation moves nothing.
        images = self._moved(given).permute(0, 3, 1, 2)
        normalised = images.to(self._dtype)
        if images.dtype == torch.uint8:
            normalised = normalised.mul_(self._scale).add_(self._shift)
        return normalised.contiguous(memory_format=self._format)

    def _typed(self, array: Array | None) -> Tensor | None:
        return None if array is None else self._moved(array).to(self._dtype)

    def _moved(self, array: Array) -> Tensor:
        """Return `array` on the device; from pinned memory without waiting on CUDA."""
        tensor = to_tensor(array)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=self._device.type == "cuda")
