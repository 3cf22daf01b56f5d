"""A ResNet of linen's own layers, as in Flax's ImageNet example, which is no package."""

from __future__ import annotations

from functools import partial
from typing import Any

from flax import linen as nn

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
_BASIC = ("resnet18", "resnet34")


class Linen(nn.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
    """One of `BLOCKS` (v1.5), padded SAME but for the first convolution."""

    network: str
    classes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        """[N, H, W, 3] to logits [N, classes]."""
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.relu(norm()(conv(64, (7, 7), (2, 2), padding=[(3, 3), (3, 3)])(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for stage, count in enumerate(BLOCKS[self.network]):
            for block in range(count):
                strides = (2, 2) if stage > 0 and block == 0 else (1, 1)
                y = x
                *first, last = self._convolutions(64 * 2**stage, strides)
                for arguments in first:
                    y = nn.relu(norm()(conv(*arguments)(y)))
                y = norm()(conv(*last)(y))
                if x.shape != y.shape:
                    x = norm()(conv(y.shape[-1], (1, 1), strides)(x))
                x = nn.relu(x + y)
        return nn.Dense(self.classes, dtype=self.dtype)(x.mean((1, 2)))

    def _convolutions(self, width: int, strides: tuple[int, int]) -> list[tuple[Any, ...]]:
        """Return (channels, kernel, strides) of a block's convolutions."""
        if self.network in _BASIC:
            return [(width, (3, 3), strides), (width, (3, 3))]
        return [(width, (1, 1)), (width, (3, 3), strides), (4 * width, (1, 1))]
