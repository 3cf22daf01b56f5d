"""The NumPy backend: the reference, in which every op is written out, forward and backward.

What the other backends are judged by, in float64. Reached by name through the core's loader.
"""

from __future__ import annotations

from resnet_spec_numpy.modules import build
from resnet_spec_numpy.nodes import Node, NodeGradients
from resnet_spec_numpy.session import PRECISIONS, Session
from resnet_spec_numpy.shapes import abstract_shapes, output_shape
from resnet_spec_numpy.sums import ORDERS, Order

__all__ = [
    "ORDERS",
    "PRECISIONS",
    "Node",
    "NodeGradients",
    "Order",
    "Session",
    "abstract_shapes",
    "build",
    "output_shape",
]
