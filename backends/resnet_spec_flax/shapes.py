"""Shapes of a plan's network as Flax sees them, traced without its memory."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec_flax.devices import cpu
from resnet_spec_flax.modules import ResNet, abstract
from resnet_spec_flax.weights import canonical_shape, path_of


def abstract_shapes(plan: Plan) -> dict[str, Shape]:
    """Return {canonical name: shape, canonical layout} of the native module's variables."""
    variables = dict(nnx.to_flat_state(nnx.state(_abstract(plan), (nnx.Param, nnx.BatchStat))))
    found = {t.name: canonical_shape(t, variables.pop(path_of(t)).shape) for t in plan.tensors}
    assert not variables, f"variables the plan does not have: {list(variables)}"
    return found


def output_shape(plan: Plan, batch: int) -> Shape:
    """Return the shape of the native module's output for `batch` images of the plan's size."""
    graph, variables = nnx.split(_abstract(plan))
    image = plan.input
    images = jax.ShapeDtypeStruct((batch, image.height, image.width, image.channels), jnp.float32)
    return jax.eval_shape(lambda v, x: nnx.merge(graph, v)(x), variables, images).shape


@lru_cache(maxsize=1)  # Deep networks take seconds, and both functions are asked in turn.
def _abstract(plan: Plan) -> ResNet:
    with jax.default_device(cpu()):
        network = abstract(plan)
    network.eval()
    return network
