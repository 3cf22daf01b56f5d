"""The faults of patches.py as MindSpore cells, which work in graph mode too."""

# MindSpore's cells are untyped.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops


class _Around(nn.Cell):
    """A cell around the one that it replaces; `shape` is that one's output, without the batch."""

    def __init__(self, layer: nn.Cell, shape: tuple[int, ...] | None) -> None:
        super().__init__(auto_prefix=False)
        for name, child in layer.name_cells().items():
            self.insert_child_to_cell(name, child)  # Found by the names that they had.
        for name, parameter in layer.parameters_and_names(expand=False):
            self.insert_param_to_cell(name, parameter)
        self.layer: Any = layer


class GradientEverywhere(_Around):
    def construct(self, x: Tensor) -> Tensor:
        return x + ops.stop_gradient(self.layer(x) - x)


class StatisticsConstant(_Around):
    def construct(self, x: Tensor) -> Tensor:
        y = ops.stop_gradient(self.layer(x))
        centred = x - ops.stop_gradient(ops.mean(x, (0, 2, 3), True))
        variance = ops.mean(ops.stop_gradient(centred * centred), (0, 2, 3), True)
        scale = self.layer.gamma.reshape(1, -1, 1, 1)
        shift = self.layer.beta.reshape(1, -1, 1, 1)
        free = centred / ops.sqrt(variance + self.layer.eps) * scale + shift
        return y + free - ops.stop_gradient(free)


class ShortcutDetached(_Around):
    def construct(self, body: Tensor, shortcut: Tensor) -> Tensor:
        return self.layer(body, ops.stop_gradient(shortcut))


class GradientHalved(_Around):
    def construct(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return 0.5 * y + ops.stop_gradient(0.5 * y)


class NotGated(_Around):
    def construct(self, x: Tensor) -> Tensor:
        return x + 0.0 * self.layer(x)


class FactorsDetached(_Around):
    def construct(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return x * ops.stop_gradient(y / x) + 0.0 * y


class BodyAlone(_Around):
    def construct(self, body: Tensor, shortcut: Tensor) -> Tensor:
        return body + 0.0 * shortcut


class Leaking(_Around):
    def construct(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y + 0.01 * (x - y)


class BatchStatisticsAlways(_Around):
    def construct(self, x: Tensor) -> Tensor:
        centred = x - ops.mean(x, (0, 2, 3), True)
        deviation = ops.sqrt(ops.mean(centred * centred, (0, 2, 3), True) + self.layer.eps)
        scale = self.layer.gamma.reshape(1, -1, 1, 1)
        return centred / deviation * scale + self.layer.beta.reshape(1, -1, 1, 1)


class OverWidthAlone(_Around):
    def construct(self, x: Tensor) -> Tensor:
        return ops.mean(x, (3,), False)[:, :, 0]


class PaddedWithZeros(_Around):
    def __init__(self, layer: nn.Cell, shape: tuple[int, ...] | None) -> None:
        super().__init__(layer, shape)
        assert shape is not None
        edge = np.zeros(shape[1:], np.float32)
        edge[0, :] = edge[:, 0] = 1.0
        self.edge = Tensor(edge)

    def construct(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y + (ops.relu(y) - y) * self.edge


CELLS: dict[str, Any] = {
    "gradient_everywhere": GradientEverywhere,
    "statistics_constant": StatisticsConstant,
    "shortcut_detached": ShortcutDetached,
    "gradient_halved": GradientHalved,
    "not_gated": NotGated,
    "factors_detached": FactorsDetached,
    "body_alone": BodyAlone,
    "leaking": Leaking,
    "batch_statistics_always": BatchStatisticsAlways,
    "over_width_alone": OverWidthAlone,
    "padded_with_zeros": PaddedWithZeros,
}
