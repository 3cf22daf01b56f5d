"""The PyTorch backend: native modules named as torchvision's and timm's, and their training loop.

Reached by name through the core's loader, which imports it only when it is asked for.
"""

from __future__ import annotations

from resnet_spec_torch.devices import PRECISIONS, check_ahead
from resnet_spec_torch.group import is_met, join
from resnet_spec_torch.modules import build
from resnet_spec_torch.session import Session
from resnet_spec_torch.shapes import abstract_shapes, output_shape

__all__ = [
    "PRECISIONS",
    "Session",
    "abstract_shapes",
    "build",
    "check_ahead",
    "is_met",
    "join",
    "output_shape",
]
