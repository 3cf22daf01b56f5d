"""The Flax backend: native NNX modules named as torchvision's and timm's, and their training loop.

Reached by name through the core's loader, which imports it only when it is asked for.
"""

from __future__ import annotations

from resnet_spec_flax.devices import PRECISIONS, check_ahead
from resnet_spec_flax.group import join
from resnet_spec_flax.modules import build
from resnet_spec_flax.session import Session
from resnet_spec_flax.shapes import abstract_shapes, output_shape

__all__ = [
    "PRECISIONS",
    "Session",
    "abstract_shapes",
    "build",
    "check_ahead",
    "join",
    "output_shape",
]
