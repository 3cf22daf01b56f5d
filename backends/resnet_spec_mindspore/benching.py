"""What `resnet-spec bench` asks of MindSpore: a matrix product's speed.

Reached by name (`manifest.toml`, "bench"). Imported only when something is benched.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import ops

from resnet_spec.bench import Case, Product
from resnet_spec_mindspore.devices import find_device

_SIZE, _SIZE_OF_AN_ACCELERATOR = 1024, 4096


def product(case: Case) -> Product:
    """Return the product of two matrices in the case's precision, on the process's device."""
    size = _SIZE if find_device(case.device) == "CPU" else _SIZE_OF_AN_ACCELERATOR
    dtype = getattr(ms, case.precision)

    def turn(count: int) -> None:
        a: Any = ops.full((size, size), 0.5, dtype=dtype)
        found: Any = a
        for _ in range(count):
            found = ops.matmul(a, a)
        found[0, 0].astype(ms.float32).asnumpy()

    return Product(size, turn)
