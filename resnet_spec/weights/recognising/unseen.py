"""What tensors do not show: the value taken for it, and why.

A scheme's project fixes some of it in its code (`Scheme.conventions`); the rest is as usual.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming.names import Scheme

Fields = dict[str, Any]
Source = Literal["usual", "scheme", "set", "spec"]


@dataclass(frozen=True, slots=True)
class UnseenField:
    """A field that no tensor shows, its value, and where that is from.

    usual: it is what most networks of this kind have. scheme: the project's code fixes it. set: the
    user said so. spec: the spec that was given does. remedy: settings that say otherwise, as
    `stride_position=1x1`. is_common: whether other projects' networks have such names, too.
    """

    field: str
    value: object
    source: Source
    remedy: tuple[str, ...]
    is_common: bool = False

    @property
    def text(self) -> str:
        """The field and its value, as `stem.pool = true`."""
        return f"{self.field} = {json.dumps(self.value)}"

    @property
    def is_in_doubt(self) -> bool:
        """Whether logits depend on it and nobody has said so."""
        if self.source == "scheme":
            return self.is_common and self.field in _OFTEN_CHANGED
        return self.source == "usual" and not self.field.startswith(_NOT_OF_LOGITS)


_OFTEN_CHANGED = ("stride_position", "norm.eps")
"""In networks that have torchvision's names and not its code."""
_NOT_OF_LOGITS = ("norm.decay", "norm.variance", "input.", "dropout")


def with_assumed_resolution(fields: Fields) -> Fields:
    """Return stem and input at the resolution that networks with such a stem have.

    One 3x3 convolution is the stem for images of 32 pixels (He et al. 2015, section 4.2): neither
    stride nor pool. Any other is ImageNet's.
    """
    stem = fields["stem"]
    is_small = len(stem["widths"]) == 1 and stem["kernel"] == 3
    return {
        **fields,
        "input": {**fields["input"], "size": 32 if is_small else 224},
        "stem": {**stem, "stride": 1 if is_small else 2, "pool": not is_small},
    }


def unseen_fields(
    spec: Spec, scheme: Scheme, settings: Sequence[str], *, is_given: bool = False
) -> tuple[UnseenField, ...]:
    """Return every field of `spec` that its tensors left open.

    is_given: whether a person gave the spec, and nothing in it is as usual.
    """
    said = [setting.partition("=")[0].strip() for setting in settings]
    fixed = set(_paths(scheme.conventions))
    return tuple(
        UnseenField(
            field,
            value,
            _source(field, said, fixed, is_given),
            tuple(remedy),
            scheme.is_common and not is_given,
        )
        for field, value, *remedy in _unseen(spec)
        if field != "downsample" or _hides_pools(scheme, spec)
    )


def _hides_pools(scheme: Scheme, spec: Spec) -> bool:
    """Whether the scheme calls the tensors alike with and without a pool in the shortcuts."""
    small = [{**stage, "blocks": 1} for stage in spec.to_dict()["stages"]]
    kinds = [{"stages": small, "downsample": kind} for kind in ("conv", "avg_pool")]
    try:
        one, other = (scheme.in_file(lower(Spec.from_dict(spec.to_dict() | it))) for it in kinds)
    except CheckpointError:  # The project has only the one.
        return False
    return list(one.values()) == list(other.values())


def _source(field: str, said: Sequence[str], fixed: set[str], is_given: bool) -> Source:
    if is_said(field, said):
        return "set"
    if field in fixed:
        return "scheme"
    return "spec" if is_given else "usual"


def is_said(field: str, said: Sequence[str]) -> bool:
    """Whether one of the paths in `said` sets the field."""
    if field == "stages.stride" and "stages" in said:
        return True
    first, _, last = field.partition(".")
    if first == "stages":
        return any(it.startswith("stages[") and it.endswith(f".{last}") for it in said)
    return any(it == field or it.startswith(f"{field}[") for it in said)


def _paths(fields: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _paths(cast("Mapping[str, object]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _unseen(spec: Spec) -> Iterator[tuple[str, object, *tuple[str, ...]]]:
    """Yield fields that no tensor of such a network shows, their values, and another value."""
    if spec.block == "bottleneck":
        other = "1x1" if spec.stride_position == "3x3" else "3x3"
        yield "stride_position", spec.stride_position, f"stride_position={other}"
    last = len(spec.stages) - 1
    strides, dilations = zip(*((it.stride, it.dilation) for it in spec.stages), strict=True)
    yield "stages.stride", list(strides), f"stages[{last}].stride={3 - min(strides[-1], 2)}"
    yield "stages.dilation", list(dilations), f"stages[{last}].dilation=2"
    if spec.shortcut in ("zero_pad", "none"):
        other = "none" if spec.shortcut == "zero_pad" else "zero_pad"
        yield "shortcut", spec.shortcut, f"shortcut={other}"
    if spec.shortcut == "zero_pad":
        other = "both" if spec.zero_pad_at == "end" else "end"
        yield "zero_pad_at", spec.zero_pad_at, f"zero_pad_at={other}"
    elif spec.shortcut.startswith("projection"):
        other = "avg_pool" if spec.downsample == "conv" else "conv"
        yield "downsample", spec.downsample, f"downsample={other}"
    yield "stem.stride", spec.stem.stride, f"stem.stride={3 - min(spec.stem.stride, 2)}"
    yield "stem.pool", spec.stem.pool, f"stem.pool={str(not spec.stem.pool).lower()}"
    other = "same" if spec.padding == "explicit" else "explicit"
    yield "padding", spec.padding, f"padding={other}"
    places = {"stem.padding": spec.stem.padding, "stem.pool_padding": spec.stem.pool_padding}
    for field, value in places.items():
        if spec.stem.pool or field == "stem.padding":
            other = "same" if (value or spec.padding) == "explicit" else "explicit"
            yield field, value or spec.padding, f"{field}={other}"
    yield "norm.eps", spec.norm.eps, "norm.eps=1e-3"
    yield "norm.decay", spec.norm.decay, "norm.decay=0.99"
    other = "biased" if spec.norm.variance == "unbiased" else "unbiased"
    yield "norm.variance", spec.norm.variance, f"norm.variance={other}"
    yield "input.size", spec.input.size, "input.size=288"
    # Of CIFAR-10; a mean and a deviation must be given together.
    mean, std = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
    if spec.input.channels != 3:
        mean, std = [0.5] * spec.input.channels, [0.5] * spec.input.channels
    both = (f"input.mean={_short(mean)}", f"input.std={_short(std)}")
    yield "input.mean", list(spec.input.mean), *both
    yield "input.std", list(spec.input.std), *both
    yield "dropout", spec.dropout, "dropout=0.2"


def _short(values: Sequence[float]) -> str:
    """Write a list without spaces, which a shell would split at."""
    return json.dumps(values, separators=(",", ":"))


def for_channels(scheme: Scheme, spec: Spec) -> Scheme:
    """Return the scheme without its statistics of images where these have other channels."""
    images = scheme.conventions.get("input", {})
    if len(images.get("mean", ())) in (0, spec.input.channels):
        return scheme
    kept = {key: value for key, value in images.items() if key not in ("mean", "std")}
    return replace(scheme, conventions={**scheme.conventions, "input": kept})
