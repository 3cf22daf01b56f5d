"""The MindSpore backend: native `nn.Cell`s and their compiled training loop.

Reached by name through the core's loader; imports MindSpore, so nothing else of the project imports
it.
"""

from __future__ import annotations

# Before MindSpore's first operation, in this order.
import resnet_spec_mindspore.isa
import resnet_spec_mindspore.warmup  # noqa: F401
from resnet_spec_mindspore.devices import PRECISIONS, check_ahead
from resnet_spec_mindspore.group import is_met, join, prepare
from resnet_spec_mindspore.modules import build
from resnet_spec_mindspore.session import Session
from resnet_spec_mindspore.shapes import abstract_shapes, output_shape

__all__ = [
    "PRECISIONS",
    "Session",
    "abstract_shapes",
    "build",
    "check_ahead",
    "is_met",
    "join",
    "output_shape",
    "prepare",
]
