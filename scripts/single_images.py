#!/usr/bin/env python3
"""Measure what else torch has for the convolutions of a single image's prediction, layer by layer.

    python scripts/single_images.py [--rounds N] [--batch N] [--size N] [NETWORK]

A session's prediction computes each convolution as one primitive of oneDNN, with bias and ReLU, in
channels_last. Beside it here, with weights packed by oneDNN in every case: the product of pixels
and kernel, where the kernel is 1x1 and goes in steps of one, and the convolution in oneDNN's own
blocked layout, without the ReLU, which torch has no such primitive for. Prints for each kind of
convolution how often the network has it, what it takes, and its time by that of the others, which
take turns (median and quartiles; above 1 the other is quicker); then all of them together, and the
same with the quickest of each kind. On a CPU, in float32. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from products import kind_of, plan_of, printed, timed, told_of

from resnet_spec.benchmarking.results import Spread
from resnet_spec.ops import Conv
from resnet_spec.running.child_processes import usable_processors

WAYS = ("as it is", "packed product", "blocked layout")
_TURN_S = 0.02
Turn = Callable[[], Any]


def kinds_of(network: str, size: int) -> dict[str, tuple[Conv, int]]:
    """Return one convolution of each kind by what it is, and how many there are."""
    ops = plan_of(network, size).ops
    named = [(kind_of(op), op) for op in ops if isinstance(op, Conv) and op.groups == 1]
    counts = Counter(name for name, _ in named)
    return {name: (op, counts[name]) for name, op in reversed(named)}


def turns_of(op: Conv, batch: int) -> dict[str, Turn]:
    """Return each way of computing `op` with a bias and a ReLU, on images that it prefers."""
    torch: Any = importlib.import_module("torch")
    own = torch.ops.mkldnn
    torch.manual_seed(0)
    weight, bias = 0.05 * torch.randn(op.weight.shape), torch.randn(op.out_shape[0])
    x = torch.randn(batch, *op.in_shape)
    sizes = list(op.pad[::2]), [op.stride] * 2, [op.dilation] * 2, 1

    def as_it_is() -> Any:
        return own._convolution_pointwise(last, packed, bias, *sizes, "relu", [], "")

    last = x.contiguous(memory_format=torch.channels_last)
    in_order = weight.contiguous(memory_format=torch.channels_last)
    packed = own._reorder_convolution_weight(in_order, *sizes, [*x.shape])
    turns: dict[str, Turn] = {WAYS[0]: as_it_is}
    if op.kernel == (1, 1) and op.stride == 1:
        pixels = last.permute(0, 2, 3, 1).reshape(-1, op.in_shape[0])
        matrix = own._reorder_linear_weight(weight.flatten(1), len(pixels))
        turns[WAYS[1]] = lambda: own._linear_pointwise(pixels, matrix, bias, "relu", [], "")
    if op.in_shape[0] >= 16:  # Fewer are not blocked.
        blocked = _in_blocks(torch.eye(x.shape[1])[:, :, None, None], x.to_mkldnn(), None)()
        turns[WAYS[2]] = _in_blocks(weight, blocked, bias, *sizes)
    return turns


def _in_blocks(weight: Any, x: Any, bias: Any, *sizes: Any) -> Turn:
    """Return the convolution of a tensor in oneDNN's own layout, which it leaves its result in."""
    torch: Any = importlib.import_module("torch")
    sizes = sizes or ([0, 0], [1, 1], [1, 1], 1)
    reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
    packed = reorder(weight.to_mkldnn(), *sizes, [*x.shape])
    return lambda: torch.mkldnn_convolution(x, packed, bias, *sizes)


def times_of(turns: Mapping[str, Turn], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one turn of each, round by round."""
    for turn in turns.values():
        timed(turn, 2)
    count = max(1, round(_TURN_S / timed(turns[WAYS[0]], 1)))
    found: dict[str, list[float]] = {way: [] for way in turns}
    for _ in range(rounds):
        for way, turn in turns.items():
            found[way].append(timed(turn, count) / count)
    return found


def rows(network: str, size: int, batch: int, rounds: int) -> Iterator[str]:
    """Yield the table line by line."""
    yield f"| {network}, {size} px, batch {batch} | there | ms | {' | '.join(WAYS[1:])} |"
    yield "|---|---:|---:|---:|---:|"
    totals, quickest = dict.fromkeys(WAYS, 0.0), 0.0
    for name, (op, count) in reversed(kinds_of(network, size).items()):
        times = times_of(turns_of(op, batch), rounds)
        base = times[WAYS[0]]
        medians = {way: 1000 * count * Spread.of(found).median for way, found in times.items()}
        for way in WAYS:
            totals[way] += medians.get(way, medians[WAYS[0]])
        quickest += min(medians.values())
        told = [_told(base, times.get(way)) for way in WAYS[1:]]
        yield f"| {name} | {count} | {medians[WAYS[0]] / count:.3f} | {' | '.join(told)} |"
    whole = totals[WAYS[0]]
    told = [f"{whole / totals[way]:.2f}" for way in WAYS[1:]]
    yield f"| all, where there is one |  | {whole:.1f} | {' | '.join(told)} |"
    yield f"| the quickest of each kind |  | {quickest:.1f} | {whole / quickest:.2f} |  |"


def _told(base: Sequence[float], other: Sequence[float] | None) -> str:
    if other is None:
        return ""
    return told_of(Spread.of([one / two for one, two in zip(base, other, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("network", nargs="?", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(arguments)
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(usable_processors())
    with torch.inference_mode():
        return printed(rows(args.network, args.size, args.batch, args.rounds))


if __name__ == "__main__":
    sys.exit(main())
