"""Max-pooling where nothing goes backwards: `nn.MaxPool2d` keeps which pixels were largest."""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from resnet_spec.ops import Activation, MaxPool
from resnet_spec.plan import Plan


class ForwardMaxPool(nn.Cell):
    """The maximum over windows of [N, C, H, W] by oneDNN, which tells nobody where it was.

    On a CPU MindSpore's own kernel takes several times as long, though backwards it is the quicker
    one of both (`scripts/mindspore_pools.py`). NaN is smaller than any number to oneDNN, and lost.
    """

    def __init__(self, op: MaxPool) -> None:
        super().__init__()
        # Of images with depth: the operation for those without takes no padding as numbers.
        make: Any = ops.MaxPool3D  # Annotated as if it took numbers alone.
        self.pool: Any = make(
            kernel_size=(1, op.kernel, op.kernel),
            strides=(1, op.stride, op.stride),
            pad_mode="pad",
            pad_list=(0, 0, *op.pad),
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H', W']."""
        return self.pool(x.expand_dims(2)).squeeze(2)


def replaced(
    network: nn.Cell, plan: Plan, make: Callable[[MaxPool, nn.Cell], nn.Cell | None]
) -> None:
    """Put what `make` makes of each max-pool and its cell in that one's place; None leaves it."""
    cells = {"": network, **dict(network.cells_and_names())}
    for op in plan.ops:
        cell = make(op, cells[op.name]) if isinstance(op, MaxPool) else None
        if cell is not None:
            parent: Any = cells[op.name.rpartition(".")[0]]
            parent[list(parent.name_cells()).index(op.key)] = cell


def quicken(network: nn.Cell, plan: Plan) -> None:
    """Replace the max-pools of a network that only predicts, on a CPU.

    Those that follow a ReLU, which MindSpore takes of NaN to 0 itself: others keep what is NaN.
    """
    if ms.get_context("device_target") != "CPU":
        return
    after = {op.name for before, op in pairwise(plan.ops) if _is_relu(before)}
    replaced(network, plan, lambda op, cell: ForwardMaxPool(op) if op.name in after else None)


def _is_relu(op: object) -> bool:
    return isinstance(op, Activation) and op.kind == "relu"
