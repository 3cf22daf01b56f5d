"""Small networks that together use every option of a spec, for every backend to agree on.

Each compiles quickly and still has what can go wrong: several channels, a strided block, maps
larger than their kernels. No strided 1x1 convolution has fewer than 8 input channels: torch 2.13's
float32 backward kernel for it in channels_last (oneDNN, AVX2) overruns the heap there. A new field
of the spec gets a line here (test_cases.py asks for it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resnet_spec.describing.spec import Spec
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower

_SMALL_STEM = {"widths": [8], "kernel": 3, "stride": 1, "pool": False}
_STAGES = [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]


@dataclass(frozen=True)
class Case:
    """Fields of a spec over those of a small network, and the input's size in pixels."""

    name: str
    fields: dict[str, Any] = field(hash=False)
    size: int | tuple[int, int] = 10

    @property
    def spec(self) -> Spec:
        small: dict[str, Any] = {
            "name": self.name,
            "classes": 5,
            "block": "basic",
            "stem": _SMALL_STEM,
            "stages": _STAGES,
        }
        channels = self.fields.get("input", {}).get("channels", 3)
        images: dict[str, Any] = {
            "size": self.size if isinstance(self.size, int) else self.size[0],
            "mean": [0.5] * channels,  # Images around zero: else the stem has channels that
            "std": [0.25] * channels,  # never pass a ReLU, and faults there go unseen.
        }
        more = self.fields | {"input": images | self.fields.get("input", {})}
        return Spec(**(small | more))

    @property
    def plan(self) -> Plan:
        return lower(self.spec, self.size)


_ALL = [
    Case(
        "imagenet_stem",
        {
            "stem": {"widths": [8]},
            "stages": [{"width": 8, "blocks": 2}, {"width": 12, "blocks": 1, "stride": 2}],
            "input": {"mean": [0.5, 0.45, 0.4], "std": [0.2, 0.25, 0.3]},
        },
        size=20,
    ),
    Case("bottleneck", {"block": "bottleneck", "norm": {"eps": 1e-3, "decay": 0.8}}),
    Case(
        "stride_on_1x1",
        {"block": "bottleneck", "stride_position": "1x1", "norm": {"variance": "biased"}},
    ),
    Case(
        "deep_stem_avg_pool",  # An odd size: the last window of the shortcut's pool is cut off.
        {
            "stem": {"widths": [4, 4, 8], "kernel": 3, "stride": 1, "pool": False},
            "downsample": "avg_pool",
        },
        size=11,
    ),
    Case(
        "tiered_stem_squeeze",
        {
            "stem": {"widths": [3, 4, 8], "kernel": 3, "stride": 2, "pool": False},
            "squeeze": 0.25,
        },
        size=16,
    ),
    Case("zero_pad_end", {"shortcut": "zero_pad"}),
    Case("zero_pad_both", {"shortcut": "zero_pad", "zero_pad_at": "both", "init": "lecun"}, 11),
    Case(
        "projection_all",
        {"block": "bottleneck", "shortcut": "projection_all", "expansion": 2},
    ),
    Case("plain", {"shortcut": "none", "init": "he_fan_in"}),
    Case("groups", {"block": "bottleneck", "groups": 2, "width_per_group": 32}),
    Case(
        "same_padding",
        {
            "padding": "same",
            "stem": {"widths": [8]},
            "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}],
        },
        size=16,
    ),
    Case(
        "explicit_stem_in_same",  # Flax's ImageNet example has such a stem, and pools with SAME.
        {
            "padding": "same",
            "stem": {"widths": [8], "padding": "explicit", "pool_padding": "explicit"},
        },
        size=16,
    ),
    Case(
        "same_stem_in_explicit",  # MindCV's pool, and a stem of the same kind.
        {"stem": {"widths": [8], "padding": "same", "pool_padding": "same"}},
        size=16,
    ),
    Case(
        "dilation",
        {
            "stages": [
                {"width": 8, "blocks": 1},
                {"width": 12, "blocks": 2, "dilation": 2},
            ]
        },
        size=8,
    ),
    Case(
        "zero_init",
        {"zero_init_last_norm": True, "squeeze": 0.25, "block": "bottleneck", "expansion": 2},
    ),
    Case(
        # Maps of one pixel in the end, all around which is padding.
        "one_pixel",
        {
            "stem": {"widths": [8], "kernel": 3, "stride": 2, "pool": True},
            "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 2, "stride": 2}],
        },
        size=8,
    ),
    Case(
        # `sync` changes nothing that one process could see; test_lowering.py tells them apart.
        "one_channel_not_square",
        {"input": {"channels": 1}, "norm": {"sync": "replica"}},
        size=(8, 13),
    ),
    Case(
        "noise",
        {
            "stochastic_depth": 0.5,
            "dropout": 0.25,
            "stages": [{"width": 8, "blocks": 2}, {"width": 12, "blocks": 1, "stride": 2}],
        },
    ),
    Case(
        "pre_activation_bottleneck",
        {
            "order": "pre_activation",
            "block": "bottleneck",
            "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": True},
        },
        size=14,
    ),
    Case(
        "pre_activation_everything",
        {
            "order": "pre_activation",
            "stem": {"widths": [4, 8], "kernel": 3, "stride": 1, "pool": False},
            "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 2, "stride": 2}],
            "downsample": "avg_pool",
            "stochastic_depth": 0.5,
            "dropout": 0.25,
            "squeeze": 0.25,
        },
        size=9,
    ),
]

CASES = {case.name: case for case in _ALL}
