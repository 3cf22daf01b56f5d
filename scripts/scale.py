#!/usr/bin/env python3
"""Reckon a training step of a network on many accelerators, from its plan and public figures.

    python scripts/scale.py [--spec resnet50]

Nothing is measured here: the volume is counted in the plan, and time follows from the figures of
`MACHINE`, each with its source. Prints the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import NamedTuple

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower

MB, GB = 1e6, 1e9


class Machine(NamedTuple):
    """A machine of eight accelerators, and what joins many of them."""

    images_per_second: float = 2470.0
    """One A100 with 80 GB in mixed precision, 256 images (NVIDIA DeepLearningExamples, PyTorch
    resnet50v1.5, training performance in the 21.03 container)."""
    per_machine: int = 8
    inside: float = 230 * GB
    """Bytes a second on the bus of all-reduce over NVLink 3 (nccl-tests' busbw, 230-250 GB/s)."""
    between: float = 0.8 * 25 * GB
    """Bytes a second of an accelerator's own 200 Gb/s InfiniBand port, four fifths of its rate."""
    start_inside: float = 20e-6
    start_between: float = 10e-6
    """Seconds that a small collective takes inside a machine, and for every doubling of machines
    (assumed; NCCL's trees grow with the logarithm)."""
    bytes_per_image: float = 110e3
    """Of a JPEG of ImageNet's training images: 140 GB by 1.28 million."""
    decoded_per_core: float = 150.0
    """JPEGs that a core decodes, crops and resizes a second (assumed; without a GPU's decoder)."""


MACHINE = Machine()
BACKWARD = 2 / 3
"""Of a step's arithmetic, during which gradients can be sent: two products for each forward one."""


BUCKET = 25 * MB
"""Gradients of a message of DistributedDataParallel, unless it is told another size."""


class Volume(NamedTuple):
    """What a step sends. gradients: bytes. norms: how many take statistics of the batch."""

    gradients: int
    norms: int
    channels: int


class Step(NamedTuple):
    """Seconds of one step on `devices` accelerators with `images` each."""

    devices: int
    images: int
    arithmetic: float
    gradients: float
    norms: float
    last_bucket: float

    @property
    def exposed(self) -> float:
        """Seconds of gradients' messages that the backward pass cannot hide: the last at least."""
        return max(self.last_bucket, self.gradients - BACKWARD * self.arithmetic)

    def efficiency(self, *, is_global: bool) -> float:
        """Return the arithmetic's share of the step."""
        return self.arithmetic / (
            self.arithmetic + self.exposed + (self.norms if is_global else 0.0)
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Reckon a step on many accelerators.")
    parser.add_argument("--spec", default="resnet50")
    plan = lower(load_spec(parser.parse_args().spec))
    for line in page(plan):
        print(line)
    return 0


def volume_of(plan: Plan) -> Volume:
    values = sum(math.prod(tensor.shape) for tensor in plan.tensors if tensor.trainable)
    norms = [op.running_mean.shape[0] for op in plan.batch_norms]
    return Volume(4 * values, len(norms), sum(norms))


def step(volume: Volume, devices: int, images: int, machine: Machine = MACHINE) -> Step:
    """Return a step of `devices` accelerators, a few or whole machines of them."""
    inside = min(devices, machine.per_machine)
    machines = -(-devices // machine.per_machine)
    start = machine.start_inside + machine.start_between * math.log2(machines)
    seconds = _ring(volume.gradients, inside) / machine.inside
    seconds += _ring(volume.gradients / inside, machines) / machine.between
    return Step(
        devices,
        images,
        images / machine.images_per_second,
        seconds + start,
        2 * volume.norms * start,
        seconds * min(1.0, BUCKET / volume.gradients) + start,
    )


def _ring(size: float, devices: int) -> float:
    """Return the bytes that each of `devices` sends in an all-reduce of `size` bytes."""
    return 2 * (devices - 1) / devices * size


def page(plan: Plan) -> Iterator[str]:
    """Yield the tables, in Markdown."""
    volume = volume_of(plan)
    yield f"| {plan.name} | |"
    yield "|---|---|"
    yield f"| gradients of a step, float32 | {volume.gradients / MB:.1f} MB |"
    yield f"| sent by each of many accelerators (ring) | {2 * volume.gradients / MB:.0f} MB |"
    text = f"{2 * volume.norms} messages of at most {8 * 2048 / 1e3:.0f} kB"
    yield f"| `norm.sync = global`: {volume.norms} norms, {volume.channels:,} channels | {text} |"
    yield ""
    heads = ["accelerators", "images each", "batch", "arithmetic", "gradients", "not hidden"]
    yield from _heads(*heads, "norms, if global", "efficiency, replica", "global")
    for devices in (8, 64, 1024):
        for images in (256, 32, 8):
            yield _row(step(volume, devices, images))
    yield ""
    read = "read from disk", "cores to decode, each machine"
    yield from _heads("accelerators", "images a second, 256 each", *read)
    for devices in (8, 64, 1024):
        at = step(volume, devices, 256)
        speed = devices * at.images / at.arithmetic * at.efficiency(is_global=False)
        read = speed * MACHINE.bytes_per_image / GB
        cores = speed / (devices / MACHINE.per_machine) / MACHINE.decoded_per_core
        yield f"| {devices:,} | {speed:,.0f} | {read:,.1f} GB/s | {cores:.0f} |"


def _heads(*heads: str) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"


def _row(at: Step) -> str:
    times = (at.arithmetic, at.gradients, at.exposed, at.norms)
    shares = (at.efficiency(is_global=False), at.efficiency(is_global=True))
    cells = [f"{at.devices:,}", str(at.images), f"{at.devices * at.images:,}"]
    cells += [f"{1e3 * seconds:.1f} ms" for seconds in times]
    cells += [f"{share:.0%}" for share in shares]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
