"""The PyTorch backend: native `nn.Module`s named as torchvision's and timm's, and their training loop.

Reached by name through the core's loader; imports torch, so nothing else of the project imports it.
"""

from __future__ import annotations

from resnet_spec_torch.modules import build
from resnet_spec_torch.session import PRECISIONS, Session

__all__ = ["PRECISIONS", "REQUIRES", "Session", "build"]

REQUIRES = ("torch",)
