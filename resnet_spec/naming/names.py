"""What a naming scheme says: how another project calls the plan's tensors, and where outputs show.

Imports `ops`, `plan` and `errors` of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from resnet_spec.errors import CheckpointError
from resnet_spec.naming.dialects import DIALECTS, Layout
from resnet_spec.ops import Op
from resnet_spec.plan import Plan, tensors_of


@dataclass(frozen=True, slots=True)
class Foreign:
    """A tensor as another project has it: its name there, and the order of its axes."""

    name: str
    layout: Layout


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

    modules: every op with tensors -> the path of the module that holds them.
    outputs: observed node -> where its output may be seen, the best place first.
    """

    modules: dict[str, str]
    outputs: dict[str, tuple[Output, ...]]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A naming scheme: a pure function of the plan, and whose names its tensors have."""

    name: str
    about: str
    paths: Callable[[Plan], Paths]
    dialect: str

    def names(self, plan: Plan, dialect: str | None = None) -> dict[str, Foreign]:
        """Return the foreign name and layout of every tensor of `plan`, in the plan's order.

        dialect: "torch", "flax" or "mindspore" where the modules have been written in another
            framework than usual; their tensors then have that framework's names and layouts.

        Raises CheckpointError when the scheme has no name for a part of the network.
        """
        modules = self.paths(plan).modules
        unnamed = [op.name for op in holders(plan) if op.name not in modules]
        if unnamed:
            rule = f"has no name for {', '.join(unnamed[:3])}"
            raise CheckpointError(f"names = {self.name}: {rule}; map them yourself")
        return leaves(plan, modules, dialect or self.dialect)

    def outputs(self, plan: Plan) -> dict[str, tuple[Output, ...]]:
        """Return where the outputs of the plan's observed nodes may be seen."""
        return self.paths(plan).outputs


def leaves(plan: Plan, modules: dict[str, str], dialect: str) -> dict[str, Foreign]:
    """Return the tensors of `modules` (op -> path) as a framework's layers call them."""
    spoken = DIALECTS[dialect]
    return {
        tensor.name: Foreign(
            f"{modules[op.name]}.{spoken.leaves[tensor.role]}", spoken.layouts[tensor.layout]
        )
        for op in holders(plan)
        for tensor in tensors_of(op)
    }


def holders(plan: Plan) -> Iterator[Op]:
    """Yield the ops that have tensors."""
    return (op for op in plan.ops if tensors_of(op))


def renamed(plan: Plan, rename: Callable[[list[str]], str | None]) -> Paths:
    """Return the paths that `rename` gives for the parts of each name, as ["layer1", "0", "bn1"].

    None: the other network has no such module. Each node's output is its module's.
    """
    found = {name: rename(name.split(".")) for name in plan.observed}
    paths = {name: path for name, path in found.items() if path is not None}
    modules = {op.name: paths[op.name] for op in holders(plan) if op.name in paths}
    return Paths(modules, {name: (Output(path),) for name, path in paths.items()})


def block_of(plan: Plan, node: str) -> str | None:
    """Return the block `layer1.0` that `node` is a direct part of; None elsewhere."""
    block, _, _ = node.rpartition(".")
    return block if f"{block}.conv1" in plan.observed else None


def depth_of(plan: Plan, block: str) -> int:
    """Return how many convolutions the body of a block has."""
    return next(k for k in (3, 2) if f"{block}.conv{k}" in plan.observed)
