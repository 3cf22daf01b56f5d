"""The memory format of a session's images and kernels: channels_last, but where it costs more.

It is decided by the plan and the recipe and never by the clock: a run that goes on, or is repeated
on the same kind of machine, has to have the same bits.
"""

from __future__ import annotations

import math

import torch

from resnet_spec.contract import Precision
from resnet_spec.ops import Conv, Op
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

_LEAST = 2.0
"""Values of maps for each of kernels, below which a step is quicker in torch's own format."""
_SLICED = 0.5
"""What a value of a kernel with a single window counts as, beside one of a map."""


def memory_format_of(
    device: torch.device,
    plan: Plan,
    recipe: Recipe | None = None,
    precision: Precision = "float32",
    processes: int = 1,
) -> torch.memory_format:
    """Return the memory format of images and weights in which the device is fastest.

    recipe: what is trained by, None for prediction alone. processes: that share a batch.

    Measured on two AVX2 cores, images/s of a training step, channels_last against contiguous:
    ResNet-20 at 32 pixels 458 : 362, ResNet-50 at 64 pixels 51 : 47, in float64 even. CUDA's
    tensor cores take NHWC; MPS and NPU keep layouts of their own.

    With AVX-512 convolutions are as fast in either, but the gradients of kernels in channels_last
    are written in torch's order and then copied, in leaps (torch 2.13): a step with large kernels
    and small maps is quicker without, but 1x1 convolutions of small maps are products with it
    alone. `scripts/memory_formats.py` measures it.

    On a CPU, the backward pass of a strided 1x1 convolution over fewer than eight channels writes
    past its memory in channels_last (torch 2.13, AVX2): a tiny network with one stays contiguous.
    """
    if device.type == "cuda":
        return torch.channels_last
    if device.type != "cpu" or any(_overruns(op) for op in plan.ops):
        return torch.contiguous_format
    if recipe is None or precision != "float32" or not _has_avx512():
        return torch.channels_last
    batch = recipe.batch / (recipe.accumulate * processes)
    is_light = maps_for_each_of_kernels(plan, batch) < _LEAST
    return torch.contiguous_format if is_light else torch.channels_last


def maps_for_each_of_kernels(plan: Plan, batch: float) -> float:
    """Return the values that the convolutions of a batch give, for each value of a kernel.

    Kernels of 1x1 are the same in both formats. Those of a single window are no convolutions
    (`products`): no gradient of theirs is copied, and what meets is cut out of them without leaps
    in channels_last alone, so that they count for it as maps do.
    """
    convs = [op for op in plan.ops if isinstance(op, Conv)]
    large = [op for op in convs if op.kernel != (1, 1)]
    sliced, copied = (
        sum(math.prod(op.weight.shape) for op in large if (op.only_window is None) == is_copied)
        for is_copied in (False, True)
    )
    maps = batch * sum(math.prod(op.out_shape) for op in convs)
    return (maps + _SLICED * sliced) / max(copied, 1)


def _overruns(op: Op) -> bool:
    is_pointwise = isinstance(op, Conv) and op.kernel == (1, 1) and op.stride > 1
    return is_pointwise and op.in_shape[0] < 8


def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
