#!/usr/bin/env python3
"""Measure Flax's networks with elementwise ops in the loops of XLA's library, and in XLA's own.

    python scripts/flax_elementwise.py [--rounds N] [--batch N] [NETWORK:SIZE ...]

The same network of a session is compiled with the option of `resnet_spec_flax.compiling` and
without; both take turns in prediction, and both in the backward pass, on a CPU and in float32.
Prints the time without it by that with it (median and quartiles; above 1 the option is quicker),
and whether the backend's rule takes the option for prediction. Nothing else should run meanwhile.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from products import batch_of, parser_of, plan_of, printed, ratio_of, told_of

from resnet_spec import initial_state
from resnet_spec.loader import load_backend
from resnet_spec.recipe import Recipe

Turn = Callable[[], Any]


def part_of_backend(name: str) -> Any:
    """Return one of the backend's modules."""
    package: Any = load_backend("flax")
    return importlib.import_module(f"{package.__name__}.{name}")


def turns_of(network: str, size: int, batch: int) -> tuple[list[Turn], list[Turn]]:
    """Return predictions without the option and with it, and backward passes alike."""
    jax: Any = importlib.import_module("jax")
    plan, recipe = plan_of(network, size), Recipe(steps=1, batch=batch)
    session: Any = load_backend("flax").Session(plan, recipe, device="cpu")
    session.load(initial_state(plan, 0))
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3))
    inputs = part_of_backend("passes").Inputs(images, jax.numpy.zeros(batch, int), {})

    def both(option: Any) -> tuple[Turn, Turn]:
        program, weights = program_of(session, plan, recipe, option)
        return (
            lambda: jax.block_until_ready(program.predict(weights, images)),
            lambda: jax.block_until_ready(program.backward(weights, {}, inputs)),
        )

    without, with_it = both(None), both(part_of_backend("compiling").ELEMENTWISE)
    forwards, backwards = zip(without, with_it, strict=True)
    return list(forwards), list(backwards)


def program_of(session: Any, plan: Any, recipe: Recipe, option: Any) -> tuple[Any, Any]:
    """Return the functions of a session's network, compiled with `option`, and its weights."""
    nnx: Any = importlib.import_module("flax.nnx")
    optax: Any = importlib.import_module("optax")
    numpy: Any = importlib.import_module("numpy")
    options = part_of_backend("compiling").CompilerOptions(option, option)
    graph, state, others = nnx.split(session.native, (nnx.Param, nnx.BatchStat), ...)
    fixed = plan, recipe, optax.identity(), numpy.dtype("float32"), options
    program = part_of_backend("programs").Program(*fixed, graph, others)
    return program, part_of_backend("weights").of_state(state, plan.tensors)


def rows(cases: Sequence[tuple[str, int]], rounds: int, batch: int | None) -> Iterator[str]:
    """Yield the table line by line."""
    gains = part_of_backend("compiling").gains
    yield "| network | batch | prediction | backward pass | chosen for prediction |"
    yield "|---|---:|---:|---:|---|"
    for network, size in cases:
        images = batch_of(size, batch)
        told = [told_of(ratio_of(turns, rounds)) for turns in turns_of(network, size, images)]
        chosen = "the option" if gains(plan_of(network, size)) else ""
        yield f"| {network}, {size} px | {images} | {' | '.join(told)} | {chosen} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    args = parser_of(__doc__).parse_args(arguments)
    return printed(rows(args.cases, args.rounds, args.batch))


if __name__ == "__main__":
    sys.exit(main())
