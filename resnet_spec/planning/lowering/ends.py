"""The two ends of the network: stem and classifier, in torchvision's / timm's names."""

from __future__ import annotations

from resnet_spec.ops import Address
from resnet_spec.planning.lowering.line import Line

_STEM = Address(None, None, "stem")
_HEAD = Address(None, None, "head")


def stem(root: Line) -> None:
    """Append the stem: convolutions, norms and the max-pool."""
    line = root.branch(address=_STEM)
    if root.spec.order == "post_activation":
        _post_activation_stem(line)
    else:
        _pre_activation_stem(line)
    root.take(line)


def _post_activation_stem(line: Line) -> None:
    """`conv1 bn1 act1 maxpool`; with several convolutions `conv1` is a chain, as in timm."""
    stem, widths = line.spec.stem, line.spec.stem.widths
    if len(widths) == 1:
        line.conv("conv1", widths[0], kernel=stem.kernel, stride=stem.stride, padding=stem.padding)
    else:
        deep = line.branch("conv1")
        for i, width in enumerate(widths):
            stride = stem.stride if i == 0 else 1
            deep.conv(str(3 * i), width, kernel=stem.kernel, stride=stride, padding=stem.padding)
            if i < len(widths) - 1:
                deep.norm(str(3 * i + 1))
                deep.relu(str(3 * i + 2))
        line.join(deep)
    line.norm("bn1")
    line.relu("act1")
    if stem.pool:
        line.max_pool("maxpool", kernel=3, stride=2, padding=stem.pool_padding)


def _pre_activation_stem(outer: Line) -> None:
    """`stem.conv` or `stem.conv1 norm1 act1 conv2 ...`, `stem.pool`; ends without a norm."""
    stem, widths = outer.spec.stem, outer.spec.stem.widths
    line = outer.branch("stem")
    for i, width in enumerate(widths, start=1):
        number = "" if len(widths) == 1 else str(i)
        stride = stem.stride if i == 1 else 1
        line.conv(f"conv{number}", width, kernel=stem.kernel, stride=stride, padding=stem.padding)
        if i < len(widths):
            line.norm(f"norm{i}")
            line.relu(f"act{i}")
    if stem.pool:
        line.max_pool("pool", kernel=3, stride=2, padding=stem.pool_padding)
    outer.join(line)


def head(root: Line) -> None:
    """Append the classifier; in timm's pre-activation networks it is a 1x1 convolution."""
    line = root.branch(address=_HEAD)
    if root.spec.order == "post_activation":
        _post_activation_head(line)
    else:
        _pre_activation_head(line)
    root.take(line)


def _post_activation_head(line: Line) -> None:
    line.global_pool("global_pool", keep_dims=False)
    line.dropout("drop")
    line.linear("fc", line.spec.classes)


def _pre_activation_head(outer: Line) -> None:
    outer.norm("norm")
    outer.relu("act")
    line = outer.branch("head")
    line.global_pool("global_pool", keep_dims=True)
    line.dropout("drop")
    line.conv("fc", outer.spec.classes, bias=True)
    line.flatten("flatten")
    outer.join(line)
