"""Shapes of a plan's network as torch sees them, without its memory (the "meta" device)."""

from __future__ import annotations

import torch

from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec_torch.modules import build
from resnet_spec_torch.weights import weights_of


def abstract_shapes(plan: Plan) -> dict[str, Shape]:
    """Return {canonical name: shape} of the native module's parameters and statistics."""
    with torch.device("meta"):
        network = build(plan)
    return {name: tuple(tensor.shape) for name, tensor in weights_of(network, plan).items()}


def output_shape(plan: Plan, batch: int) -> Shape:
    """Return the shape of the native module's output for `batch` images of the plan's size."""
    image = plan.input
    with torch.device("meta"):
        network = build(plan).eval()
        images = torch.empty(batch, image.channels, image.height, image.width)
        return tuple(network(images).shape)
