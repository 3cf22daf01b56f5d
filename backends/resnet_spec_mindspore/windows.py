"""Convolutions with one window: which are computed as matrix products, and what is picked for them.

Imports no framework.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet_spec.ops import Conv, Met

Window = tuple[Met, Met]
"""What meets in the only window, by rows and by columns."""

FEWEST = 8
"""Images from which on a product is quicker, in prediction and in training.

For fewer, picking a kernel's values takes longer than MindSpore's convolution of so few images, and
prediction is slower, 1x1 over 1x1 included. Gradients gain for fewer, but the whole step hardly.
"""


def is_product(op: Conv, images: int) -> bool:
    """Return whether `op` is computed as a product for so many images."""
    return op.only_window is not None and images >= FEWEST


def picker(size: tuple[int, int], rows: range, columns: range) -> NDArray[np.float32] | None:
    """Return the matrix [size, picked] by which [M, size] is multiplied to pick from a plane.

    None where all is picked, in order.
    """
    count = size[0] * size[1]
    found = [row * size[1] + column for row in rows for column in columns]
    if found == list(range(count)):
        return None
    matrix = np.zeros((count, len(found)), np.float32)
    matrix[found, range(len(found))] = 1.0
    return matrix
