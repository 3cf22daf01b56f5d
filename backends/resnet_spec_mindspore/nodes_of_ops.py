"""Which node of a plan an op of a compiled graph is of, by its kind and its inputs' shapes.

Used by `profiling` alone; imports no framework.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import Any, NamedTuple

from resnet_spec import ops as plan_ops
from resnet_spec.bench import Case, Direction, TimedKind
from resnet_spec.plan import walk

Shapes = tuple[tuple[int, ...], ...]


class Op(NamedTuple):
    """An op: its full name, its kind, its inputs' shapes, and whether it goes backwards."""

    name: str
    kind: str
    shapes: Shapes
    is_backward: bool

    @classmethod
    def named(cls, name: str, shapes: Shapes) -> Op:
        """Return the op called `Gradients/.../Conv2D-op3`."""
        kind = name.rpartition("/")[2].rpartition("-op")[0]
        return cls(name, kind, shapes, name.startswith("Gradients/"))


class _Rule(NamedTuple):
    """Of which class of nodes a kind of ops is, and the shapes of the first inputs it has then.

    shapes: those of a node's op for so many images; none where it has no such op.
    """

    node: type[plan_ops.BaseOp]
    shapes: Callable[[Any, int], Shapes]


def _in(op: Any, n: int) -> Shapes:
    return ((n, *op.in_shape),)


def _deep(op: Any, n: int) -> Shapes:
    """Return maps of depth 1, which pools with padding are given."""
    channels, *plane = op.in_shape
    return ((n, channels, 1, *plane),)


def _out(op: Any, n: int) -> Shapes:
    return ((n, *op.out_shape),)


def _filter(op: Any, n: int) -> Shapes:
    return (*_out(op, n), *_in(op, n))


def _weighted(of: Callable[[Any, int], Shapes]) -> Callable[[Any, int], Shapes]:
    return lambda op, n: (*of(op, n), op.weight.shape)


def _picked(op: Any, n: int) -> Shapes:
    return ((n, op.in_shape[0], *op.out_shape[1:]),)


def _linear(op: Any, n: int) -> tuple[int, int, int]:
    return n, op.weight.shape[1], op.weight.shape[0]


def _product(op: Any, n: int) -> tuple[int, int, int]:
    return n, op.in_shape[0] * _met(op), op.out_shape[0]


def _pixels(op: Any, n: int) -> tuple[int, int, int]:
    return n * op.in_shape[0], prod(op.in_shape[1:]), _met(op)


def _taps(op: Any, n: int) -> tuple[int, int, int]:
    return op.out_shape[0] * op.in_shape[0], prod(op.kernel), _met(op)


def _met(op: Any) -> int:
    return prod(len(side.taps) for side in op.only_window)


def _factors(of: Callable[[Any, int], tuple[int, int, int]], shapes: str) -> Any:
    """Return the function of a rule for products: the shapes of both factors.

    of: returns the sizes a, b and c of a product [a, b] x [b, c]. shapes: as "ab bc".
    """

    def found(op: Any, n: int) -> Shapes:
        if not (isinstance(op, plan_ops.Linear) or op.only_window):
            return ()
        sizes = dict(zip("abc", of(op, n), strict=True))
        return tuple(tuple(sizes[letter] for letter in factor) for factor in shapes.split())

    return found


_FORWARD: dict[str, tuple[_Rule, ...]] = {
    "Conv2D": (_Rule(plan_ops.Conv, _weighted(_in)),),
    "BatchNorm": (_Rule(plan_ops.Norm, _in),),
    "ReLU": (_Rule(plan_ops.Activation, _in),),
    "Sigmoid": (_Rule(plan_ops.Activation, _in),),
    "Add": (_Rule(plan_ops.Add, lambda op, n: _in(op, n) * 2),),
    "MaxPool3DWithArgmax": (_Rule(plan_ops.MaxPool, _deep),),
    "AvgPool": (_Rule(plan_ops.AvgPool, _in),),
    "ReduceMean": (_Rule(plan_ops.GlobalPool, _in),),
    "MatMul": (
        _Rule(plan_ops.Linear, _factors(_linear, "ab cb")),
        _Rule(plan_ops.Conv, _factors(_product, "ab cb")),
        _Rule(plan_ops.Conv, _factors(_pixels, "ab bc")),
        _Rule(plan_ops.Conv, _factors(_taps, "ab bc")),
    ),
    "BiasAdd": (_Rule(plan_ops.Linear, _out), _Rule(plan_ops.Conv, _out)),
    "StridedSlice": (_Rule(plan_ops.PadChannels, _in),),
    "Pad": (_Rule(plan_ops.PadChannels, _picked),),
}
_BACKWARD: dict[str, tuple[_Rule, ...]] = {
    "Conv2DBackpropFilter": (_Rule(plan_ops.Conv, _filter),),
    "Conv2DBackpropInput": (_Rule(plan_ops.Conv, _weighted(_out)),),
    "MatMul": (
        _Rule(plan_ops.Linear, _factors(_linear, "ac cb")),
        _Rule(plan_ops.Linear, _factors(_linear, "ac ab")),
        _Rule(plan_ops.Conv, _factors(_product, "ac cb")),
        _Rule(plan_ops.Conv, _factors(_product, "ac ab")),
        _Rule(plan_ops.Conv, _factors(_pixels, "ac bc")),
        _Rule(plan_ops.Conv, _factors(_taps, "ac bc")),
    ),
    "BatchNormGrad": (_Rule(plan_ops.Norm, _in),),
    "ReluGrad": (_Rule(plan_ops.Activation, _in),),
    "SigmoidGrad": (_Rule(plan_ops.Activation, _in),),
    "MaxPool3DGradWithArgmax": (_Rule(plan_ops.MaxPool, _deep),),
    "AvgPoolGrad": (_Rule(plan_ops.AvgPool, _in),),
    "BiasAddGrad": (_Rule(plan_ops.Linear, _out), _Rule(plan_ops.Conv, _out)),
    "StridedSliceGrad": (_Rule(plan_ops.PadChannels, _picked),),
    "Slice": (_Rule(plan_ops.PadChannels, _out),),
}
_ALL_OF = {"Grad_MatMul": plan_ops.Linear, "Grad_ReduceMean": plan_ops.GlobalPool}
"""What the path of an op of the backward pass says; counts where there is one such node."""


class OpKinds:
    """Tells ops apart that are of a case's plan, of its loss, its images and its optimiser."""

    def __init__(self, case: Case) -> None:
        self._names = {node.name for node in walk(case.plan.root) if node.name}
        self._ops, self._batch, given = case.plan.ops, case.batch, case.plan.input
        self.trains = case.trains
        self.images = (case.batch, given.height, given.width, given.channels)
        self.parameters = {tensor.shape for tensor in case.plan.tensors}
        self.logits = {(case.batch,), (case.batch, 1), (case.batch, case.classes), ()}

    def nodes_of(self, ops: Sequence[Op]) -> dict[str, str]:
        """Return the nodes of those of `ops`, in the order they ran, that are of one, by name."""
        alike: dict[tuple[str, bool, Shapes], list[str]] = defaultdict(list)
        for op in ops:
            table = _BACKWARD if op.is_backward else _FORWARD
            rules = table.get(op.kind, ())
            count = max((len(rule.shapes(self._any(rule), 1)) for rule in rules), default=0)
            if count and not op.name.startswith("Expand/"):
                alike[op.kind, op.is_backward, op.shapes[:count]].append(op.name)
        found: dict[str, str] = {}
        for (kind, is_backward, shapes), names in alike.items():
            rules = (_BACKWARD if is_backward else _FORWARD)[kind]
            nodes = [
                op.name
                for op in self._ops
                for rule in rules
                if isinstance(op, rule.node) and rule.shapes(op, self._batch) == shapes
            ]
            if len(nodes) == len(names):
                found |= zip(names, reversed(nodes) if is_backward else nodes, strict=True)
        named = {op.name: _cell(op.name, self._names) for op in ops}
        found |= {name: node for name, node in named.items() if node}
        for op in (op for op in ops if op.is_backward and op.name not in found):
            for word, kind in _ALL_OF.items():
                only = [node.name for node in self._ops if _is_a(node, kind)]
                if word in op.name and len(only) == 1:
                    found[op.name] = only[0]
        return found

    def _any(self, rule: _Rule) -> Any:
        """Return an op of the rule's class, for the number of its shapes; a stand-in without."""
        return next((op for op in self._ops if isinstance(op, rule.node)), _STAND_IN)


def _cell(name: str, names: Collection[str]) -> str:
    """Return the node that a full name's cells lead to; "" for none.

    name: as `Default/network-ResNet/layer1-Chain/0-ResidualBlock/conv1-Conv2d/Conv2D-op0`.
    """
    words = [word.partition("-")[0] for word in name.split("/")[:-1]]
    paths = [".".join(words[i:j]) for i in range(len(words)) for j in range(i, len(words) + 1)]
    return max((path for path in paths if path in names), key=len, default="")


def _is_a(node: plan_ops.Node, kind: type) -> bool:
    """Return whether a node is of the kind; convolutions may be products like linear layers."""
    is_product = isinstance(node, plan_ops.Conv) and node.only_window is not None
    return isinstance(node, kind) or (kind is plan_ops.Linear and is_product)


class _StandIn:
    in_shape = out_shape = (1, 1, 1)
    only_window = None
    weight: Any = None


_STAND_IN = _StandIn()
_STAND_IN.weight = type("Weight", (), {"shape": (1,)})


def place_of(op: Op, node: str, kinds: OpKinds) -> tuple[str, Direction, TimedKind]:
    """Return the node, the direction and the kind of what `op` took."""
    direction: Direction = "backward" if op.is_backward else "forward"
    if node:
        return node, direction, ""
    first = op.shapes[0] if op.shapes else None
    if "optimizer-" in op.name or "/update-" in op.name:
        return "", "update", "optimizer"
    if first == kinds.images:
        return "", direction, "images"
    if op.kind in ("Mul", "Add", "AddN") and first in kinds.parameters and kinds.trains:
        return "", "update", "optimizer"
    if op.kind in ("Cast", "Transpose", "TransData", "TensorMove"):
        return "", direction, "copies"
    if op.shapes and set(op.shapes) <= kinds.logits:
        return "", direction, "loss" if kinds.trains else "images"
    return "", direction, ""
