#!/usr/bin/env python3
"""Measure Flax's larger convolutions beside products of patches and kernel, layer by layer.

    python scripts/flax_convolutions.py [--rounds N] [--batch N] [NETWORK:SIZE ...]

For each kind of convolution whose kernel is larger than 1x1 and meets its map: XLA's own and one
product of all patches, each with a ReLU, take turns as in prediction, on a CPU and in float32.
Prints the time of the convolution by that of the product (median and quartiles; above 1 the product
is quicker). Nothing else should run meanwhile.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from products import batch_of, kind_of, parser_of, plan_of, printed, ratio_of, told_of

from resnet_spec.loader import load_backend
from resnet_spec.ops import Conv

Turn = Callable[[], Any]


def layers_of(network: str, size: int) -> dict[str, Conv]:
    """Return one convolution of each kind, by what it is."""
    found: dict[str, Conv] = {}
    for op in plan_of(network, size).ops:
        if isinstance(op, Conv) and op.groups == 1 and _is_within(op):
            found.setdefault(kind_of(op), op)
    return found


def _is_within(op: Conv) -> bool:
    """Return whether the kernel is larger than 1x1, and no larger than its map."""
    _, rows, columns = op.out_shape
    return op.kernel != (1, 1) and op.kernel[0] <= rows and op.kernel[1] <= columns


def functions() -> Any:
    """Return the backend's module of convolutions."""
    package: Any = load_backend("flax")
    return importlib.import_module(f"{package.__name__}.convolutions")


def turns_of(op: Conv, batch: int) -> tuple[Turn, Turn]:
    """Return the convolution and the product, of the same images and kernel."""
    jax: Any = importlib.import_module("jax")
    (features, rows, columns), out = op.in_shape, op.out_shape[0]
    x = jax.random.normal(jax.random.key(0), (batch, rows, columns, features))
    kernel = jax.random.normal(jax.random.key(1), (*op.kernel, features, out))
    sizes = {"strides": (op.stride,) * 2, "padding": (op.pad[:2], op.pad[2:])}
    numbers = ("NHWC", "HWIO", "NHWC")
    more = {"rhs_dilation": (op.dilation,) * 2, "dimension_numbers": numbers}
    plain = partial(
        jax.lax.conv_general_dilated,
        window_strides=sizes["strides"],
        padding=sizes["padding"],
        **more,
    )
    product = partial(functions().product, **sizes, **more)

    def turn_of(way: Callable[[Any, Any], Any]) -> Turn:
        run = jax.jit(lambda x, kernel: jax.nn.relu(way(x, kernel)))
        return lambda: run(x, kernel).block_until_ready()

    return turn_of(plain), turn_of(product)


def rows(cases: Sequence[tuple[str, int]], rounds: int, batch: int | None) -> Iterator[str]:
    """Yield the table line by line."""
    yield "| convolution | batch | convolution / product |"
    yield "|---|---:|---:|"
    for network, size in cases:
        images = batch_of(size, batch)
        for name, op in layers_of(network, size).items():
            told = told_of(ratio_of(turns_of(op, images), rounds))
            yield f"| {name} | {images} | {told} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    args = parser_of(__doc__).parse_args(arguments)
    return printed(rows(args.cases, args.rounds, args.batch))


if __name__ == "__main__":
    sys.exit(main())
