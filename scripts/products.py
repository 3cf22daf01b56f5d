#!/usr/bin/env python3
"""Measure torch's convolutions that are matrix products beside those products, layer by layer.

    python scripts/products.py [--rounds N] [--batch N] [--precision P] [NETWORK:SIZE ...]

For each kind of convolution in the networks that is 1x1 or has a single window, whatever the
backend's rule says of it: `nn.Conv2d` and the backend's layer take turns, forward and both
gradients, in channels_last on a CPU. Prints the time of the convolution by that of the product
(median and quartiles; above 1 the product is quicker), in float32 or bfloat16, and what
`resnet_spec_torch.products` chooses. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from resnet_spec.benchmarking.results import Spread
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import ResnetSpecError
from resnet_spec.loader import load_backend
from resnet_spec.ops import Conv
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.running.child_processes import usable_processors

CASES = (("resnet50", 224), ("resnet50", 32))
_BATCHES = {224: 8, 32: 64}
_TURN_S = 0.03


def plan_of(network: str, size: int) -> Plan:
    """Return the plan of a preset for images of a size."""
    return lower(load_spec({"base": network, "input": {"size": size}}))


def layers_of(network: str, size: int) -> dict[str, Conv]:
    """Return one convolution of each kind that can be a product, by what it is."""
    plan = plan_of(network, size)
    found: dict[str, Conv] = {}
    for op in plan.ops:
        if isinstance(op, Conv) and can_be_product(op):
            found.setdefault(kind_of(op), op)
    return found


def kind_of(op: Conv) -> str:
    """Return what a convolution is, in words."""
    (before, rows, columns), after = op.in_shape, op.out_shape[0]
    by = f" by {op.stride}" if op.stride > 1 else ""
    return f"{op.kernel[0]}x{op.kernel[1]}{by}, {before} to {after} over {rows}x{columns}"


def can_be_product(op: Conv) -> bool:
    """Return whether the backend has a layer for it, be it quicker or not."""
    is_even = op.pad[0] == op.pad[1] and op.pad[2] == op.pad[3]
    return is_even and op.groups == 1 and (op.kernel == (1, 1) or op.only_window is not None)


def layers() -> Any:
    """Return the backend's module of products."""
    package: Any = load_backend("torch")
    return importlib.import_module(f"{package.__name__}.products")


def turns_of(op: Conv, batch: int, dtype: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a step of `nn.Conv2d` and one of the product, with the same weights."""
    torch: Any = importlib.import_module("torch")
    products = layers()
    torch.manual_seed(0)
    sizes = (op.in_shape[0], op.out_shape[0], op.kernel, op.stride)
    more = {"padding": op.pad[::2], "dilation": op.dilation, "bias": False}
    plain = torch.nn.Conv2d(*sizes, **more)
    make = products.product_of(op) or products.PointwiseConv2d
    product = make(*sizes, **more)
    product.load_state_dict(plain.state_dict())
    x = torch.randn(batch, *op.in_shape, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    slope = torch.randn(batch, *op.out_shape, dtype=dtype)
    slope = slope.contiguous(memory_format=torch.channels_last)

    def turn_of(layer: Any) -> Callable[[], None]:
        layer = layer.to(dtype=dtype, memory_format=torch.channels_last)
        return lambda: torch.autograd.grad(layer(x), (x, layer.weight), slope)

    return turn_of(plain), turn_of(product)


def batch_of(size: int, batch: int | None = None) -> int:
    """Return how many images are convolved at once: `batch`, or what is usual for their size."""
    return batch or _BATCHES.get(size, 8)


def ratio_of(turns: Sequence[Callable[[], None]], rounds: int) -> Spread:
    """Return the time of the first by that of the second, round by round."""
    for turn in turns:
        timed(turn, 2)
    count = max(1, round(_TURN_S / timed(turns[0], 1)))
    found = [[timed(turn, count) for turn in turns] for _ in range(rounds)]
    return Spread.of([first / second for first, second in found])


def told_of(ratio: Spread) -> str:
    """Return a ratio as a cell of a table."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def timed(turn: Callable[[], None], count: int) -> float:
    """Return the seconds of `count` turns."""
    began = time.perf_counter()
    for _ in range(count):
        turn()
    return time.perf_counter() - began


def rows(
    cases: Sequence[tuple[str, int]], precision: str, rounds: int, batch: int | None
) -> Iterator[str]:
    """Yield the table line by line."""
    torch: Any = importlib.import_module("torch")
    products = layers()
    dtype = getattr(torch, precision)
    yield f"| {precision}: convolution | batch | convolution / product | chosen |"
    yield "|---|---:|---:|---|"
    for network, size in cases:
        images = batch_of(size, batch)
        for name, op in layers_of(network, size).items():
            told = told_of(ratio_of(turns_of(op, images, dtype), rounds))
            chosen = "product" if products.product_of(op) else "convolution"
            yield f"| {name} | {images} | {told} | {chosen} |"


def case_of(text: str) -> tuple[str, int]:
    """Return a network and the size of its images."""
    network, _, size = text.rpartition(":")
    if not (network and size.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: write NETWORK:SIZE, as resnet50:224")
    return network, int(size)


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """Return a parser of what is measured, how often, and of how many images.

    text: what the script says of itself; its first line is the description.
    """
    parser = argparse.ArgumentParser(description=(text or "").split("\n", 1)[0])
    parser.add_argument("cases", nargs="*", metavar="NETWORK:SIZE", type=case_of, default=CASES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int)
    return parser


def printed(lines: Iterable[str]) -> int:
    """Print a table while it is made; return the exit status."""
    try:
        for line in lines:
            print(line, flush=True)
    except ResnetSpecError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors()))
    return printed(rows(args.cases, args.precision, args.rounds, args.batch))


if __name__ == "__main__":
    sys.exit(main())
