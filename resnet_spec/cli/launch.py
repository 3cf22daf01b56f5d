"""`resnet-spec launch`: one run in several processes, on this machine and on others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from resnet_spec.cli.parsing import PROGRAM
from resnet_spec.errors import ResnetSpecError, UsageError, did_you_mean, problem
from resnet_spec.group import ALONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = (
        "%(prog)s --processes N [--nodes M --rank R --address HOST:PORT] [--max-restarts K] "
        "-- train SPEC ..."
    )
    count = "processes on each machine, as many as it has accelerators"
    parser.add_argument("--processes", type=int, required=True, metavar="N", help=count)
    parser.add_argument("--nodes", type=int, default=1, metavar="M", help="machines (default: 1)")
    place = "this machine's place among them, from 0 on (default: 0)"
    parser.add_argument("--rank", type=int, default=0, metavar="R", help=place)
    where = "where the first machine is met by the others"
    parser.add_argument("--address", default="", metavar="HOST:PORT", help=where)
    again = "start all again after one was lost, so often at most; the run goes on (default: 0)"
    parser.add_argument("--max-restarts", type=int, default=0, metavar="K", help=again)
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- train ...",
        help="the command that every process runs",
    )


def run(args: argparse.Namespace) -> int:
    """Start the processes; return their status: 0 done, 130 stopped and saved, else a failure."""
    from resnet_spec.running.launching import Launch, launched
    from resnet_spec.running.meeting import expected

    launch = Launch(args.processes, args.nodes, args.rank, args.address)
    launch.check(args.max_restarts)
    with expected(launch.group() if launch.nodes > 1 else ALONE, launches=True):
        arguments = _arguments(args)
    return launched(launch, arguments, _tell, args.max_restarts)


def _arguments(args: argparse.Namespace) -> list[str]:
    """Return what each process is told. Raises UsageError."""
    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    if not arguments:
        raise UsageError("launch: is given no command; end with: -- train SPEC ...")
    from resnet_spec.cli.main import COMMANDS, TOGETHER

    if arguments[0] not in TOGETHER:
        name = arguments[0]
        if name not in COMMANDS:
            rule = "is no command"
            near = did_you_mean(name, TOGETHER)
            raise UsageError(problem("launch", name or '""', rule, near))
        rule = f"cannot be run in several processes; only {' and '.join(TOGETHER)} can"
        raise UsageError(problem("launch", name, rule))
    parsed = _parsed(arguments)
    if args.max_restarts and args.nodes > 1:
        _check_backend(parsed)
    if args.max_restarts and arguments[0] == "train" and not parsed.auto_resume:
        arguments = [*arguments, *_going_on(parsed)]
    if args.quiet:
        arguments = [*arguments, "--quiet"]
    return list(arguments)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command's own arguments: what is wrong with them is told once, and here."""
    from resnet_spec.cli.main import parser_of

    return parser_of(arguments[0]).parse_all(arguments[1:])


def _check_backend(parsed: argparse.Namespace) -> None:
    """Refuse to start a backend's processes on several machines again that would not notice it.

    Of a run that goes on a machine that does not see it leaves that to the others.
    """
    from resnet_spec.running.job_of_group import backend_of_run
    from resnet_spec.running.request import Request
    from resnet_spec.running.together import check_can_start_again

    backend = parsed.backend
    if backend is None:
        with suppress(ResnetSpecError):
            backend = backend_of_run(Request(resume=parsed.resume, out=parsed.out))
    if backend is not None:
        check_can_start_again(backend)


def _going_on(parsed: argparse.Namespace) -> list[str]:
    """Return what lets the same command begin a run, and go on with it when started again."""
    if parsed.resume is False and not parsed.overwrite:
        return ["--auto-resume"]
    if parsed.resume is False or not (parsed.resume is True or parsed.out is None):
        option = "--overwrite" if parsed.overwrite else "--resume RUN with --out"
        rule = f"would begin anew each time with {option}"
        raise UsageError(f"--max-restarts: {rule}; leave it out")
    return []


def _tell(line: str) -> None:
    is_note = line.startswith("note: ")
    print(line if is_note else f"{PROGRAM}: error: {line}", file=sys.stderr)
