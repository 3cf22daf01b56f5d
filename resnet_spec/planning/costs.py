"""What a plan costs: parameters, multiply-accumulates, memory and receptive field, all exact.

Folds over the plan in plain integers; needs no framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_spec.ops import Gate, Op, Shape, Tensor
from resnet_spec.plan import Plan
from resnet_spec.planning.dataflow import Step, Value, image, steps
from resnet_spec.planning.op_rows import row_of

MACS_CONVENTION = (
    "multiply-accumulates of convolutions and linear layers for one image, a bias counting as one "
    "per output value; two FLOPs each"
)
PARAMS_CONVENTION = "trainable values; running means and variances are not counted"
MEMORY_CONVENTION = (
    "float32; for one training image, what the backward pass needs: inputs of convolutions, norms, "
    "linear layers, max-pools and gates, outputs of activations, each once"
)
FIELD_CONVENTION = "pixels of the image along one side; gates, which see all of it, left out"

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class StageRow:
    """One part of the network: `stem`, `layer1` ... or `stages.0` ..., `head`.

    output_shape: (channels, height, width), or (classes,).
    receptive_field: in pixels along the longer side, at the stage's output.
    """

    name: str
    output_shape: Shape
    params: int
    macs: int
    receptive_field: int


@dataclass(frozen=True, slots=True)
class Description:
    """The costs of one plan; see the `*_CONVENTION` texts for what is counted."""

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    params: int
    statistics: int
    """Values of running means and variances."""
    macs: int
    weight_bytes: int
    """Parameters and statistics."""
    activation_bytes: int
    """What training keeps for one image."""
    stages: tuple[StageRow, ...]
    tensors: tuple[Tensor, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `input_size` is one number for square images, else [h, w]."""
        channels, height, width = self.input_shape
        return {
            "name": self.name,
            "params": self.params,
            "macs": self.macs,
            "input_size": height if height == width else [height, width],
            "input_channels": channels,
            "classes": self.classes,
            "statistics": self.statistics,
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
            "conventions": {
                "params": PARAMS_CONVENTION,
                "macs": MACS_CONVENTION,
                "memory": MEMORY_CONVENTION,
                "receptive_field": FIELD_CONVENTION,
            },
            "stages": [
                {
                    "name": row.name,
                    "output_shape": list(row.output_shape),
                    "params": row.params,
                    "macs": row.macs,
                    "receptive_field": row.receptive_field,
                }
                for row in self.stages
            ],
            "tensors": [
                {"name": t.name, "shape": list(t.shape), "role": t.role} for t in self.tensors
            ],
        }


def describe(plan: Plan) -> Description:
    """Return what `plan` costs in all and by stage."""
    flow = tuple(steps(plan))
    stages = _stage_rows(flow, image(plan), plan.sections)
    statistics = sum(math.prod(t.shape) for t in plan.tensors if t.is_statistic)
    params = count_params(plan.tensors)
    return Description(
        name=plan.name,
        input_shape=(plan.input.channels, plan.input.height, plan.input.width),
        classes=plan.classes,
        params=params,
        statistics=statistics,
        macs=count_macs(plan.ops),
        weight_bytes=_FLOAT32_BYTES * (params + statistics),
        activation_bytes=_FLOAT32_BYTES * _kept_values(flow),
        stages=stages,
        tensors=plan.tensors,
    )


def count_params(tensors: Iterable[Tensor]) -> int:
    """Return the number of trainable values; frozen ones count, statistics do not."""
    return sum(math.prod(tensor.shape) for tensor in tensors if not tensor.is_statistic)


def count_macs(ops: Iterable[Op]) -> int:
    """Return the multiply-accumulates for one image (see `MACS_CONVENTION`)."""
    return sum(row_of(op).macs(op) for op in ops)


def _stage_rows(
    flow: tuple[Step, ...], source: Value, sections: Mapping[str, str]
) -> tuple[StageRow, ...]:
    fields = _receptive_fields(flow, source)
    parts: dict[str, list[Step]] = {}
    for step in flow:
        parts.setdefault(sections[step.node.name], []).append(step)
    rows: list[StageRow] = []
    for name, part in parts.items():
        ops = [step.node for step in part if not isinstance(step.node, Gate)]
        output = part[-1].output
        params = count_params(tensor for op in ops for tensor in op.tensors)
        rows.append(StageRow(name, output.shape, params, count_macs(ops), fields[output.name]))
    return tuple(rows)


def _receptive_fields(flow: tuple[Step, ...], source: Value) -> dict[str, int]:
    """Return for each value how many pixels of the image one of its entries sees along a side.

    With (field, step) of the input, a window of reach r sees field + r * step, and its neighbour
    lies stride * step pixels further (Araujo et al. 2019, distill.pub/2019/computing-receptive-
    fields). Of two paths the wider one counts.
    """
    seen = {source.name: (1, 1)}
    for node, inputs, output in flow:
        read = inputs[:1] if isinstance(node, Gate) else inputs
        field = max(seen[value.name][0] for value in read)
        step = seen[read[0].name][1]
        reach, stride = (0, 1) if isinstance(node, Gate) else row_of(node).window(node)
        seen[output.name] = (field + reach * step, stride * step)
    return {name: field for name, (field, _) in seen.items()}


def _kept_values(flow: tuple[Step, ...]) -> int:
    """Return how many values training keeps for one image (see `MEMORY_CONVENTION`)."""
    kept: dict[str, int] = {}
    for node, inputs, output in flow:
        what = "inputs" if isinstance(node, Gate) else row_of(node).kept
        if what == "inputs":
            kept.update((value.name, math.prod(value.shape)) for value in inputs)
        elif what == "output":
            kept[output.name] = math.prod(output.shape)
    return sum(kept.values())
