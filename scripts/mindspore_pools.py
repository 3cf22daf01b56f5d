#!/usr/bin/env python3
"""Measure MindSpore's own max-pooling beside oneDNN's, with which its backend predicts.

    python scripts/mindspore_pools.py [--rounds N] [--batch N] [NETWORK:SIZE ...]

For the max-pool of each network both take turns, forward alone, and forward and gradient, in one
graph each, on a CPU and in float32. Prints the time of `nn.MaxPool2d` by that of the other (median
and quartiles; above 1 oneDNN's is quicker). Nothing else should run meanwhile.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from products import batch_of, parser_of, plan_of, printed, ratio_of, told_of

from resnet_spec.loader import load_backend
from resnet_spec.ops import MaxPool
from resnet_spec.plan import Plan

Turn = Callable[[], Any]
Pair = tuple[Turn, Turn]
"""A turn of `nn.MaxPool2d`, and of the other."""


def pools_of(plan: Plan) -> list[MaxPool]:
    """Return the max-pools of a network."""
    return [op for op in plan.ops if isinstance(op, MaxPool)]


def pairs_of(plan: Plan, op: MaxPool, batch: int) -> tuple[Pair, Pair]:
    """Return forwards, and the gradients."""
    ms: Any = importlib.import_module("mindspore")
    modules: Any = importlib.import_module("resnet_spec_mindspore.modules")
    pools: Any = importlib.import_module("resnet_spec_mindspore.pools")
    ms.set_seed(0)
    x = ms.ops.relu(ms.ops.standard_normal((batch, *op.in_shape)))
    slope = ms.ops.standard_normal((batch, *op.out_shape))
    own = dict(modules.empty(plan).cells_and_names())[op.name]

    def pair_of(made: Callable[[Any], Any]) -> Pair:
        first, second = made(own), made(pools.ForwardMaxPool(op))
        return lambda: first(x).asnumpy(), lambda: second(x).asnumpy()

    def gradient(pool: Any) -> Any:
        def loss(x: Any) -> Any:
            return (pool(x) * slope).sum()

        return ms.jit(ms.grad(loss))

    def forward(pool: Any) -> Any:
        def run(x: Any) -> Any:
            return pool(x)

        return ms.jit(run)

    return pair_of(forward), pair_of(gradient)


def rows(cases: Sequence[tuple[str, int]], rounds: int, batch: int | None) -> Iterator[str]:
    """Yield the table line by line."""
    load_backend("mindspore")  # It caps oneDNN where that is slow otherwise.
    yield "| max-pool | batch | forward | forward and gradient |"
    yield "|---|---:|---:|---:|"
    for network, size in cases:
        plan = plan_of(network, size)
        images = batch_of(size, batch)
        for op in pools_of(plan):
            channels, height, width = op.in_shape
            name = f"{op.kernel}x{op.kernel} by {op.stride}, {channels} over {height}x{width}"
            told = [told_of(ratio_of(pair, rounds)) for pair in pairs_of(plan, op, images)]
            yield f"| {name} | {images} | {' | '.join(told)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    args = parser_of(__doc__).parse_args(arguments)
    return printed(rows(args.cases, args.rounds, args.batch))


if __name__ == "__main__":
    sys.exit(main())
