"""The moving average of weights and statistics, and what goes by the number of a step.

Used by `graphs`, which compiles it with the step.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from resnet_spec.plan import Plan
from resnet_spec.recipe import Average as Settings
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE
from resnet_spec_mindspore.weights import Parameters


def pace_of(settings: Settings, rate: float, keep: float) -> Tensor:
    """Return what `Move` takes: the rate, shape ().

    Where the average varies: the rate, what is kept of it, and what is taken of the weights, (3,).
    """
    return Tensor([rate, keep, 1.0 - keep] if settings.varies else rate, ms.float32)


def _moved(kept: Any, taken: Any, average: Parameter, tensor: Parameter) -> Any:
    return ops.assign(average, kept * average + taken * tensor)


class Average(nn.Cell):
    """The exponential moving average of weights and statistics, in place."""

    def __init__(
        self, settings: Settings, tensors: Sequence[Parameter], averages: Sequence[Parameter]
    ) -> None:
        super().__init__(auto_prefix=False)
        self.kept, self.taken = settings.decay, 1.0 - settings.decay
        self.varies = settings.varies
        self.tensors = ParameterTuple(tensors)
        self.averages = ParameterTuple(averages)
        self.map = ops.HyperMap()

    def construct(self, pace: Tensor) -> tuple[Tensor, ...]:
        """Move every average by one step; return them. pace: see `pace_of`."""
        kept, taken = self.kept, self.taken
        if self.varies:
            kept, taken = pace[1], pace[2]
        return self.map(ops.partial(_moved, kept, taken), self.averages, self.tensors)


class Move(nn.Cell):
    """An optimiser step by the gradients of a whole batch, and what follows of the average."""

    def __init__(self, update: nn.Cell, average: Average | None) -> None:
        super().__init__(auto_prefix=False)
        self.update: Any = update
        self.has_average = average is not None
        self.varies = average is not None and average.varies
        if average is not None:
            self.average = average

    def construct(self, pace: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return what has moved. pace: see `pace_of`."""
        done = self.update(pace[0] if self.varies else pace, *gradients)
        if self.has_average:
            done = done + self.average(pace)
        return done


def average_of(
    plan: Plan, recipe: Recipe, weights: Parameters, slots: Parameters
) -> Average | None:
    """Return the average of all that is not frozen, by name; None where the recipe has none."""
    if recipe.ema.decay == 0:
        return None
    names = [tensor.name for tensor in plan.tensors if not tensor.frozen]
    averages = [slots[f"{AVERAGE}/{name}"] for name in names]
    return Average(recipe.ema, [weights[name] for name in names], averages)
