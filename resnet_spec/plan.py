"""The Plan: a spec lowered for one input size, with nothing left to decide.

One description of the model. Analysis, initial weights, naming, the reference and every backend's
modules are folds over it. Made by `lowering.lower`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from resnet_spec.ops import (
    Address,
    BaseOp,
    Chain,
    Conv,
    Gate,
    Linear,
    Node,
    NoisyOp,
    Norm,
    Op,
    Part,
    Residual,
    Tensor,
)


@dataclass(frozen=True, slots=True)
class Input:
    """The images the network takes: size in pixels, and the per-channel mean and standard
    deviation.

    A uint8 image x enters the network as (x / 255 - mean) / std, computed as `x * scale + shift`.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def scale(self) -> tuple[float, ...]:
        """Per-channel factor on the uint8 value, in float64."""
        return tuple(1.0 / (255.0 * std) for std in self.std)

    @property
    def shift(self) -> tuple[float, ...]:
        """Per-channel addend after the factor, in float64."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))


@dataclass(frozen=True, repr=False)
class Plan:
    """A tree of ops and the flat views of it that the rest of the project reads."""

    name: str
    input: Input
    classes: int
    root: Chain
    remat: tuple[str, ...] = ()
    """Names of the blocks whose activations are not kept for the backward pass: they are computed
    again there, from the block's input, with the same noise and the same statistics."""
    ops: tuple[Op, ...] = field(init=False, repr=False, compare=False)
    """Leaves in order of execution (entry, body, shortcut, add, tail)."""
    tensors: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)
    """All arrays in order of execution: parameters and running statistics."""
    noises: tuple[NoisyOp, ...] = field(init=False, repr=False, compare=False)
    """The ops that take `Batch.noise` in training."""

    def __post_init__(self) -> None:
        ops = tuple(node for node in walk(self.root) if isinstance(node, BaseOp))
        object.__setattr__(self, "ops", ops)
        object.__setattr__(self, "tensors", tuple(t for op in ops for t in op.tensors))
        noises = tuple(op for op in ops if isinstance(op, NoisyOp))
        object.__setattr__(self, "noises", noises)

    def __repr__(self) -> str:
        """Return one line; the tree has hundreds of ops."""
        size = f"{self.input.height} x {self.input.width} x {self.input.channels}"
        count = sum(math.prod(tensor.shape) for tensor in self.tensors if not tensor.is_statistic)
        numbers = f"{len(self.ops)} ops, {count:,} parameters"
        return f"Plan of {self.name}: input {size}, {self.classes} classes, {numbers}"

    @property
    def observed(self) -> tuple[str, ...]:
        """Names whose outputs `Session.activations` yields, in order: every op and every gate."""
        return tuple(n.name for n in walk(self.root) if isinstance(n, BaseOp | Gate))

    @property
    def batch_norms(self) -> tuple[Norm, ...]:
        """The norms that take the batch's statistics in training: those that are not frozen."""
        return tuple(op for op in self.ops if isinstance(op, Norm) and not op.frozen)

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the tensors the optimiser updates, in order of execution."""
        return tuple(tensor.name for tensor in self.tensors if tensor.trainable)

    @property
    def classifier(self) -> tuple[str, ...]:
        """Names of the tensors of the op that puts out the logits; () without such an op."""
        last = next((op for op in reversed(self.ops) if isinstance(op, Conv | Linear)), None)
        return () if last is None else tuple(tensor.name for tensor in last.tensors)

    @property
    def stages(self) -> tuple[Node, ...]:
        """The stages' containers, first to last: `layer1` ..., or `stages.0` ..."""
        return tuple(_outermost(self.root, "stage"))

    @property
    def blocks(self) -> tuple[Node, ...]:
        """The blocks' containers, first to last: `layer1.0` ..., or `stages.0.0` ..."""
        return tuple(_outermost(self.root, "block"))

    @property
    def sections(self) -> dict[str, str]:
        """For each observed node, in order, the section it is in: `stem`, its stage, `head`."""
        stages = [stage.name for stage in self.stages]
        return {
            node.name: _section(node.address, stages)
            for node in walk(self.root)
            if isinstance(node, BaseOp | Gate)
        }


def _section(address: Address, stages: list[str]) -> str:
    return address.part if address.stage is None else stages[address.stage - 1]


def _outermost(node: Node, part: Part) -> Iterator[Node]:
    if node.address.part == part:
        yield node
    else:
        for child in children_of(node):
            yield from _outermost(child, part)


def walk(node: Node) -> Iterator[Node]:
    """Yield the nodes below `node` and itself, children before their container."""
    for child in children_of(node):
        yield from walk(child)
    yield node


def children_of(node: Node) -> tuple[Node, ...]:
    """Return the direct children in order of execution; () for a leaf."""
    match node:
        case Chain() | Gate():
            return node.children
        case Residual():
            shortcut = () if node.shortcut is None else (node.shortcut,)
            return (*node.entry, *node.body, *shortcut, node.add, *node.tail)
        case BaseOp():
            return ()
        case _:
            assert_never(node)
