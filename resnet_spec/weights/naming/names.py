"""What a naming scheme says: how another project calls the tensors, and where outputs show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from resnet_spec.errors import CheckpointError, problem
from resnet_spec.ops import Conv, Norm, Op, Shape, Tensor
from resnet_spec.plan import Plan
from resnet_spec.weights.naming.dialects import DIALECTS, Layout
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes, number_nodes
from resnet_spec.weights.naming.unsupported import Unsupported

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A tensor as another project has it: its name there, and the order of its axes."""

    name: str
    layout: Layout


class Fold(NamedTuple):
    """A foreign tensor without a canonical one: a convolution's bias before a norm.

    (x + bias) - mean is x - (mean - bias): read, it is subtracted from the norm's running mean;
    written, it is zero. name: as files have it. mean: the canonical running mean.
    """

    name: str
    mean: str
    shape: Shape


class Output(NamedTuple):
    """Where a node's output can be seen: what `module` returns at its `call`-th call of `calls`.

    A model whose module is called another number of times shares it otherwise: nothing is seen.
    """

    module: str
    call: int = 0
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Paths:
    """The modules of another project's network.

    modules: node -> the path of its module, for every op with tensors at least.
    outputs: observed node -> where its output may be seen, the best node first.
    kinds: op -> what it is there, where a 1x1 convolution is kept as a dense layer or a dense layer
        as a 1x1 convolution.
    """

    modules: dict[str, str]
    outputs: dict[str, tuple[Output, ...]]
    kinds: dict[str, Literal["dense", "conv"]] = field(
        default_factory=dict[str, Literal["dense", "conv"]]
    )


@dataclass(frozen=True, slots=True)
class Scheme:
    """A naming scheme: a pure function over a plan's nodes, and whose names its tensors have.

    refuses: what its project's networks have not. conventions: fields of a spec that the project's
        code fixes, as a nested dict; what a name or a shape shows is not in it. caveats: what a
        spec cannot say of the project's published weights. folds_biases: whether its convolutions
        have biases where ours have none. channels: the order in which its networks take those of
        an image; read from "bgr", the first convolutions' weights are turned to take RGB.
        is_common: whether networks of other people's code have these names, too, so that what the
        project's code fixes is no more than likely.
    """

    name: str
    about: str
    paths: Callable[[NumberedNodes], Paths]
    dialect: str
    refuses: tuple[Unsupported, ...] = ()
    conventions: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    caveats: tuple[str, ...] = ()
    folds_biases: bool = False
    channels: Literal["rgb", "bgr"] = "rgb"
    is_common: bool = False

    def names(self, plan: Plan, dialect: str | None = None) -> dict[str, Foreign]:
        """Return the foreign name and layout of every tensor of `plan`, in the plan's order.

        dialect: that of somebody's own modules (see `dialects`) which have these names: their
            tensors have the names and layouts of its layers, and they may have what the project
            has not.

        Raises CheckpointError, saying why, when the project has no such network, or no name for a
        part of it.
        """
        nodes = number_nodes(plan)
        lack = next((it for it in self.refuses if it.is_in(nodes)), None)
        if lack is not None and dialect is None:
            raise CheckpointError(problem("names", self.name, lack.reason))
        found = self.paths(nodes)
        paths = {op.name: found.modules.get(op.name) for op in holders(plan)}
        shared = Counter(paths.values())
        unnamed = [op for op, path in paths.items() if path is None or shared[path] > 1]
        if unnamed:
            rule = f"has no name for {', '.join(unnamed[:3])}"
            raise CheckpointError(problem("names", self.name, rule, "map them yourself"))
        return leaves(plan, found, dialect or self.dialect)

    def in_file(self, plan: Plan) -> dict[str, Foreign]:
        """Return `names` as files have them: Flax's with the collection in front.

        Raises CheckpointError as `names` does.
        """
        collections = DIALECTS[self.dialect].collections
        return {
            tensor.name: Foreign(f"{collections.get(tensor.role, '')}{there.name}", there.layout)
            for tensor, there in zip(plan.tensors, self.names(plan).values(), strict=True)
        }

    def folds(self, plan: Plan) -> tuple[Fold, ...]:
        """Return the biases that files have and `plan` has not, in the plan's order."""
        if not self.folds_biases:
            return ()
        modules, bias = (
            self.paths(number_nodes(plan)).modules,
            DIALECTS[self.dialect].leaves["bias"],
        )
        return tuple(
            Fold(f"{modules[conv.name]}.{bias}", norm.running_mean.name, norm.running_mean.shape)
            for conv, norm in pairwise(plan.ops)
            if isinstance(conv, Conv) and isinstance(norm, Norm) and conv.bias is None
        )

    def reversed_weights(self, plan: Plan) -> frozenset[str]:
        """Return the canonical names of the weights whose input channels files have as BGR."""
        if self.channels == "rgb" or plan.input.channels != 3:
            return frozenset()
        return frozenset({next(op for op in plan.ops if isinstance(op, Conv)).weight.name})

    def counters(self, plan: Plan) -> frozenset[str]:
        """Return the names of scalars that files may have and that nothing depends on."""
        leaf = DIALECTS[self.dialect].counter
        if leaf is None:
            return frozenset()
        modules = self.paths(number_nodes(plan)).modules
        return frozenset(f"{modules[op.name]}.{leaf}" for op in plan.ops if isinstance(op, Norm))

    def outputs(self, plan: Plan) -> dict[str, tuple[Output, ...]]:
        """Return where the outputs of the plan's observed nodes may be seen."""
        return self.paths(number_nodes(plan)).outputs


def leaves(plan: Plan, paths: Paths | dict[str, str], dialect: str) -> dict[str, Foreign]:
    """Return the tensors of modules (op -> path) as a framework's layers call them."""
    found = paths if isinstance(paths, Paths) else Paths(paths, {})
    spoken = DIALECTS[dialect]
    return {
        tensor.name: Foreign(
            f"{found.modules[op.name]}.{spoken.leaves[tensor.role]}",
            spoken.layouts[_layout(tensor, found.kinds.get(op.name))],
        )
        for op in holders(plan)
        for tensor in op.tensors
    }


def _layout(tensor: Tensor, kind: Literal["dense", "conv"] | None) -> Literal["OIHW", "OI", "C"]:
    if tensor.layout == "C" or kind is None:
        return tensor.layout
    return "OI" if kind == "dense" else "OIHW"


def holders(plan: Plan) -> Iterator[Op]:
    """Yield the ops that have tensors."""
    return (op for op in plan.ops if op.tensors)


def renamed(nodes: NumberedNodes, rename: Callable[[NumberedNode], str | None]) -> Paths:
    """Return the paths that `rename` gives for the plan's nodes.

    None: the other network has no such module. Each node's output is its module's.
    """
    found = {node.name: rename(node) for node in nodes}
    modules = {name: path for name, path in found.items() if path is not None}
    return Paths(modules, {name: (Output(path),) for name, path in modules.items()})
