"""Stages of residual blocks: basic and bottleneck, post- and pre-activation, every shortcut."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet_spec.describing.spec import Spec
from resnet_spec.ops import Add, Address, Chain, Gate, Node, Part, Residual
from resnet_spec.planning.lowering.line import Line


@dataclass(frozen=True, slots=True)
class _Block:
    """The numbers of one block; `dilations`: of its first and its other 3x3 convolution."""

    inner: int
    out: int
    stride: int
    dilations: tuple[int, int]
    drop_rate: float


def stages(root: Line) -> None:
    """Append every stage: `layer1` ... or `stages.0.blocks` ... in the pre-activation order."""
    spec = root.spec
    is_post = spec.order == "post_activation"
    outer = root if is_post else root.branch("stages")
    count, total = 0, sum(stage.blocks for stage in spec.stages)
    dilation = 1
    for i, stage in enumerate(spec.stages):
        address = Address(i + 1, None, "stage")
        line = outer.branch(f"layer{i + 1}" if is_post else str(i), address)
        blocks = line if is_post else line.branch("blocks")
        for j in range(stage.blocks):
            _append_block(
                blocks,
                j,
                _Block(
                    inner=_inner_width(spec, stage.width),
                    out=stage.width * spec.expansion,
                    stride=stage.stride if j == 0 else 1,
                    dilations=(dilation if j == 0 else stage.dilation, stage.dilation),
                    drop_rate=spec.stochastic_depth * count / max(total - 1, 1),
                ),
            )
            count += 1
        if not is_post:
            line.join(blocks)
        outer.join(line)
        dilation = stage.dilation
    if not is_post:
        root.join(outer)


def _inner_width(spec: Spec, width: int) -> int:
    """Channels of the 3x3 convolutions; for bottlenecks torchvision's rule for groups."""
    if spec.block == "basic":
        return width
    return width * spec.width_per_group // 64 * spec.groups


def _append_block(blocks: Line, number: int, block: _Block) -> None:
    spec = blocks.spec
    whole = Address(blocks.address.stage, number, "block")
    start = blocks.branch(str(number), replace(whole, part="body"))
    is_post = spec.order == "post_activation"
    entry, body = (
        ([], _post_activation_body(start, block)) if is_post else _pre_activation(start, block)
    )
    tail: list[Node] = []
    if is_post:
        after = body.branch()
        after.relu(f"act{_depth(spec)}")
        tail = after.nodes
    blocks.shape = body.shape
    if spec.shortcut == "none":
        blocks.nodes.append(Chain(start.prefix, (*entry, *body.nodes, *tail), at=whole))
        return
    add = Add(start.path("add"), body.shape, body.shape, at=start.address)
    parts = (tuple(entry), tuple(body.nodes), _shortcut(start, block), add, tuple(tail))
    blocks.nodes.append(Residual(start.prefix, *parts, at=whole))


def _depth(spec: Spec) -> int:
    return 2 if spec.block == "basic" else 3


@dataclass(frozen=True, slots=True)
class _Convolution:
    """One convolution of a block's body."""

    out_channels: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    def append_to(self, line: Line, key: str) -> None:
        line.conv(
            key,
            self.out_channels,
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )


def _convolutions(spec: Spec, block: _Block) -> list[_Convolution]:
    """Return a block's convolutions, first to last."""
    first, other = block.dilations
    if spec.block == "basic":
        return [
            _Convolution(block.inner, kernel=3, stride=block.stride, dilation=first),
            _Convolution(block.out, kernel=3, dilation=other),
        ]
    on_1x1, on_3x3 = (block.stride, 1) if spec.stride_position == "1x1" else (1, block.stride)
    return [
        _Convolution(block.inner, stride=on_1x1),
        _Convolution(block.inner, kernel=3, stride=on_3x3, dilation=first, groups=spec.groups),
        _Convolution(block.out),
    ]


def _post_activation_body(start: Line, block: _Block) -> Line:
    """conv-norm-relu ... conv-norm, gate (He et al. 2015)."""
    spec, line = start.spec, start.branch()
    convolutions = _convolutions(spec, block)
    for i, convolution in enumerate(convolutions, start=1):
        is_last = i == len(convolutions)
        convolution.append_to(line, f"conv{i}")
        line.norm(f"bn{i}", zero_init=is_last and spec.zero_init_last_norm)
        if not is_last:
            line.relu(f"act{i}")
    _end_body(line, block)
    return line


def _pre_activation(start: Line, block: _Block) -> tuple[list[Node], Line]:
    """norm-relu-conv ... (He et al. 2016); the first norm and relu come before the split."""
    line = start.branch()
    line.norm("norm1")
    line.relu("act1")
    entry, line.nodes = line.nodes, []
    for i, convolution in enumerate(_convolutions(start.spec, block), start=1):
        if i > 1:
            line.norm(f"norm{i}")
            line.relu(f"act{i}")
        convolution.append_to(line, f"conv{i}")
    _end_body(line, block)
    return entry, line


def _end_body(line: Line, block: _Block) -> None:
    if line.spec.squeeze > 0:
        gate = line.branch("se", _beside(line, "gate"))
        gate.global_pool("pool", keep_dims=True)
        gate.conv("fc1", _reduced(block.out, line.spec.squeeze), bias=True)
        gate.relu("act")
        gate.conv("fc2", block.out, bias=True)
        gate.sigmoid("gate")
        line.join(gate, Gate)
    line.drop_path("drop_path", block.drop_rate)


def _reduced(channels: int, ratio: float) -> int:
    """Squeeze-and-excitation's inner width: the nearest multiple of 8, at least 8 (as timm)."""
    return max(8, int(channels * ratio + 4) // 8 * 8)


def _shortcut(start: Line, block: _Block) -> Node | None:
    """Return the shortcut from the block's input; None is the identity."""
    spec = start.spec
    changes = block.stride != 1 or start.shape[0] != block.out
    if not changes and spec.shortcut != "projection_all":
        return None
    if spec.shortcut == "zero_pad":
        line = start.branch(address=_beside(start, "shortcut"))
        line.pad_channels("downsample", block.out, block.stride)
        return line.nodes[0]
    line = start.branch("downsample", _beside(start, "shortcut"))
    is_post = spec.order == "post_activation"
    pool, conv = (
        ("0", "1" if spec.downsample == "avg_pool" else "0") if is_post else ("pool", "conv")
    )
    stride = block.stride
    if spec.downsample == "avg_pool" and stride > 1:
        line.avg_pool(pool, stride)
        stride = 1
    line.conv(conv, block.out, stride=stride)
    if is_post:
        line.norm(str(int(conv) + 1))
    return Chain(line.prefix, tuple(line.nodes), at=line.address)


def _beside(line: Line, part: Part) -> Address:
    """Return the address of another part of the same block."""
    return replace(line.address, part=part)
