"""The Spec: a residual network as a frozen, validated value.

Holds what a person decides; everything that follows from it is worked out by `lowering.lower`. Read
and written by `Spec.from_dict`/`to_dict` and by `spec_files` (TOML, JSON, preset names).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from resnet_spec.describing.descriptions import Description, Fraction, Positive, Table
from resnet_spec.errors import SpecError, problem

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Padding = Literal["explicit", "same"]


class Input(Table):
    """The images, and the statistics they are normalised with.

    `mean` and `std` are empty until a dataset or a checkpoint fixes them (`train` fills in those of
    its data).
    """

    size: Annotated[int, Field(ge=1, le=65_536)] = 224
    """Pixels per side."""
    channels: Count = 3
    mean: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """Per channel, in units of an image scaled to 0..1."""
    std: Annotated[tuple[Positive, ...], Field(strict=False)] = ()
    """Per channel, in units of an image scaled to 0..1."""


class Stem(Table):
    """The layers before the first stage.

    [64] with kernel 7 is the ImageNet stem, [32, 32, 64] with kernel 3 the deep stem (He et al.
    2019, ResNet-C), [24, 32, 64] the tiered one (timm's `t`). `padding` and `pool_padding` are for
    stems that are padded by another rule than the rest.
    """

    widths: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=64)] = (64,)
    """One convolution per entry, with so many channels."""
    kernel: Count = 7
    """Of all the stem's convolutions; odd."""
    stride: Count = 2
    """Of the first convolution."""
    pool: bool = True
    """Whether a 3x3 max-pool of stride 2 ends the stem."""
    padding: Padding | None = None
    """Of the stem's convolutions; None: as the network's `padding`."""
    pool_padding: Padding | None = None
    """Of the stem's max-pool; None: as the network's `padding`."""


class Stage(Table):
    """Blocks of one resolution. A stage puts out width * expansion channels."""

    width: Count
    """Channels inside the blocks; of bottlenecks, before `width_per_group`."""
    blocks: Count
    stride: Count = 1
    """Of the first block."""
    dilation: Count = 1
    """Of the 3x3 convolutions; the first block's first keeps that of the stage before.

    As in torchvision and timm.
    """


class Norm(Table):
    """Batch normalisation."""

    eps: Positive = 1e-5
    """Added to the variance."""
    decay: Fraction = 0.9
    """Fraction of the old running value that is kept; torch writes 0.1 for 0.9."""
    variance: Literal["unbiased", "biased"] = "unbiased"
    """Which batch variance enters the running variance.

    `unbiased` as in torch, n/(n-1) times the batch's; `biased` as in Flax and Keras.
    """
    sync: Literal["global", "replica"] = "global"
    """Over what the statistics of a step with several processes are taken.

    Over the images of all of them (`global`), or in each one (`replica`).
    """


class Spec(Description):
    """A residual network. `docs/spec.md` lists every field with its source."""

    error = SpecError

    name: Annotated[str, Field(min_length=1, max_length=200)] = "custom"
    """Goes into file names: no slash, backslash or control character."""
    classes: Count = 1000
    """Outputs of the classifier."""
    input: Input = Input()
    stem: Stem = Stem()
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1, max_length=64)]
    """At most 10,000 blocks in all."""
    block: Literal["basic", "bottleneck"]
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 (He et al. 2015, figure 5)."""
    expansion: Count = 1
    """Output channels per unit of width; 1 for basic and 4 for bottleneck unless given."""
    order: Literal["post_activation", "pre_activation"] = "post_activation"
    """Norm and activation after the convolutions (He et al. 2015) or before (He et al. 2016)."""
    stride_position: Literal["3x3", "1x1"] = "3x3"
    """Which convolution of a bottleneck has the stride.

    `1x1` is He et al. 2015 ("v1"), `3x3` is "v1.5".
    """
    groups: Count = 1
    """Groups of a bottleneck's 3x3 convolution (Xie et al. 2017)."""
    width_per_group: Count = 64
    """Channels of each group in a stage of width 64, in proportion elsewhere."""
    shortcut: Literal["projection", "zero_pad", "projection_all", "none"] = "projection"
    """He et al. 2015, section 3.3: B, A, C, and plain networks."""
    zero_pad_at: Literal["end", "both"] = "end"
    """Where shortcut A adds its zero channels: after the others, or half before and half after."""
    downsample: Literal["conv", "avg_pool"] = "conv"
    """Strided 1x1 convolution, or 2x2 average pool and 1x1 convolution (ResNet-D)."""
    squeeze: Fraction = 0.0
    """Squeeze-and-excitation: reduced channels as a fraction of the block's output; 0 is off."""
    norm: Norm = Norm()
    padding: Padding = "explicit"
    """`explicit`: (k-1)/2 on every side. `same`: TensorFlow's rule, uneven at stride 2."""
    zero_init_last_norm: bool = False
    """Start every block as its shortcut: the last norm's scale is 0 (Goyal et al. 2017)."""
    stochastic_depth: Fraction = 0.0
    """Probability of dropping the last block; grows linearly from 0 at the first block."""
    init: Literal["he_fan_out", "he_fan_in", "lecun"] = "he_fan_out"
    """Of convolutions: He et al. 2015b by either fan, or LeCun's truncated normal, as Flax."""
    dropout: Fraction = 0.0
    """Fraction of the features that is dropped before the classifier."""

    def __init__(self, /, **data: Any) -> None:  # For type checkers: dicts stand for tables.
        super().__init__(**data)

    @model_validator(mode="before")
    @classmethod
    def _default_expansion(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = cast(Mapping[str, Any], data)
        return {"expansion": 4 if given.get("block") == "bottleneck" else 1, **given}

    def broken_rules(self) -> Iterator[str]:
        """See `Description.broken_rules`."""
        return _broken_rules(self)


_MOST_BLOCKS = 10_000
"""Bounds the time and memory that any spec can take to lower; ResNet-1202 has 600 blocks."""


def _broken_rules(spec: Spec) -> Iterator[str]:
    """Yield a line for each rule that `spec` breaks beyond the range of a single number."""
    if not spec.name.isprintable() or set(spec.name) & set("/\\"):
        rule = "must hold no slash, backslash or control character"
        yield problem("name", json.dumps(spec.name), rule)
    blocks = sum(stage.blocks for stage in spec.stages)
    if blocks > _MOST_BLOCKS:
        yield problem("stages", f"{blocks} blocks", f"must have at most {_MOST_BLOCKS} in all")
    if spec.block == "basic":
        if spec.groups != 1:
            yield problem(
                "groups", spec.groups, "must be 1 with basic blocks", 'use block = "bottleneck"'
            )
        if spec.width_per_group != 64:
            rule = "must be 64 with basic blocks"
            yield problem(
                "width_per_group", spec.width_per_group, rule, "change the stage widths instead"
            )
        if spec.stride_position != "3x3":
            yield problem("stride_position", '"1x1"', "basic blocks have no 1x1 convolution")
    else:
        for i, stage in enumerate(spec.stages):
            if stage.width * spec.width_per_group < 64:
                rule = "gives the 3x3 convolution no channel"
                yield problem(
                    f"stages[{i}].width", stage.width, rule, "raise it or width_per_group"
                )
    if spec.stem.kernel % 2 == 0:
        yield problem("stem.kernel", spec.stem.kernel, "must be odd")
    if spec.order == "pre_activation" and spec.zero_init_last_norm:
        rule = "pre-activation blocks end in a convolution, not a norm"
        yield problem("zero_init_last_norm", "true", rule, "set it to false")
    if spec.shortcut == "none" and spec.stochastic_depth > 0:
        rule = "needs shortcuts, and shortcut is none"
        yield problem("stochastic_depth", spec.stochastic_depth, rule, "set it to 0.0")
    if spec.shortcut == "zero_pad" and spec.downsample == "avg_pool":
        rule = 'has no convolution to put the pool before with shortcut = "zero_pad"'
        yield problem("downsample", '"avg_pool"', rule, 'set it to "conv"')
    if spec.shortcut == "zero_pad":
        yield from _shrinking_stages(spec)
    for key, values in (("mean", spec.input.mean), ("std", spec.input.std)):
        if len(values) not in (0, spec.input.channels):
            rule = f"must have {spec.input.channels} entries, as input.channels, or none"
            yield problem(f"input.{key}", list(values), rule)
    if bool(spec.input.mean) != bool(spec.input.std):
        yield "input.mean, input.std: must be given together"


def _shrinking_stages(spec: Spec) -> Iterator[str]:
    before = spec.stem.widths[-1]
    for i, stage in enumerate(spec.stages):
        width = stage.width * spec.expansion
        if width < before:
            rule = f"shortcut A cannot go from {before} channels to {width}"
            yield problem(f"stages[{i}].width", stage.width, rule, 'use shortcut = "projection"')
        before = width
