#!/usr/bin/env python3
"""Measure MindSpore's 1x1 convolutions beside matrix products of pixels and kernel, layer by layer.

    python scripts/mindspore_products.py [--predict] [--rounds N] [--batch N] [NETWORK:SIZE ...]

For each kind of 1x1 convolution that goes in steps of one: `nn.Conv2d`, one product for each image
and one of all pixels, which are laid out anew before and after it, take turns, forward and both
gradients (--predict: forward alone), in one graph each, on a CPU and in float32. Prints the time of
the convolution by that of each (median and quartiles; above 1 the product is quicker). Nothing else
should run meanwhile.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from products import batch_of, layers_of, parser_of, printed, ratio_of, told_of

from resnet_spec.loader import load_backend
from resnet_spec.ops import Conv

Turn = Callable[[], Any]


def turns_of(op: Conv, batch: int, predicts: bool) -> list[Turn]:
    """Return a step of the convolution and of both products, with the same weights."""
    ms: Any = importlib.import_module("mindspore")
    ms.set_seed(0)
    weight = ms.ops.standard_normal((op.out_shape[0], op.in_shape[0]))
    x = ms.ops.standard_normal((batch, *op.in_shape))
    slope = ms.ops.standard_normal((batch, *op.out_shape))

    def convolved(x: Any, weight: Any) -> Any:
        return ms.ops.conv2d(x, weight.reshape(*weight.shape, 1, 1))

    def by_image(x: Any, weight: Any) -> Any:
        n, channels, rows, columns = x.shape
        y = ms.ops.matmul(weight, x.reshape(n, channels, rows * columns))
        return y.reshape(n, weight.shape[0], rows, columns)

    def of_all_pixels(x: Any, weight: Any) -> Any:
        n, channels, rows, columns = x.shape
        pixels = x.transpose(0, 2, 3, 1).reshape(n * rows * columns, channels)
        y = ms.ops.matmul(pixels, weight.transpose(1, 0))
        return y.reshape(n, rows, columns, weight.shape[0]).transpose(0, 3, 1, 2)

    ways = (convolved, by_image, of_all_pixels)
    if predicts:
        return [_forward(way, x, weight) for way in ways]
    return [_step(way, x, weight, slope) for way in ways]


def _forward(way: Callable[[Any, Any], Any], x: Any, weight: Any) -> Turn:
    ms: Any = importlib.import_module("mindspore")
    run = ms.jit(way)
    return lambda: run(x, weight).asnumpy()


def _step(way: Callable[[Any, Any], Any], x: Any, weight: Any, slope: Any) -> Turn:
    ms: Any = importlib.import_module("mindspore")

    def loss(x: Any, weight: Any) -> Any:
        return (way(x, weight) * slope).sum()

    slopes = ms.jit(ms.grad(loss, (0, 1)))
    return lambda: [slope.asnumpy() for slope in slopes(x, weight)]


def rows(
    cases: Sequence[tuple[str, int]], rounds: int, batch: int | None, predicts: bool
) -> Iterator[str]:
    """Yield the table line by line."""
    load_backend("mindspore")  # It caps oneDNN where that is slow otherwise.
    yield "| convolution | batch | convolution / product of each image | / product of all |"
    yield "|---|---:|---:|---:|"
    for network, size in cases:
        images = batch_of(size, batch)
        for name, op in layers_of(network, size).items():
            if op.kernel != (1, 1) or op.stride > 1:
                continue
            plain, *others = turns_of(op, images, predicts)
            told = [told_of(ratio_of((plain, other), rounds)) for other in others]
            yield f"| {name} | {images} | {' | '.join(told)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--predict", action="store_true")
    args = parser.parse_args(arguments)
    return printed(rows(args.cases, args.rounds, args.batch, args.predict))


if __name__ == "__main__":
    sys.exit(main())
