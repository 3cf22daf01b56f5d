"""`resnet-spec launch`: one run in several processes, on this machine and on others."""

from __future__ import annotations

import argparse
import sys

from resnet_spec.cli.parsing import PROGRAM
from resnet_spec.errors import BackendError, problem

_CAN = ("train",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = (
        "%(prog)s --processes N [--nodes M --rank R --address HOST:PORT] -- train SPEC ..."
    )
    count = "processes on each machine, as many as it has accelerators"
    parser.add_argument("--processes", type=int, required=True, metavar="N", help=count)
    parser.add_argument("--nodes", type=int, default=1, metavar="M", help="machines (default: 1)")
    place = "this machine's place among them, from 0 on (default: 0)"
    parser.add_argument("--rank", type=int, default=0, metavar="R", help=place)
    where = "where the first machine is met by the others"
    parser.add_argument("--address", default="", metavar="HOST:PORT", help=where)
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- train ...",
        help="the command that every process runs",
    )


def run(args: argparse.Namespace) -> int:
    """Start the processes; return their status: 0 done, 130 stopped and saved, else a failure."""
    from resnet_spec.running.launching import Launch, launched

    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    if not arguments:
        raise BackendError("launch: is given no command; end with: -- train SPEC ...")
    if arguments[0] not in _CAN:
        rule = f"cannot be run in several processes; only {', '.join(_CAN)} can"
        raise BackendError(problem("launch", arguments[0], rule))
    if args.quiet:
        arguments = [*arguments, "--quiet"]
    launch = Launch(args.processes, args.nodes, args.rank, args.address)
    return launched(launch, arguments, _tell)


def _tell(line: str) -> None:
    print(f"{PROGRAM}: error: {line}", file=sys.stderr)
