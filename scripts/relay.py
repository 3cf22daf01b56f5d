#!/usr/bin/env python3
"""Hand a run from backend to backend, and draw it against the run that one backend takes alone.

    python scripts/relay.py [--legs torch,flax,mindspore,torch] [--data D] [--steps N] [--out DIR]

The first backend of the relay also takes the whole run alone, once as it is and twice from weights
that were changed by one ulp, up or down: how far those drift apart is what a hand-over may make,
too. At some steps: relative difference of the loss, relative distance of weights and statistics.

Prints a table in markdown; with --out, leaves relay.json, and relay.png and .svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measure_drift import (  # pyright: ignore[reportMissingImports]
    QUANTITIES,
    Distance,
    Run,
    bar,
    distance,
    largest,
    nudged,
    words,
)

from resnet_spec.data import load_data
from resnet_spec.data.batches import train_batches
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import BackendError, ResnetSpecError, problem
from resnet_spec.files.writing import write_json
from resnet_spec.loader import load_backend
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe

NUDGES = 2
MARKS_PER_LEG = 4


def main() -> int:
    args = parse()
    try:
        result = measure(args)
    except ResnetSpecError as error:
        print(f"relay: error: {error}", file=sys.stderr)
        return 2
    print("\n".join(page(result)))
    if args.out is not None:
        write_json(args.out / "relay.json", result)
        draw(result, args.out / "relay")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hand a run from backend to backend.")
    parser.add_argument("--legs", type=words, default=["torch", "flax", "mindspore", "torch"])
    parser.add_argument("--spec", default="resnet20_cifar", help="(default: resnet20_cifar)")
    parser.add_argument("--data", default="digits", help="a dataset's name or path (digits)")
    parser.add_argument("--steps", type=int, default=120, help="of the whole run (default: 120)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--out", type=Path, metavar="DIR")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Take all runs side by side, and return their losses and distances."""
    if args.steps < MARKS_PER_LEG * len(args.legs):
        rule = f"must be at least {MARKS_PER_LEG} for each leg"
        raise BackendError(problem("--steps", args.steps, rule))
    data = load_data(args.data)
    spec, _ = fitted(load_spec(args.spec), data)
    plan = lower(spec)
    recipe = Recipe(
        name="relay",
        steps=args.steps,
        batch=args.batch,
        schedule={"kind": "cosine", "rate": args.rate, "unit": "steps"},  # pyright: ignore[reportArgumentType]
        ema={"decay": 0.99},  # pyright: ignore[reportArgumentType]
    )
    sessions = {name: load_backend(name).Session(plan, recipe) for name in {*args.legs}}
    first, start = args.legs[0], initial_state(plan, recipe.seed)
    starts = [start, *(nudged(start, np.float32, seed) for seed in range(1, NUDGES + 1))]
    alone, *moved = (
        Run(first, "float32", nudge, sessions[first], dict(state), args.steps)
        for nudge, state in enumerate(starts)
    )
    relay = Run(first, "float32", 0, sessions[first], dict(start), args.steps)
    schedule = rates(recipe, max(len(data.train) // args.batch, 1))
    parts = MARKS_PER_LEG * len(args.legs)
    marks = sorted({1, *(args.steps * k // parts for k in range(1, parts + 1))})
    series: dict[str, list[Distance]] = {"relay": [], "one ulp": []}
    with bar(len(marks)) as progress:
        for begin, end in pairwise([0, *marks]):
            leg = begin * len(args.legs) // args.steps
            relay.backend, relay.session = args.legs[leg], sessions[args.legs[leg]]
            batches = list(train_batches(plan.noises, data.train, recipe, begin, end))
            for run in (alone, *moved, relay):
                run.advance(batches, schedule[begin:end])
            series["relay"].append(distance(plan, relay, alone))
            series["one ulp"].append(largest([distance(plan, run, alone) for run in moved]))
            progress.update(progress.task_ids[0], description=f"step {end}", advance=1)
    return {
        "title": (
            f"{spec.name} on {data.name}, batch {args.batch}, cosine from {args.rate:g}, "
            f"{' -> '.join(args.legs)} against {first} alone"
        ),
        "legs": args.legs,
        "steps": marks,
        "environment": {name: dict(session.info) for name, session in sorted(sessions.items())},
        "losses": {"alone": alone.losses, "relay": relay.losses},
        "distances": {
            label: {q: [getattr(d, q) for d in found] for q in QUANTITIES}
            for label, found in series.items()
        },
    }


def page(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the distances as a table in markdown."""
    yield f"{result['title']}."
    yield ""
    for name, info in result["environment"].items():
        yield f"- {name}: {', '.join(f'{key} {value}' for key, value in info.items())}"
    yield ""
    shown = [i for i, _ in enumerate(result["steps"]) if i == 0 or i % 2 == 0]
    yield f"| | {' | '.join(str(result['steps'][i]) for i in shown)} |"
    yield f"|---|{'---:|' * len(shown)}"
    for quantity in QUANTITIES:
        for label, found in result["distances"].items():
            cells = " | ".join(f"{found[quantity][i]:.1e}" for i in shown)
            yield f"| {quantity}, {label} | {cells} |"


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the losses of both runs, and their distances, with the hand-overs marked."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError(
            "plots: need matplotlib, not installed; run: pip install 'resnet-spec[plots]'"
        ) from None
    figure: Any = Figure(figsize=(12, 4.6), layout="constrained")
    figure.suptitle(result["title"], fontsize=10)
    losses, distances = figure.subplots(1, 2)
    total, legs = result["steps"][-1], result["legs"]
    for label, style in (("alone", {"lw": 3, "alpha": 0.35}), ("relay", {"lw": 1})):
        values = result["losses"][label]
        losses.plot(range(1, len(values) + 1), values, label=label, **style)
    losses.set_ylabel("training loss")
    for label, style in (("relay", "-"), ("one ulp", "--")):
        for quantity, colour in zip(QUANTITIES, COLOURS, strict=True):
            values = result["distances"][label][quantity]
            distances.plot(
                result["steps"], values, style, color=colour, label=f"{quantity}, {label}"
            )
    distances.set_yscale("log")
    distances.set_ylabel("relative distance from the run alone")
    for axes in (losses, distances):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        mark(axes, legs, total)
        axes.legend(fontsize=8, loc="lower right" if axes is distances else "upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending in (".png", ".svg"):
        figure.savefig(path.with_suffix(ending), dpi=120)


COLOURS = ("#0072B2", "#D55E00", "#009E73")


def mark(axes: Any, legs: Sequence[str], total: int) -> None:
    """Draw a line at every hand-over, and the name of each leg's backend above."""
    for i, name in enumerate(legs):
        if i:
            axes.axvline(total * i / len(legs), color="grey", lw=0.8)
        axes.text(
            (i + 0.5) / len(legs), 1.01, name, transform=axes.transAxes, ha="center", fontsize=8
        )


if __name__ == "__main__":
    sys.exit(main())
