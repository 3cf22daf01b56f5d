"""What `resnet-spec bench` asks of JAX: a matrix product's speed, and the device's memory.

Reached by name (`manifest.toml`, "bench"). Imported only when something is benched.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from resnet_spec.bench import Case, Product
from resnet_spec_flax.devices import find_device, settings

_SIZE, _SIZE_OF_AN_ACCELERATOR = 1024, 4096


def product(case: Case) -> Product:
    """Return the product of two matrices in the case's precision, on its device."""
    device = find_device(case.device)
    size = _SIZE if device.platform == "cpu" else _SIZE_OF_AN_ACCELERATOR
    multiplied = jax.jit(jnp.matmul)

    def turn(count: int) -> None:
        with settings(device, case.precision):
            a = jnp.full((size, size), 0.5, case.precision)
            found = a
            for _ in range(count):
                found = multiplied(a, a)
            jax.block_until_ready(found)

    return Product(size, turn)


def device_bytes() -> int | None:
    """Return the bytes of devices' memory that were held at the most; None where none tells."""
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats]
    return sum(peaks) if peaks else None
