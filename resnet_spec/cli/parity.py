"""`resnet-spec parity`: compare backends with the float64 reference, level by level."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_format, add_spec, spec_of

if TYPE_CHECKING:
    from resnet_spec.contract import Precision
    from resnet_spec.plan import Plan
    from resnet_spec.recipe import Recipe
    from resnet_spec.report import Report

_RATE = 3e-4
"""Below the suite's: a deep network turns rounding into chaos sooner (see docs/parity.md)."""

_STATUS = {"agree": 0, "differ": 1, "undecided": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_spec(parser)
    parser.add_argument(
        "--backends",
        type=_names,
        metavar="A,B,...",
        help="backends to compare with the reference (default: all installed)",
    )
    parser.add_argument(
        "--level",
        type=_names,
        action="extend",
        default=[],
        metavar="L,...",
        help="what to compare: names, shapes, counts, logits, train_logits, gradients, "
        "statistics, update, trajectory (default: all; repeatable)",
    )
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images (default: 4)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps (default: 20)")
    parser.add_argument("--precision", default="float32", help="float32 (default) or float64")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write parity.json there, too")
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print the comparison, worst first; return 0 agree, 1 differ, 2 could not be decided."""
    from rich.console import Console

    from resnet_spec.files import write_json
    from resnet_spec.loader import installed_backends
    from resnet_spec.lowering import lower
    from resnet_spec.parity import LEVELS
    from resnet_spec.parity.compare import check_levels, check_precision
    from resnet_spec.parity.setup import make_recipe

    plan = lower(spec_of(args))
    recipe = make_recipe(args.steps, args.batch, _RATE)
    backends = args.backends or [n for n in installed_backends() if n != "numpy"] or ["numpy"]
    levels = args.level or list(LEVELS)
    check_levels(levels)
    for name in backends:
        check_precision(name, args.precision)
    report = _compare(plan, recipe, backends, levels, args.precision)
    if args.out is not None:
        write_json(args.out / "parity.json", report.to_dict())
    if args.format == "json":
        print(json.dumps(report.to_dict(), indent=2))
    else:
        console = Console()
        console.print(report.to_table())
        console.print(f"verdict: {report.verdict}", highlight=False)
    return _STATUS[report.verdict]


def _compare(
    plan: Plan,
    recipe: Recipe,
    backends: Sequence[str],
    levels: Sequence[str],
    precision: Precision,
) -> Report:
    """Compare, with a progress bar on a terminal's error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from resnet_spec.parity import compare

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=1 + len(backends) * len(levels))

        def tick(what: str) -> None:
            bar.update(task, description=what, advance=1)

        return compare(plan, recipe, backends, levels, precision, tick)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
