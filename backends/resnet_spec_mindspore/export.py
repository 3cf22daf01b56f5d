"""Files of the native cell: MINDIR.

Reached by name (`contract`, "export"). Imported only when something is exported.
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from resnet_spec.contract import Array
from resnet_spec.ops import MaxPool as MaxPoolOp
from resnet_spec.plan import Input, Plan
from resnet_spec_mindspore.modules import build
from resnet_spec_mindspore.one_pixel import OnePixelConv2d
from resnet_spec_mindspore.pools import replaced
from resnet_spec_mindspore.warmup import silenced
from resnet_spec_mindspore.weights import to_array, to_tensor


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

    kind: "mindir"; `path` ends in .mindir. batch: images at a time, None for any number. raw:
    whether it takes uint8 [N, H, W, C] instead of normalised float32 [N, C, H, W]. metadata: a text
    that the file carries.
    """
    image = plan.input
    network = build(plan, dict(state))
    for _, part in network.cells_and_names():
        if isinstance(part, OnePixelConv2d):
            part.be_plain()
    replaced(network, plan, MaxPool)
    cell: nn.Cell = RawNetwork(network, image) if raw else Network(network)
    cell.set_train(False)
    planes = (image.height, image.width)
    shape = [batch, *planes, image.channels] if raw else [batch, image.channels, *planes]
    images = Tensor(shape=shape, dtype=ms.uint8 if raw else ms.float32)

    def describe(model: Any) -> None:
        model.user_info["resnet_spec"] = metadata

    with silenced():
        ms.export(cell, images, file_name=str(path), file_format="MINDIR", custom_func=describe)
    return f"MindSpore {ms.__version__}"


def read(path: Path, kind: str) -> Callable[[Array], Array]:
    """Return the function in a file of `write`, from images to logits, as NumPy arrays."""
    with silenced():
        cell: Any = nn.GraphCell(ms.load(str(path)))
    return lambda images: to_array(cell(to_tensor(images)))


class MaxPool(nn.Cell):
    """`nn.MaxPool2d` whose shapes are numbers wherever the plan has them.

    Its own `squeeze` cannot be loaded from a MINDIR with any number of images (MindSpore 2.10).
    """

    def __init__(self, op: MaxPoolOp, pool: nn.Cell) -> None:
        super().__init__()
        self.pool: Any = pool.max_pool
        channels, *planes = op.in_shape
        self.deep = (-1, channels, 1, *planes)
        self.flat = (-1, *op.out_shape)

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H', W']."""
        return self.pool(x.reshape(self.deep))[0].reshape(self.flat)


class Network(nn.Cell):
    """The network with `images` as the name of its only input; parameters keep their names."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network: Any = network

    def construct(self, images: Tensor) -> Tensor:
        """Normalised float32 [N, C, H, W] to logits [N, classes]."""
        return self.network(images)


class RawNetwork(Network):
    """The network behind the normalisation of its images."""

    def __init__(self, network: nn.Cell, image: Input) -> None:
        super().__init__(network)
        self.scale, self.shift = (
            Tensor(np.array(values, np.float32).reshape(-1, 1, 1))
            for values in (image.scale, image.shift)
        )

    def construct(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, C] to logits [N, classes]."""
        planes = ops.transpose(images, (0, 3, 1, 2)).astype(ms.float32)
        return self.network(planes * self.scale + self.shift)
