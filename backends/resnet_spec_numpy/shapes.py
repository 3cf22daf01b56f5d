"""Shapes of a plan's network as the reference computes them: weights of zeros, and one pass."""

from __future__ import annotations

import numpy as np

from resnet_spec.contract import Batch
from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec_numpy.session import Session


def abstract_shapes(plan: Plan) -> dict[str, Shape]:
    """Return {canonical name: shape} of the network's weights and statistics."""
    return {name: array.shape for name, array in Session(plan).state().items()}


def output_shape(plan: Plan, batch: int) -> Shape:
    """Return the shape of the logits for `batch` images of the plan's size."""
    image = plan.input
    images = np.zeros((batch, image.height, image.width, image.channels), np.uint8)
    places = np.arange(batch)
    (logits,) = Session(plan, precision="float32").predict([Batch(images, places, places)])
    return logits.shape
