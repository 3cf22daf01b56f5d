"""What sessions are measured beside: other people's ResNets in torch, and ours without a session.

Each is set up as its own project documents: images normalised and on the device already, SGD with
momentum and weight decay on the mean cross-entropy, `torch.autocast` in a reduced precision. None
is tuned by us, and none held back. Reached by name (`manifest.toml`, "bench.peers").
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F

from resnet_spec.bench import DECAY, MOMENTUM, RATE, Case, Contestant
from resnet_spec_torch.benching import wait
from resnet_spec_torch.devices import (
    REDUCED,
    describe,
    find_device,
    find_dtype,
)
from resnet_spec_torch.memory_formats import memory_format_of
from resnet_spec_torch.modules import build

Logits = Callable[[Any], Any]
"""From what a network returns to its logits."""


def torchvision(case: Case, layout: torch.memory_format = torch.contiguous_format) -> Contestant:
    """Return torchvision's network of the preset's name."""
    _declare_operators()
    models: Any = importlib.import_module("torchvision.models")
    case.check_known("torchvision", models.list_models(module=models))
    network = models.get_model(case.preset, weights=None, num_classes=case.classes)
    return _contestant("torchvision", network, layout, case)


def torchvision_channels_last(case: Case) -> Contestant:
    """Return the same in the other memory format."""
    return torchvision(case, torch.channels_last)


def timm(case: Case, layout: torch.memory_format = torch.contiguous_format) -> Contestant:
    """Return timm's network of the preset's name."""
    _declare_operators()
    package: Any = importlib.import_module("timm")
    case.check_known("timm", package.list_models())
    channels = case.plan.input.channels
    network = package.create_model(case.preset, num_classes=case.classes, in_chans=channels)
    return _contestant("timm", network, layout, case)


def timm_channels_last(case: Case) -> Contestant:
    """Return the same in the other memory format."""
    return timm(case, torch.channels_last)


_TRANSFORMERS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
"""Layer type and depths of Microsoft's configurations on the hub."""


def transformers(case: Case) -> Contestant:
    """Return transformers' ResNet in the configuration of the preset's name."""
    case.check_known("transformers", _TRANSFORMERS)
    _declare_operators()  # It imports torchvision, where that is installed.
    package: Any = importlib.import_module("transformers")
    kind, depths = _TRANSFORMERS[case.preset]
    first = 64 if kind == "basic" else 256
    config = package.ResNetConfig(
        num_channels=case.plan.input.channels,
        hidden_sizes=[first * 2**stage for stage in range(4)],
        depths=list(depths),
        layer_type=kind,
        num_labels=case.classes,
    )
    network = package.ResNetForImageClassification(config)
    layout = torch.contiguous_format
    return _contestant("transformers", network, layout, case, lambda output: output.logits)


def by_hand(case: Case) -> Contestant:
    """Return the module that `build` returns, as an expert would set it up without a session."""
    network = build(case.plan, case.state)
    device = find_device(case.device)
    layout = memory_format_of(device, case.plan, case.recipe, case.precision)
    return _contestant("torch", network, layout, case, is_fused=True)


def _contestant(
    package: str,
    network: Any,
    layout: torch.memory_format,
    case: Case,
    logits: Logits = lambda output: output,
    *,
    is_fused: bool | None = None,
) -> Contestant:
    device = find_device(case.device)
    dtype, cast = find_dtype(case.precision, device), nullcontext
    if case.precision in REDUCED:
        cast = partial(torch.autocast, device.type, REDUCED[case.precision])
    network = network.to(device=device, dtype=dtype, memory_format=layout)
    planes = torch.from_numpy(case.normalised()).permute(0, 3, 1, 2)
    images = planes.contiguous(memory_format=layout).to(device=device, dtype=dtype)
    labels = torch.from_numpy(case.labels()).to(device)
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(
        parameters, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=is_fused
    )
    scaler = torch.amp.GradScaler(device.type, enabled=case.precision == "float16")

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with cast():
                loss = F.cross_entropy(logits(network(images)), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        wait(device)

    @torch.inference_mode()
    def predict(steps: int) -> None:
        with cast():
            for _ in range(steps):
                logits(network(images))
        wait(device)

    network.train(case.trains)
    info = {
        package: version(package),
        "torch": torch.__version__,
        "device": describe(device),
        "precision": case.precision,
        "threads": str(torch.get_num_threads()),
        "memory_format": str(layout).removeprefix("torch."),
    }
    params = sum(tensor.numel() for tensor in parameters)
    return Contestant(train if case.trains else predict, params, info)


_LIBRARY: list[Any] = []


def _declare_operators() -> None:
    """Let torchvision's models be imported beside a CPU build of torch, whose wheel has no nms."""
    if hasattr(torch.ops.torchvision, "nms") or _LIBRARY:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.append(library)
