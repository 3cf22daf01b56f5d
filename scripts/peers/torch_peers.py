"""torchvision and timm, in torch's own memory format and in channels_last."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from peers.case import (  # pyright: ignore[reportMissingImports]
    CLASSES,
    DECAY,
    MOMENTUM,
    Case,
    Contender,
)

PACKAGES = ("torchvision", "timm")


def contenders(case: Case, packages: Sequence[str]) -> dict[str, Contender]:
    """Return each package's network in both memory formats."""
    _declare_operators()
    found: dict[str, Contender] = {}
    for package in packages:
        for layout in (torch.contiguous_format, torch.channels_last):
            words = "" if layout == torch.contiguous_format else ", channels_last"
            network = _network(package, case.network).to(memory_format=layout)
            found[f"{package}{words}"] = _contender(network, layout, case)
    return found


def _network(package: str, name: str) -> Any:
    if package == "timm":
        return importlib.import_module("timm").create_model(name, num_classes=CLASSES)
    return importlib.import_module("torchvision.models").get_model(name, num_classes=CLASSES)


def _contender(network: Any, layout: Any, case: Case) -> Contender:
    array, classes = case.normalised()
    images = torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(classes)
    optimizer = torch.optim.SGD(
        network.parameters(), case.rate, momentum=MOMENTUM, weight_decay=DECAY
    )

    def train() -> None:
        for _ in range(case.steps):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        for _ in range(case.steps):
            network(images)

    network.train(case.trains)
    return train if case.trains else predict


_LIBRARY: list[Any] = []


def _declare_operators() -> None:
    """Let torchvision's models be imported beside a CPU build of torch, whose wheel has no nms."""
    if hasattr(torch.ops.torchvision, "nms") or _LIBRARY:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.append(library)
