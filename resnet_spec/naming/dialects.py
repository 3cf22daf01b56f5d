"""How each framework calls the tensors of its layers, and in which order it keeps their axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops import Role

Layout = Literal["OIHW", "HWIO", "OI", "IO", "C"]
"""Order of a tensor's axes: output, input (per group), height, width; or channels alone."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """leaves: role of a tensor -> its name in its layer; layouts: canonical -> the framework's."""

    leaves: dict[Role, str]
    layouts: dict[str, Layout]


_CANONICAL: dict[str, Layout] = {"OIHW": "OIHW", "OI": "OI", "C": "C"}

DIALECTS: dict[str, Dialect] = {
    "torch": Dialect(
        {
            "conv_weight": "weight",
            "linear_weight": "weight",
            "bias": "bias",
            "norm_scale": "weight",
            "norm_shift": "bias",
            "running_mean": "running_mean",
            "running_var": "running_var",
        },
        _CANONICAL,
    ),
    "mindspore": Dialect(
        {
            "conv_weight": "weight",
            "linear_weight": "weight",
            "bias": "bias",
            "norm_scale": "gamma",
            "norm_shift": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
        _CANONICAL,
    ),
    "flax": Dialect(
        {
            "conv_weight": "kernel",
            "linear_weight": "kernel",
            "bias": "bias",
            "norm_scale": "scale",
            "norm_shift": "bias",
            "running_mean": "mean",
            "running_var": "var",
        },
        {"OIHW": "HWIO", "OI": "IO", "C": "C"},
    ),
}
