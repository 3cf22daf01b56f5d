"""`resnet-spec bench`: how fast backends are, beside each other and other people's networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_format, add_spec, spec_of
from resnet_spec.cli.sides import names
from resnet_spec.files.destinations import OVERWRITE

if TYPE_CHECKING:
    from resnet_spec.benchmarking.asked import Asked
    from resnet_spec.benchmarking.results import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_spec(parser)
    backends = "backends to measure (default: all installed but numpy)"
    parser.add_argument("--backends", type=names, metavar="A,B,...", help=backends)
    against = "peers to measure beside them: torchvision, timm, ... or package.module:factory"
    parser.add_argument("--against", type=names, default=[], metavar="PEER,...", help=against)
    parser.add_argument(
        "--mode",
        choices=("train", "predict"),
        default="train",
        metavar="MODE",
        help="train or predict (default: train)",
    )
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="images of a step (default: 32)"
    )
    parser.add_argument(
        "--precision", default="float32", metavar="P", help="float32 (default), bfloat16, ..."
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ... (default: the best)")
    threads = "threads of each on a CPU (default: the processors, or OMP_NUM_THREADS)"
    parser.add_argument("--threads", type=int, metavar="N", help=threads)
    rounds = "in each everyone takes a turn (default: 5)"
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help=rounds)
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="length of a turn (default: 1)"
    )
    starts = "start everyone so often, each time for --rounds rounds (default: 1)"
    parser.add_argument("--starts", type=int, default=1, metavar="N", help=starts)
    profile = "afterwards, tables of where the backends' time goes: by node, and by kind of op"
    parser.add_argument("--profile", action="store_true", help=profile)
    add_format(parser, ("table", "json"))
    where = "folder for bench.json, bench.md, the bars as PNG and SVG, and profiles"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 1 where one of ours failed, or nobody was measured."""
    from resnet_spec.benchmarking.entries import check_profiled, entries_of
    from resnet_spec.benchmarking.files import check_files, write_files
    from resnet_spec.benchmarking.rounds import measure, ticks
    from resnet_spec.cli.progress import StillBar
    from resnet_spec.cli.saying import tell
    from resnet_spec.reporting.plots import INSTALL, can_draw
    from resnet_spec.running.interruption import tidy_on_sigterm

    asked = _asked(args)
    backends = _backends(asked) if args.backends is None else args.backends
    entries, left_out = entries_of(backends, args.against, asked.mode, asked.precision)
    if args.profile:
        check_profiled(entries)
    if args.out is not None:
        check_files(args.out, overwrite=args.overwrite, profile=args.profile)
    with tidy_on_sigterm(), StillBar("starting", ticks(asked, entries)) as bar:
        result = measure(asked, entries, left_out, bar.step)
    notes = list[str]()
    try:
        if args.out is not None and not write_files(args.out, result):
            notes = [f"{args.out}: stays as it was, for nobody was measured"]
        elif args.out is not None and not can_draw():
            notes = [f"no figure: matplotlib is not installed; run: {INSTALL}"]
    finally:  # A full disk is no reason to lose it, nor is a reader who has gone.
        _print(result, args.format)
    tell(notes, errors=True)
    return int(not result.is_sound)


def _asked(args: argparse.Namespace) -> Asked:
    from resnet_spec.benchmarking.asked import Asked
    from resnet_spec.running.child_processes import threads_of_each

    threads = threads_of_each(1) if args.threads is None else args.threads
    same = ("mode", "batch", "precision", "device", "rounds", "seconds", "starts", "profile")
    given = {name: getattr(args, name) for name in same}
    asked = Asked(spec_of(args), threads=threads, **given)
    assert asked.plan  # What cannot be lowered is refused here, before anything is started.
    return asked


def _backends(asked: Asked) -> list[str]:
    """Return the installed backends that compute in the precision; the reference is left out."""
    from resnet_spec.errors import BackendError
    from resnet_spec.loader import installed_backends, precisions_of

    installed = [name for name in installed_backends() if name != "numpy"]
    found = [name for name in installed if asked.precision in precisions_of(name)]
    if not found:
        have = f"of those installed ({', '.join(installed) or 'none'})"
        rule = f"there is no backend, {have}, that computes in {asked.precision}"
        raise BackendError(f"--backends: {rule}; see: resnet-spec backends")
    return found


def _print(result: Result, format: str) -> None:
    from resnet_spec.benchmarking.tables import lines
    from resnet_spec.files.json_text import json_text
    from resnet_spec.printing.consoles import table_width

    if format == "json":
        print(json_text(result.to_dict(), indent=2))
    else:
        print("\n".join(lines(result, table_width())))
