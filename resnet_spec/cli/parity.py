"""`resnet-spec parity`: compare backends with the float64 reference, level by level."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_format
from resnet_spec.cli.sides import (
    add_sides,
    for_processes,
    names,
    precision_of,
    progress,
    sides_of,
)
from resnet_spec.errors import BackendError, problem
from resnet_spec.files.json_text import json_text

if TYPE_CHECKING:
    from resnet_spec.reporting.report import Report

STATUS = {"agree": 0, "suspect": 1, "differ": 1, "undecided": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_sides(parser)
    parser.add_argument(
        "--level",
        type=names,
        action="extend",
        default=[],
        metavar="L,...",
        help="what to compare: names, shapes, counts, init, logits, activations, train_logits, "
        "gradients, statistics, update, trajectory, accuracy (default: all; repeatable)",
    )
    parser.add_argument(
        "--processes",
        metavar="N,...",
        help="compare runs in so many processes at the level processes, as 1,2 (in float64 where "
        "a backend computes it)",
    )
    parser.add_argument(
        "--shard",
        action="store_true",
        help="with --processes: each keeps a part of every parameter",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write parity.json and parity.html there, too"
    )
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print the comparison, worst first; return 0 agree, 1 differ, 2 could not compare."""
    from resnet_spec.errors import DataError
    from resnet_spec.files.writing import check_folder
    from resnet_spec.parity import LEVELS
    from resnet_spec.parity.compare import check_levels, compare_sides

    check_levels(args.level)
    if args.processes is not None:
        return _finished(args, _of_processes(args))
    if args.shard:
        raise BackendError("--shard: is of runs in several processes; give --processes, too")
    if "accuracy" in args.level and args.data is None:
        raise DataError("--level accuracy: needs images to predict; give --data")
    if args.out is not None:
        check_folder(args.out, "a report")
    expected, sides = sides_of(args)
    offered = [level for level in LEVELS if any(side.offers(level) for side in sides)]
    levels = args.level or offered
    with progress(2 + len(sides) * len(levels)) as tick:
        report = compare_sides(expected, sides, levels, precision_of(args), tick)
    return _finished(args, report)


def _of_processes(args: argparse.Namespace) -> Report:
    """Return the report of runs in several processes."""
    from resnet_spec.files.writing import check_folder
    from resnet_spec.parity.processes import check_counts, compare_processes

    if args.level:
        raise BackendError("--level: --processes is a level of its own; leave one out")
    counts = _counts(args.processes)
    check_counts(counts)
    if args.out is not None:
        check_folder(args.out, "a report")
    found = for_processes(args, counts)
    with progress(3 + len(found.backends) * len(counts)) as tick:
        return compare_processes(
            found.spec,
            found.backends,
            counts,
            precision=args.precision,
            device=args.device,
            shard=args.shard,
            setup=found.setup,
            tick=tick,
        )


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 6 for word in words):
        raise BackendError(problem("--processes", text, "must be numbers with commas, as 1,2"))
    return [int(word) for word in words]


def _finished(args: argparse.Namespace, report: Report) -> int:
    """Print a report, keep it where it is wanted, and return the status."""
    try:
        if args.out is not None:
            _write(args.out, report)
    finally:  # A full disk is no reason to lose it, nor is a reader who has gone.
        if args.format == "json":
            print(json_text(report.to_dict(details=False), indent=2))
        else:
            _print(report)
    return STATUS[report.verdict]


def _write(out: Path, report: Report) -> None:
    from resnet_spec.files.writing import write_json
    from resnet_spec.reporting.report_html import write_html

    write_json(out / "parity.json", report.to_dict())
    write_html(report, out / "parity.html")


def _print(report: Report) -> None:
    """Print the table in the width of the terminal, or as it is, the findings and the verdict."""
    from rich.console import Console

    from resnet_spec.printing.consoles import table_width

    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in report.to_table().lines(table_width()):
        console.print(line)
    for finding in report.findings:
        print(finding)
    print(f"verdict: {report.verdict}")
