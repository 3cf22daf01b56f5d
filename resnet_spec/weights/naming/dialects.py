"""What layers call their tensors, and in which order they keep the axes: as files hold them.

Knowledge of other projects' files, whatever backends there are: `keras` has none here. A scheme
names its dialect; so does a backend's manifest, for the networks that people write themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from resnet_spec.ops import Role

Layout = Literal["OIHW", "HWIO", "OI", "IO", "C"]
"""Order of a tensor's axes: output, input (per group), height, width; or channels alone."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """leaves: role of a tensor -> its name in its layer; layouts: canonical -> the framework's.

    collections: role -> what stands before the path in a file. counter: what a norm counts its
    steps in, if it does.
    """

    leaves: dict[Role, str]
    layouts: dict[str, Layout]
    collections: dict[Role, str] = field(default_factory=dict[Role, str])
    counter: str | None = None


_CANONICAL: dict[str, Layout] = {"OIHW": "OIHW", "OI": "OI", "C": "C"}
_CHANNELS_LAST: dict[str, Layout] = {"OIHW": "HWIO", "OI": "IO", "C": "C"}

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
        counter="num_batches_tracked",
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
        _CHANNELS_LAST,
        {
            "conv_weight": "params.",
            "linear_weight": "params.",
            "bias": "params.",
            "norm_scale": "params.",
            "norm_shift": "params.",
            "running_mean": "batch_stats.",
            "running_var": "batch_stats.",
        },
    ),
    "keras": Dialect(
        {
            "conv_weight": "kernel",
            "linear_weight": "kernel",
            "bias": "bias",
            "norm_scale": "gamma",
            "norm_shift": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
        _CHANNELS_LAST,
    ),
}

OF_CANONICAL_NAMES = "torch"
"""The dialect of the canonical names and layouts, which are torchvision's."""
