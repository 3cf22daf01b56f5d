"""What `resnet-spec bench` asks of NumPy: a matrix product's speed.

Reached by name (`manifest.toml`, "bench").
"""

from __future__ import annotations

import numpy as np

from resnet_spec.bench import Case, Product

_SIZE = 1024


def product(case: Case) -> Product:
    """Return the product of two matrices in the case's precision."""

    def turn(count: int) -> None:
        a = np.full((_SIZE, _SIZE), 0.5, case.precision)
        out = np.empty_like(a)
        for _ in range(count):
            np.matmul(a, a, out=out)

    return Product(_SIZE, turn)
