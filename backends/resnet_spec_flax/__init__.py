"""The Flax backend: native NNX modules named as torchvision's and timm's, and their training loop.

Reached by name through the core's loader, which imports it only when it is asked for.
"""

from __future__ import annotations

from resnet_spec_flax.modules import build
from resnet_spec_flax.session import PRECISIONS, Session

__all__ = ["PRECISIONS", "REQUIRES", "Session", "build"]

REQUIRES = ("jax", "flax", "optax")
