#!/usr/bin/env python3
"""Check the backends on an accelerator, and print a table to paste into an issue.

    python scripts/accelerator_check.py [--backends torch,flax,mindspore] [--device D] [--quick]

For each backend, on its best device or on the one that is given (in the framework's own word, as
`cuda:0`):

- every level of `resnet-spec parity` against the float64 reference, in float32 and, where the
  device computes it, in float64;
- bfloat16 and float16: a run of twenty steps beside that in float32 (the largest difference of a
  step's loss, in unit roundoffs of the precision), and the angle between their gradients;
- rematerialisation: whether a step of `remat = "all"` is the same;
- several devices: the run of two processes beside that of one, where there are two devices;
- images per second in training, by precision.

Takes about ten minutes with all three; exit status 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from resnet_spec.contract import Batch, Precision, State
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import ResnetSpecError
from resnet_spec.loader import installed_backends, load_backend, precisions_of
from resnet_spec.parity.compare import compare_sides
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.processes import compare_processes
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.rematerialisation import rematerialised
from resnet_spec.printing.consoles import progress_console

ROUNDOFF: dict[Precision, float] = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
UNITS = 16.0
"""Unit roundoffs of the loss by which a run in a reduced precision may differ in any step."""
COSINE = 0.98
"""Of the gradients of a step in a reduced precision and in float32, at least."""
RATE = 3e-4


class Found(NamedTuple):
    """One line of the table."""

    backend: str
    what: str
    result: str
    is_sound: bool = True


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the backends on an accelerator.")
    parser.add_argument("--backends", help="comma-separated; default: all that are installed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="one small network alone")
    args = parser.parse_args()
    asked = args.backends.split(",") if args.backends else installed_backends()
    backends = [name for name in asked if name != "numpy"]
    networks = ("resnet20_cifar",) if args.quick else ("resnet20_cifar", "seresnet50", "resnet50")
    rows: list[Found] = []
    with Progress(transient=True, console=progress_console()) as bar:
        checks = (
            lambda name: parities(name, args.device, networks),
            lambda name: reduced(name, args.device),
            lambda name: again(name, args.device),
            lambda name: processes(name, args.device),
            lambda name: speeds(name, args.device, quick=args.quick),
        )
        task = bar.add_task("starting", total=len(backends) * len(checks))
        for name in backends:
            for check in checks:
                bar.update(task, description=name)
                rows += told(name, check)
                bar.advance(task)
    print("| backend | what | result | |\n|---|---|---|---|")
    for row in rows:
        sound = "ok" if row.is_sound else "**WRONG**"
        print(f"| {row.backend} | {row.what} | {row.result} | {sound} |")
    return 0 if all(row.is_sound for row in rows) else 1


def told(name: str, check: Callable[[str], Iterator[Found]]) -> list[Found]:
    """Return what a check finds; what it cannot have is a line, too."""
    try:
        return list(check(name))
    except ResnetSpecError as error:
        return [Found(name, "not checked", error.problems[0])]
    except Exception as error:  # Whatever a framework raises on a device it was not tried on.
        words = " ".join(str(error).split())[:200]
        return [Found(name, "failed", f"{type(error).__name__}: {words}", is_sound=False)]


def setup_of(network: str, size: int, batch: int, steps: int) -> Setup:
    """Return drawn weights and batches."""
    plan = lower(load_spec(network), size)
    return make_setup(plan, make_recipe(steps, batch, RATE, ema={"decay": 0.9}))


def parities(name: str, device: str, networks: tuple[str, ...]) -> Iterator[Found]:
    """Compare with the reference at every level."""
    levels = [level for level in LEVELS if level != "accuracy"]
    for network in networks:
        size = 32 if network.endswith("_cifar") else 64
        expected = reference_of(setup_of(network, size, 4, 5))
        for precision in ("float32", "float64"):
            if precision not in precisions_of(name):
                continue
            side = Side(name, expected.setup, precision, device=device)
            try:
                info = side.info
            except ResnetSpecError as error:
                yield Found(name, f"{network} {precision}", error.problems[0])
                continue
            report = compare_sides(expected, [side], levels, precision)
            worst = report.worst_first[0]
            where = f"{worst.level} {worst.worst.name} {worst.worst.floor_multiples:.1f} floors"
            result = (
                f"{report.verdict} at {len(report.rows)} levels on {info['device']}; worst: {where}"
            )
            yield Found(name, f"{network} {precision}", result, report.verdict == "agree")
            yield from (Found(name, network, str(f), is_sound=False) for f in report.findings)


def reduced(name: str, device: str) -> Iterator[Found]:
    """Train in the reduced precisions beside float32."""
    setup = setup_of("resnet20_cifar", 32, 16, 20)
    full = Side(name, setup, "float32", device=device)
    for precision, unit in ROUNDOFF.items():
        if precision not in precisions_of(name):
            continue
        side = Side(name, setup, precision, device=device)
        try:
            apart = float(np.max(np.abs(side.losses - full.losses) / np.abs(full.losses))) / unit
        except ResnetSpecError as error:
            yield Found(name, precision, error.problems[0])
            continue
        cosine = _cosine(side.gradients[1], full.gradients[1])
        is_sound = apart < UNITS and cosine > COSINE
        result = f"loss within {apart:.1f} roundoffs of float32, gradients at cosine {cosine:.4f}"
        yield Found(name, f"{precision}, 20 steps", result, is_sound)


def _cosine(a: State, b: State) -> float:
    x, y = (np.concatenate([s[k].ravel() for k in b]).astype(np.float64) for s in (a, b))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def again(name: str, device: str) -> Iterator[Found]:
    """Compute activations again in the backward pass."""
    setup = setup_of("resnet20_cifar", 32, 8, 2)
    recipe = setup.recipe.model_copy(update={"remat": "all"})
    other = replace(setup, plan=rematerialised(setup.plan, recipe), recipe=recipe)
    kept, computed = (Side(name, s, "float32", device=device).run[1] for s in (setup, other))
    apart = max(
        float(np.abs(kept[k] - computed[k]).max() / (np.abs(kept[k]).max() or 1.0)) for k in kept
    )
    yield Found(name, "remat = all, 2 steps", f"state within {apart:.1e}", apart < 1e-4)


def processes(name: str, device: str) -> Iterator[Found]:
    """Train in two processes, where each has a device of its own."""
    if device not in ("auto", "cpu") or not hasattr(load_backend(name), "join"):
        return
    report = compare_processes(load_spec("resnet20_cifar"), name, (1, 2), precision="float32")
    result = (
        f"{report.verdict}; {'; '.join(map(str, report.findings)) or 'state of two is that of one'}"
    )
    yield Found(name, "1 and 2 processes", result, report.verdict == "agree")


def speeds(name: str, device: str, *, quick: bool) -> Iterator[Found]:
    """Measure training, by precision."""
    network, size, batch = ("resnet20_cifar", 32, 64) if quick else ("resnet50", 224, 64)
    for precision in precisions_of(name):
        if precision == "float64":
            continue
        setup = setup_of(network, size, batch, 2)
        made: Any = load_backend(name).Session
        try:
            session = made(setup.plan, setup.recipe, device=device, precision=precision)
        except ResnetSpecError as error:
            yield Found(name, f"{network} {precision}", error.problems[0])
            continue
        session.load(setup.state)
        yield Found(
            name,
            f"{network} {precision}, batch {batch}",
            f"{_speed(session, setup.batches[0]):.0f} images/s",
        )


def _speed(session: Any, batch: Batch) -> float:
    def turn(steps: int) -> float:
        start = time.perf_counter()
        session.train(iter([batch] * steps), np.full(steps, RATE))
        return time.perf_counter() - start

    turn(3)
    steps = max(3, min(200, int(5.0 / max(turn(2) / 2, 1e-4))))
    return len(batch) * steps / min(turn(steps) for _ in range(3))


if __name__ == "__main__":
    raise SystemExit(main())
