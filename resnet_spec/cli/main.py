"""The command `resnet-spec`: finds the chosen command's module, and turns errors into one line.

Only the chosen command is imported, so that `--help` is quick. A command's module offers
`add_arguments(parser)` and `run(args) -> int`, which returns the exit status. Statuses: 0 done, 2
bad input or usage, 3 another process of the run is lost, 130 interrupted; a command may use 1 for a
negative finding.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from resnet_spec.cli import streams
from resnet_spec.cli.parsing import PROGRAM, USAGE, Parser
from resnet_spec.cli.saying import add_quiet, listen, speaker
from resnet_spec.errors import (
    LOST_STATUS,
    LostError,
    ResnetSpecError,
    UsageError,
    did_you_mean,
    nearest,
    out_of_memory,
    problem,
)


class Command(NamedTuple):
    """Where a command is, and what it does in a few words."""

    module: str
    help: str


COMMANDS = {
    "list": Command("resnet_spec.cli.list", "networks, weights, recipes and data by name"),
    "describe": Command("resnet_spec.cli.describe", "stages, parameters and costs of a network"),
    "schema": Command("resnet_spec.cli.schema", "the JSON Schema of a spec file"),
    "backends": Command("resnet_spec.cli.backends", "frameworks that can be used here"),
    "train": Command("resnet_spec.cli.train", "train a network"),
    "find-rate": Command("resnet_spec.cli.find_rate", "the loss at ever higher learning rates"),
    "launch": Command("resnet_spec.cli.launch", "train in several processes"),
    "evaluate": Command("resnet_spec.cli.evaluate", "accuracy and loss of a checkpoint"),
    "predict": Command("resnet_spec.cli.predict", "classes of images"),
    "compare": Command("resnet_spec.cli.compare", "train a grid of networks, and compare them"),
    "report": Command("resnet_spec.cli.report", "tables, figures and a page of finished runs"),
    "inspect": Command("resnet_spec.cli.inspect", "what a weight file holds"),
    "convert": Command("resnet_spec.cli.convert", "weights to another project's names and files"),
    "export": Command("resnet_spec.cli.export", "weights as a file that other programs run"),
    "show": Command("resnet_spec.cli.show", "pictures of data, networks and results"),
    "bench": Command("resnet_spec.cli.bench", "how fast backends and other networks are"),
    "parity": Command("resnet_spec.cli.parity", "prove that backends compute the same"),
    "bisect": Command("resnet_spec.cli.bisect", "find the first node that does not"),
    "completion": Command("resnet_spec.cli.completion", "a script by which the Tab key completes"),
}

TOGETHER = ("train", "evaluate")
"""Commands that can be run in several processes."""

_INTERRUPTED = 130
_BROKEN_PIPE = 141
_OTHERS_SPEAK_S = 6.0
"""A framework takes up to four to take its leave, on a busy machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return its exit status."""
    try:
        streams.prepare()
        status = _status(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        if argv is None and "resnet_spec.running.meeting" in sys.modules:
            sys.modules["resnet_spec.running.meeting"].end_of_command(status)
        return status
    except BrokenPipeError:  # The reader, such as `head`, has had enough.
        streams.abandon(sys.stdout)
        return _BROKEN_PIPE
    except OSError as error:
        _print_errors([_failure(error)])
        streams.abandon(sys.stdout)
        return USAGE


def _status(argv: Sequence[str]) -> int:
    """Run the command line; what it is told in errors of its own becomes lines and a status."""
    try:
        return _run(argv)
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        problems = _problems(error)
        if not problems:
            raise
        if _is_told_by_others() or isinstance(error, LostError):
            # What fails in all processes the first one tells, and which one is gone is known to
            # whoever started them; either way that one's word ends this process.
            _wait_for_others()
        _print_errors(problems)
        return LOST_STATUS if isinstance(error, LostError) else USAGE
    except KeyboardInterrupt:
        if not speaker():  # Of several processes the first one says it.
            _print_errors(["interrupted"])
        return _INTERRUPTED


def _is_told_by_others() -> bool:
    """Return whether another process speaks for this one, where a person sees what both print."""
    if not speaker():
        return False
    from resnet_spec.running.under_launcher import speaks_for_machine

    return not speaks_for_machine(os.environ)


def _problems(error: Exception) -> Sequence[str]:
    """Return what is said of an error that is no fault of the program; () for one that is."""
    if isinstance(error, ResnetSpecError):
        return error.problems
    said = out_of_memory(error)
    if said is None:
        return ()
    remedy = "take fewer images at once (--batch), or smaller ones"
    return (problem("memory", said, "is not enough", remedy),)


def _wait_for_others() -> None:
    """Let other processes speak; the first one is told why this one fails, if it waits for it."""
    end = time.monotonic() + _OTHERS_SPEAK_S
    if "resnet_spec.running.meeting" in sys.modules:
        sys.modules["resnet_spec.running.meeting"].tell_others(_OTHERS_SPEAK_S)
    time.sleep(max(end - time.monotonic(), 0))


def _failure(error: OSError) -> str:
    if error.strerror is None and error.filename is None:
        return str(error)
    return f"{error.filename or 'output'}: {error.strerror or error}"


def _run(argv: Sequence[str]) -> int:
    name = argv[0] if argv else "--help"
    if name not in COMMANDS:
        return _run_without_command(name, argv[1:])
    try:
        args = parser_of(name).parse_all(argv[1:])
    except UsageError as error:
        if name in TOGETHER:
            _keep_for_others(error)
        raise
    with listen(getattr(args, "quiet", False)):
        return importlib.import_module(COMMANDS[name].module).run(args)


def _keep_for_others(error: UsageError) -> None:
    """Let the other processes, where the environment speaks of some, be told of words of this."""
    from resnet_spec.cli.saying import hush
    from resnet_spec.running.found_group import found_group

    with suppress(ResnetSpecError):
        group = found_group(os.environ)
        if group.size > 1:
            from resnet_spec.running.meeting import expected

            if group.rank:
                hush(group.rank)
            with expected(group):
                raise error


def parser_of(name: str) -> Parser:
    """Return the parser of the command `name`; imports that command's module, and no framework."""
    command = COMMANDS[name]
    about = f"{command.help[0].upper()}{command.help[1:]}."
    parser = Parser(f"{PROGRAM} {name}", about)
    importlib.import_module(command.module).add_arguments(parser)
    for one in parser.inner().values() or [parser]:
        if name in _TALKATIVE:
            add_quiet(one)
    return parser


_TALKATIVE = frozenset(COMMANDS) - {"list", "describe", "schema", "completion"}
"""Commands that print more than their results."""


def _run_without_command(word: str, rest: Sequence[str]) -> int:
    if word in ("-h", "--help"):
        print(_help())
        return 0
    if word == "--version":
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        return 0
    kind = "option" if word.startswith("-") else "command"
    _print_errors([f"{word}: unknown {kind}; {_remedy(word, rest)}"])
    return USAGE


def _remedy(word: str, rest: Sequence[str]) -> str:
    """Return what to type in the place of an unknown command, or of an option before one."""
    from resnet_spec.cli.hints import instead

    told = instead(word, rest, COMMANDS)
    if told is not None:
        return told
    if not word.startswith("-"):
        return did_you_mean(word, COMMANDS) or f"see: {PROGRAM} --help"
    close = nearest(word, _OPTIONS)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"a command comes first, as in {PROGRAM} train; see: {PROGRAM} --help"


_OPTIONS = {"--help": "show this help; also after a command", "--version": "show the version"}


_ABOUT = "Write a residual network once, as data; get native models and the proof they agree."


def _help() -> str:
    from textwrap import fill

    from resnet_spec.printing.consoles import text_width

    rows = [(name, command.help) for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            fill(_ABOUT, text_width()),
            "",
            "commands:",
            *(f"  {name:<10} {text}" for name, text in rows),
            "",
            "options:",
            *(f"  {name:<10} {text}" for name, text in _OPTIONS.items()),
        ]
    )


def _print_errors(lines: Sequence[str]) -> None:
    rank = speaker()
    try:
        for line in lines:
            by = f"rank {rank}: " if rank and not line.startswith(("rank ", "ranks ")) else ""
            print(f"{PROGRAM}: error: {by}{line}", file=sys.stderr)
    except OSError:  # Nobody reads the error stream any more.
        streams.abandon(sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
