"""Files of the native module: StableHLO, serialised by `jax.export`.

Reached by name (`contract`, "export"). Imported only when something is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from resnet_spec.contract import Array
from resnet_spec.plan import Input, Plan
from resnet_spec_flax.devices import cpu
from resnet_spec_flax.modules import build

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What one file runs on."""


def write(
    path: Path,
    plan: Plan,
    state: Mapping[str, Array],
    kind: str,
    *,
    batch: int | None,
    raw: bool,
    metadata: str,
) -> str:
    """Write the network to `path`; return what there is to say of the format, in a few words.

    kind: "stablehlo". batch: images at a time, None for any number. raw: whether it takes uint8
    [N, H, W, C] instead of normalised float32 in that layout. metadata: has no place in the format.
    """
    image = plan.input
    count = export.symbolic_shape("batch")[0] if batch is None else batch
    shape = (count, image.height, image.width, image.channels)
    images = jax.ShapeDtypeStruct(shape, jnp.uint8 if raw else jnp.float32)
    logits = _function(plan, state, image if raw else None)
    exported = export.export(jax.jit(logits), platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())
    return f"jax {jax.__version__} for {'/'.join(PLATFORMS)}"


def read(path: Path, kind: str) -> Callable[[Array], Array]:
    """Return the function in a file of `write`, from images to logits, as NumPy arrays."""
    exported = export.deserialize(bytearray(path.read_bytes()))

    def run(images: Array) -> Array:
        with jax.default_device(cpu()):
            return np.asarray(exported.call(images))

    return run


def _function(
    plan: Plan, state: Mapping[str, Array], image: Input | None
) -> Callable[[jax.Array], jax.Array]:
    """Return the network in evaluation mode, its weights constants in it.

    image: what normalises uint8 images; None where they are normalised already.
    """
    network = build(plan, dict(state))
    network.eval()
    graph, variables = nnx.split(network)

    def logits(images: jax.Array) -> jax.Array:
        # Without it, products would be TF32 on GPUs and bfloat16 on TPUs, which nothing checked.
        with jax.default_matmul_precision("highest"):
            if image is not None:
                scale, shift = (jnp.array(a, jnp.float32) for a in (image.scale, image.shift))
                images = images.astype(jnp.float32) * scale + shift
            return nnx.merge(graph, variables)(images)

    return logits
