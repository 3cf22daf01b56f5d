"""The command `resnet-spec`: finds the chosen command's module, and turns errors into one line.

Only the chosen command is imported, so that `--help` is quick. A command's module offers
`add_arguments(parser)` and `run(args) -> int`, which returns the exit status. Statuses: 0 done, 2
bad input or usage, 130 interrupted; a command may use 1 for a negative finding.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from resnet_spec.errors import ResnetSpecError, did_you_mean

PROGRAM = "resnet-spec"


class Command(NamedTuple):
    """Where a command is, and what it does in a few words."""

    module: str
    help: str


COMMANDS = {
    "list": Command("resnet_spec.cli.list", "networks that have a name"),
    "describe": Command("resnet_spec.cli.describe", "stages, parameters and costs of a network"),
    "schema": Command("resnet_spec.cli.schema", "the JSON Schema of a spec file"),
    "backends": Command("resnet_spec.cli.backends", "frameworks that can be used here"),
    "train": Command("resnet_spec.cli.train", "train a network"),
    "evaluate": Command("resnet_spec.cli.evaluate", "accuracy and loss of a checkpoint"),
    "predict": Command("resnet_spec.cli.predict", "classes of images"),
    "compare": Command("resnet_spec.cli.compare", "train a grid of networks, and compare them"),
    "report": Command("resnet_spec.cli.report", "tables, figures and a page of finished runs"),
    "inspect": Command("resnet_spec.cli.inspect", "what a weight file holds"),
    "convert": Command("resnet_spec.cli.convert", "weights to another project's names and files"),
    "export": Command("resnet_spec.cli.export", "weights as a file that other programs run"),
    "show": Command("resnet_spec.cli.show", "pictures of data, networks and results"),
    "parity": Command("resnet_spec.cli.parity", "prove that backends compute the same"),
    "bisect": Command("resnet_spec.cli.bisect", "find the first node that does not"),
}

_USAGE = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest option for an unknown one."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print one line and end with the status of a usage error."""
        print(f"{PROGRAM}: error: {message}; see: {self.prog} --help", file=sys.stderr)
        raise SystemExit(_USAGE)

    def parse_all(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse `arguments`; anything left over is an error."""
        args, unknown = self.parse_known_args(arguments)
        if unknown:
            # A command with parsers of its own names the one that was chosen.
            chosen: Parser = getattr(args, "parser", self)
            chosen.error(chosen._unknown(unknown[0].partition("=")[0]))
        return args

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word}: one argument too many"
        known = [option for action in self._actions for option in action.option_strings]
        return f"{word}: unknown option; {did_you_mean(word, known)}".removesuffix("; ")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return its exit status."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse, after a usage error or --help
        return stop.code if isinstance(stop.code, int) else 0
    except ResnetSpecError as error:
        _print_errors(error.problems)
        return _USAGE
    except KeyboardInterrupt:
        _print_errors(["interrupted"])
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has had enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        _print_errors([f"{error.filename or 'output'}: {error.strerror or error}"])
        return _USAGE


def _run(argv: Sequence[str]) -> int:
    name = argv[0] if argv else "--help"
    if name not in COMMANDS:
        return _run_without_command(name)
    args = parser_of(name).parse_all(argv[1:])
    return importlib.import_module(COMMANDS[name].module).run(args)


def parser_of(name: str) -> Parser:
    """Return the parser of the command `name`; imports that command's module, and no framework."""
    command = COMMANDS[name]
    about = f"{command.help[0].upper()}{command.help[1:]}."
    parser = Parser(f"{PROGRAM} {name}", about)
    importlib.import_module(command.module).add_arguments(parser)
    return parser


def _run_without_command(word: str) -> int:
    if word in ("-h", "--help"):
        print(_help())
        return 0
    if word == "--version":
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        return 0
    kind, known = ("option", _OPTIONS) if word.startswith("-") else ("command", COMMANDS)
    _print_errors([f"{word}: unknown {kind}; {did_you_mean(word, known)}"])
    return _USAGE


_OPTIONS = {"--help": "show this help; also after a command", "--version": "show the version"}


def _help() -> str:
    rows = [(name, command.help) for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Write a residual network once, as data; get native models and the proof they agree.",
            "",
            "commands:",
            *(f"  {name:<10} {text}" for name, text in rows),
            "",
            "options:",
            *(f"  {name:<10} {text}" for name, text in _OPTIONS.items()),
        ]
    )


def _print_errors(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"{PROGRAM}: error: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
