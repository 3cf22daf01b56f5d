"""Folding of batch norms into the convolutions before them, for a network that is trained no more.

A norm in evaluation mode is a factor and an addend per channel, and a convolution can carry both:
w' = w f and b' = (b - mean) f + shift with f = scale / sqrt(var + eps) (Ioffe & Szegedy 2015,
section 3.1; eps as in the plan). A pure function over plan and state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import BaseOp, Chain, Conv, Gate, Init, Node, Norm, Residual, Tensor
from resnet_spec.plan import Plan


@dataclass(frozen=True)
class Folded:
    """A network that computes the same logits in evaluation mode, with fewer norms.

    state: canonical, in the types of the arrays that were given. folded: names of the norms that
    are gone. kept: of those that do not follow a convolution, as before a pre-activation block.
    """

    plan: Plan
    state: State = field(repr=False)
    folded: tuple[str, ...]
    kept: tuple[str, ...]


def fold_norms(plan: Plan, state: Mapping[str, Array]) -> Folded:
    """Fold every norm whose only input is a convolution that nothing else reads.

    Computed in float64 and rounded once. The plan's training would be another: it is for inference.
    """
    pairs: list[tuple[Conv, Norm]] = []
    root = replace(plan.root, children=_folded(plan.root.children, pairs))
    lean = Plan(plan.name, plan.input, plan.classes, root)
    names = {norm.name for _, norm in pairs}
    arrays = dict(state)
    for conv, norm in pairs:
        arrays |= _folded_arrays(conv, norm, arrays)
    return Folded(
        plan=lean,
        state={tensor.name: arrays[tensor.name] for tensor in lean.tensors},
        folded=tuple(op.name for op in plan.ops if op.name in names),
        kept=tuple(op.name for op in lean.ops if isinstance(op, Norm)),
    )


def _folded(nodes: tuple[Node, ...], pairs: list[tuple[Conv, Norm]]) -> tuple[Node, ...]:
    """Return consecutive nodes without the norms that follow a convolution; note both in `pairs`.

    Within such a sequence each node has one reader, the next.
    """
    kept: list[Node] = []
    for node in nodes:
        conv = _last_conv(kept[-1]) if kept and isinstance(node, Norm) else None
        if isinstance(node, Norm) and conv is not None:
            pairs.append((conv, node))
            kept[-1] = _with_bias(kept[-1])
        else:
            kept.append(_inside(node, pairs))
    return tuple(kept)


def _last_conv(node: Node) -> Conv | None:
    """Return the convolution whose output is the node's own: itself, or a chain's last."""
    match node:
        case Conv():
            return node
        case Chain(children=(*_, last)):
            return _last_conv(last)
        case Chain() | Gate() | Residual() | BaseOp():
            return None
        case _:
            assert_never(node)


def _with_bias(node: Node) -> Node:
    """Return the node with a bias on its last convolution."""
    match node:
        case Conv():
            return replace(node, bias=_bias_of(node))
        case Chain(children=(*others, last)):
            return replace(node, children=(*others, _with_bias(last)))
        case _:
            raise AssertionError(f"{node.name}: does not end in a convolution")


def _inside(node: Node, pairs: list[tuple[Conv, Norm]]) -> Node:
    match node:
        case Chain() | Gate():
            return replace(node, children=_folded(node.children, pairs))
        case Residual():
            shortcut = node.shortcut
            return replace(
                node,
                entry=_folded(node.entry, pairs),
                body=_folded(node.body, pairs),
                shortcut=None if shortcut is None else _folded((shortcut,), pairs)[0],
                tail=_folded(node.tail, pairs),
            )
        case BaseOp():
            return node
        case _:
            assert_never(node)


def _bias_of(conv: Conv) -> Tensor:
    if conv.bias is not None:
        return conv.bias
    zero = Init("constant", 0.0)
    return Tensor(f"{conv.name}.bias", (conv.out_shape[0],), "C", "bias", zero)


def _folded_arrays(conv: Conv, norm: Norm, state: Mapping[str, Array]) -> State:
    scale, shift, mean, var = (state[t.name].astype(np.float64) for t in norm.tensors)
    weight = state[conv.weight.name]
    bias = 0.0 if conv.bias is None else state[conv.bias.name].astype(np.float64)
    with np.errstate(all="ignore"):  # What is not finite then is for the caller to find.
        factor = scale / np.sqrt(var + norm.eps)
        return {
            conv.weight.name: (weight * factor[:, None, None, None]).astype(weight.dtype),
            _bias_of(conv).name: ((bias - mean) * factor + shift).astype(weight.dtype),
        }
