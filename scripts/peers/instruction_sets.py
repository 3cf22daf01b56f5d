"""MindSpore's own oneDNN capped at AVX2 and as it is, on a CPU with AVX-512.

A cap is taken once in a process: each turn has a process of its own, which is this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from resnet_spec import session
from resnet_spec.contract import Batch
from resnet_spec.recipe import Recipe

NETWORK, SIZE, BATCH, STEPS = "resnet20_cifar", 32, 32, 3
SWITCH = "RESNET_SPEC_MINDSPORE_ISA"
OTHERS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


class Turn(NamedTuple):
    """What a process measured: images/s of training, and what its session said of itself."""

    speed: float
    isa: str


def compared() -> list[str]:
    """Return a Markdown table of both, or a line that says why there is none."""
    capped = turn({})
    if "(capped" not in capped.isa:
        return [f"left out: isa: this CPU has no AVX-512; MindSpore uses {capped.isa or 'no CPU'}"]
    plain = turn({SWITCH: "default"})
    title = f"train {NETWORK}, {SIZE} px, batch {BATCH}"
    return [
        "| case | instruction set | images/s | capped / as it is |",
        "|---|---|---:|---:|",
        f"| {title} | {capped.isa} | {capped.speed:.3g} | {capped.speed / plain.speed:.2f} |",
        f"| {title} | {plain.isa} | {plain.speed:.3g} |  |",
    ]


def turn(environment: dict[str, str]) -> Turn:
    """Return what a fresh process measures."""
    kept = {name: text for name, text in os.environ.items() if name not in (SWITCH, *OTHERS)}
    command = [sys.executable, __file__]
    done = subprocess.run(
        command, env={**kept, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return Turn(**json.loads(done.stdout.splitlines()[-1]))


def measure() -> Turn:
    """Train in this process: a step that compiles, and then those that are timed."""
    made = session(NETWORK, "mindspore", Recipe(steps=1, batch=BATCH), input_size=SIZE)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    batches: list[Any] = [Batch(images, random.integers(0, 10, BATCH), np.arange(BATCH))] * STEPS
    made.train(batches[:1], np.full(1, 1e-3))
    clock = time.perf_counter()
    made.train(batches, np.full(STEPS, 1e-3))
    return Turn(BATCH * STEPS / (time.perf_counter() - clock), made.info.get("isa", ""))


if __name__ == "__main__":
    print(json.dumps(measure()._asdict()))
