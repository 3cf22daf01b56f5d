#!/usr/bin/env python3
"""Measure how long backends stay together when they train the same network on the same images.

    python scripts/measure_drift.py [--spec S] [--data D] [--steps N] [--rate R] [--out DIR]

Every backend starts from the same weights and takes the same batches at the same rates. At some
steps, for every pair of backends: the relative difference of the loss, and the relative Euclidean
distance of weights and of running statistics. Beside them each backend's own drift: the largest
distance to its own runs from weights that were changed by one ulp, up or down. Two correct backends
part about as fast as one does from itself; a bug parts them faster, and from the first step on.

Prints tables in markdown; with --out, leaves drift.json and drift.png and .svg, too. With --page
nothing is measured: the pictures are drawn anew, from the tables of a page that has them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from drift_drawing import ABOUT, QUANTITIES, draw, read_page
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resnet_spec.contract import Array, Batch, Precision, Session, State
from resnet_spec.data import load_data
from resnet_spec.data.batches import train_batches
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import BackendError, RecipeError, ResnetSpecError, problem
from resnet_spec.files.writing import write_json
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import Rates, rates
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.out_folder import leave_only
from resnet_spec.reporting.plots import both_files, can_draw

MARKS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 500, 1000)
REFERENCE = "numpy"


# --- What is measured -----------------------------------------------------------------------------


class Distance(NamedTuple):
    """How far run a is from run b after a step, relative to b."""

    loss: float
    weights: float
    statistics: float


@dataclass
class Run:
    """One backend in one precision, from the common weights or from `nudged` ones.

    nudge: the seed of the change by one ulp; 0 for none.
    limit: the last step that it takes part in.
    """

    backend: str
    precision: Precision
    nudge: int
    session: Session
    state: State
    limit: int
    losses: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.backend} {self.precision}"

    @property
    def is_reference(self) -> bool:
        return (self.backend, self.precision) == (REFERENCE, "float64")

    def advance(self, batches: Sequence[Batch], rates: Rates) -> None:
        """Go on from where this run was left: a backend's runs share a compiled session.

        Raises RecipeError when the loss is no number.
        """
        self.session.load(self.state)
        self.losses += self.session.train(batches, rates).loss.tolist()
        if not np.isfinite(self.losses).all():
            step = int(np.isfinite(self.losses).argmin()) + 1
            rule = f"the loss of {self.label} became {self.losses[step - 1]} at step {step}"
            raise RecipeError(problem("--rate", rates.max(), rule, "lower it"))
        self.state = self.session.state()


def marks_up_to(steps: int) -> list[int]:
    """Return the steps after which distances are taken; the last step is one of them."""
    return sorted({mark for mark in MARKS if mark < steps} | {steps})


def nudged(state: Mapping[str, Array], dtype: type[np.floating[Any]], seed: int) -> State:
    """Return `state` in `dtype` with every number one ulp up or down; zeros stay."""
    draw = np.random.default_rng(seed)
    moved: State = {}
    for name, array in state.items():
        weights = array.astype(dtype)
        signs = draw.choice(np.array([-1, 1], dtype), weights.shape)
        moved[name] = np.where(weights == 0, weights, weights + np.spacing(weights) * signs)
    return moved


def relative(a: Mapping[str, Array], b: Mapping[str, Array], names: Sequence[str]) -> float:
    """Return ||a - b|| / ||b|| over all the tensors `names` together, in float64; 0 for none."""
    if not names:
        return 0.0
    pairs = [(a[name].astype(np.float64), b[name].astype(np.float64)) for name in names]
    apart = np.sqrt(sum(float(np.square(x - y).sum()) for x, y in pairs))
    return float(apart / np.sqrt(sum(float(np.square(y).sum()) for _, y in pairs)))


def distance(plan: Plan, a: Run, b: Run) -> Distance:
    """Return how far `a` is from `b` now."""
    statistics = [tensor.name for tensor in plan.tensors if tensor.is_statistic]
    return Distance(
        loss=abs(a.losses[-1] - b.losses[-1]) / abs(b.losses[-1]),
        weights=relative(a.state, b.state, plan.trainable),
        statistics=relative(a.state, b.state, statistics),
    )


def compared(runs: Sequence[Run]) -> dict[str, list[tuple[Run, Run]]]:
    """Return by label what is compared: pairs of backends in one precision, each of them with the
    reference, and each backend's nudged runs with its own.
    """
    common = [run for run in runs if not run.nudge]
    found: dict[str, list[tuple[Run, Run]]] = {}
    for a, b in combinations(common, 2):
        if b.is_reference:
            found[f"{a.label} from {b.label}"] = [(a, b)]
        elif a.precision == b.precision:
            found[f"{a.backend} from {b.label}"] = [(a, b)]
    for run in common:
        own = [(other, run) for other in runs if other.nudge and other.label == run.label]
        if own:
            found[f"{run.label}, one ulp"] = own
    return found


def largest(found: Sequence[Distance]) -> Distance:
    """Return the largest of each quantity."""
    return Distance(*(max(values) for values in zip(*found, strict=True)))


def exponent(steps: Sequence[int], distances: Sequence[float]) -> float:
    """Return p of the power step^p that the distances grow as: least squares, log to log.

    NaN where fewer than two of them are positive.
    """
    points = [(s, d) for s, d in zip(steps, distances, strict=True) if d > 0 and np.isfinite(d)]
    if len(points) < 2:
        return float("nan")
    x, y = np.log(np.array(points)).T
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


# --- Doing it -------------------------------------------------------------------------------------


def main() -> int:
    args = parse()
    try:
        if args.page is not None:
            draw(read_page(args.page), (args.out or args.page.parent) / "drift")
            return 0
        result = measure(args)
        print("\n".join(page(result)))
        if args.out is not None:
            write_json(args.out / "drift.json", result)
            figures = both_files(args.out / "drift")
            leave_only(figures if can_draw() else [], figures)  # No other run's beside it.
            draw(result, args.out / "drift")
    except ResnetSpecError as error:
        print(f"measure_drift: error: {error}", file=sys.stderr)
        return 2
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how long backends stay together.")
    parser.add_argument("--spec", default="resnet20_cifar", help="(default: resnet20_cifar)")
    parser.add_argument("--data", default="digits", help="a dataset's name or path (digits)")
    parser.add_argument("--input-size", type=int, help="pixels (default: the data's own)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--schedule", default="constant", choices=("constant", "cosine"))
    parser.add_argument("--backends", type=words, help="(default: all but numpy)")
    parser.add_argument("--precision", type=words, default=["float32", "float64"])
    parser.add_argument(
        "--reference", type=int, default=0, metavar="N", help="numpy's float64 takes N steps, too"
    )
    parser.add_argument("--nudges", type=int, default=2, help="runs for a backend's own drift (2)")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--page", type=Path, metavar="FILE", help="draw the tables of a page, only")
    return parser.parse_args()


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train all runs in step, and return their distances at the marks."""
    data = load_data(args.data, size=args.input_size)
    spec, _ = fitted(load_spec(args.spec), data)
    plan = lower(spec)
    recipe = Recipe(
        name="drift",
        steps=args.steps,
        batch=args.batch,
        schedule={"kind": args.schedule, "rate": args.rate},  # pyright: ignore[reportArgumentType]
    )
    steps = list(pairwise([0, *marks_up_to(args.steps)]))
    all_rates = rates(recipe, max(len(data.train) // args.batch, 1))
    runs = list(start(plan, recipe, args))
    pairs = compared(runs)
    series: dict[str, list[Distance]] = {label: [] for label in pairs}
    with bar(sum(run.limit for run in runs)) as progress:
        task = progress.task_ids[0]
        for first, last in steps:
            batches = list(train_batches(plan.noises, data.train, recipe, first, last))
            for run in (run for run in runs if run.limit >= last):
                progress.update(task, description=f"{run.label}, to step {last}")
                run.advance(batches, all_rates[first:last])
                progress.advance(task, last - first)
            for label, found in pairs.items():
                if all(run.limit >= last for pair in found for run in pair):
                    series[label].append(largest([distance(plan, a, b) for a, b in found]))
    return {
        "title": (
            f"{spec.name} on {data.name}, {plan.input.height} x {plan.input.width} pixels, batch "
            f"{args.batch}, {args.schedule} rate {args.rate:g}, momentum "
            f"{recipe.optimizer.momentum:g}, weight decay {recipe.optimizer.weight_decay:g}"
        ),
        "steps": [last for _, last in steps],
        "environment": {run.label: dict(run.session.info) for run in runs if not run.nudge},
        "pairs": {
            label: {q: [getattr(d, q) for d in found] for q in QUANTITIES}
            for label, found in series.items()
        },
        "own": {
            label: [f"{run.label}, one ulp" for pair in found for run in pair]
            for label, found in pairs.items()
        },
        "losses": {f"{run.label}, nudge {run.nudge}": run.losses for run in runs},
    }


def start(plan: Plan, recipe: Recipe, args: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs: of each backend in each precision that it has, and then the reference's."""
    initial = initial_state(plan, recipe.seed)
    backends = args.backends or [name for name in installed_backends() if name != REFERENCE]
    found: list[tuple[str, Precision]] = [
        (name, precision)
        for precision in args.precision
        for name in backends
        if precision in load_backend(name).PRECISIONS
    ]
    if not found:
        rule = f"is computed by none of {', '.join(backends)}"
        raise BackendError(problem("precision", ",".join(args.precision), rule))
    for name, precision in found:
        session = load_backend(name).Session(plan, recipe, precision=precision)
        dtype = np.float64 if precision == "float64" else np.float32
        for nudge in range(args.nudges + 1):
            state = nudged(initial, dtype, nudge) if nudge else dict(initial)
            yield Run(name, precision, nudge, session, state, args.steps)
    limit = max((mark for mark in marks_up_to(args.steps) if mark <= args.reference), default=0)
    if limit:
        session = load_backend(REFERENCE).Session(plan, recipe, precision="float64")
        yield Run(REFERENCE, "float64", 0, session, dict(initial), limit)


def bar(total: int) -> Progress:
    """Return a bar on the terminal's error stream."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    )
    progress.add_task("starting", total=total)
    return progress


# --- Showing it -----------------------------------------------------------------------------------


def page(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table for each quantity, as markdown."""
    yield f"{result['title']}."
    yield ""
    for label, info in result["environment"].items():
        yield f"- {label}: {', '.join(f'{key} {value}' for key, value in info.items())}"
    for quantity, about in zip(QUANTITIES, ABOUT, strict=True):
        yield ""
        yield f"**{about}** after so many steps; then the power of the step that they grow as, and"
        yield "the last one over the larger of the two backends' own drifts then:"
        yield ""
        yield f"| | {' | '.join(map(str, result['steps']))} | power | own drifts |"
        yield f"|---|{'---:|' * (len(result['steps']) + 2)}"
        for label, found in result["pairs"].items():
            values = found[quantity]
            cells = [f"{value:.1e}" if value else "0" for value in values]
            cells += [""] * (len(result["steps"]) - len(values))
            power = exponent(result["steps"][: len(values)], values)
            cells += [
                "" if np.isnan(power) else f"{power:.1f}",
                own_drifts(result, label, quantity),
            ]
            yield f"| {label} | {' | '.join(cells)} |"


def own_drifts(result: Mapping[str, Any], label: str, quantity: str) -> str:
    """Return how many times as far apart a pair is as one of them is from itself; "" for none."""
    found = result["pairs"][label][quantity]
    own = [
        result["pairs"][name][quantity][len(found) - 1]
        for name in result["own"][label]
        if found and name in result["pairs"] and name != label
    ]
    return f"{found[-1] / max(own):.1f}" if own and max(own) > 0 else ""


if __name__ == "__main__":
    sys.exit(main())
