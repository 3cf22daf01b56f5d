"""Shapes of a plan's network as MindSpore sees them.

MindSpore has no device without memory: the cells are built with zeros, and one pass is run op by
op, which compiles nothing.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np

from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec_mindspore.modules import empty
from resnet_spec_mindspore.weights import parameters_of


def abstract_shapes(plan: Plan) -> dict[str, Shape]:
    """Return {canonical name: shape} of the native cell's parameters and statistics."""
    return {name: tuple(p.shape) for name, p in parameters_of(empty(plan), plan).items()}


def output_shape(plan: Plan, batch: int) -> Shape:
    """Return the shape of the native cell's output for `batch` images of the plan's size."""
    image = plan.input
    images = np.zeros((batch, image.channels, image.height, image.width), np.float32)
    cell: Any = empty(plan)  # What a Cell returns has no type in MindSpore.
    return tuple(cell(ms.Tensor(images)).shape)
