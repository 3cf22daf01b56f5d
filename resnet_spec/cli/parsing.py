"""The parser of a command: its errors are one line that says what to type instead."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from resnet_spec.errors import UsageError, did_you_mean, empty, problem

PROGRAM = "resnet-spec"
USAGE = 2
"""The exit status of bad input or usage."""
_NUMBER = re.compile(r"-\.?\d")


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviation, and looks unknown options up before all else."""

    def __init__(self, prog: str, description: str = "", **options: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **options)

    @property
    def command(self) -> str:
        """What is typed after the program's name."""
        return self.prog.removeprefix(PROGRAM).strip()

    def error(self, message: str) -> NoReturn:
        """Raise UsageError: among several processes the others are told before this one ends."""
        raise UsageError(f"{message}; see: {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse's own way hides that nobody could read it."""
        print(self.format_help(), end="", file=file)

    def parse_all(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse `arguments`; anything unknown or left over is an error."""
        if not {"-h", "--help"} & set(arguments):
            self._check_options(arguments)
        args, unknown = self.parse_known_args(arguments)
        if unknown:
            # A command with parsers of its own names the one that was chosen.
            chosen: Parser = getattr(args, "parser", self)
            chosen.error(f"{unknown[0]}: one argument too many")
        return args

    def _check_options(self, arguments: Sequence[str]) -> None:
        """End with an error where an option is unknown: before what it lacks is complained of."""
        chosen = self._chosen(arguments)
        known = {option for action in chosen._actions for option in action.option_strings}
        for i, argument in enumerate(arguments):
            if argument == "--":
                return
            word, _, value = argument.partition("=")
            if word.startswith("-") and word not in (*known, "-") and not _NUMBER.match(word):
                after = value if "=" in argument else _value_after(arguments, i)
                chosen.error(f"{word}: unknown option; {chosen._remedy(word, after, known)}")

    def _chosen(self, arguments: Sequence[str]) -> Parser:
        """Return the parser inside this one that `arguments` choose, or this one."""
        first = next((word for word in arguments if not word.startswith("-")), "")
        return self.inner().get(first, self)

    def inner(self) -> Mapping[str, Parser]:
        """Return the commands inside this one, as those of `show`."""
        for action in self._actions:
            if action.nargs == argparse.PARSER:
                return cast("Mapping[str, Parser]", action.choices)
        return {}

    def _remedy(self, word: str, value: str | None, known: set[str]) -> str:
        from resnet_spec.cli.hints import answer

        return answer(word, value, self.command, known) or did_you_mean(word, known)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Refuse empty texts, and lists of no names, for every argument. Extends argparse's."""
        # Those of a command inside this one are looked at by its own parser.
        given = [] if action.nargs == argparse.PARSER else arg_strings
        if any(not text.strip() for text in given):
            self.error(empty(_where(action)))
        values: Any = super()._get_values(action, arg_strings)  # pyright: ignore
        if given and values == []:  # As of a comma alone.
            self.error(problem(_where(action), given[0], "names nothing"))
        return values

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of the choices, in the form of all errors. Overrides argparse's."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        rule = f"must be {', '.join(choices[:-1])} or {choices[-1]}"
        where = _where(action)
        self.error(problem(where, value, rule, _nearest(where, str(value), choices)))


def _where(action: argparse.Action) -> str:
    """Return what an argument is called."""
    return action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)


def _value_after(arguments: Sequence[str], place: int) -> str | None:
    """Return what stands behind an option where that may be its value."""
    following = arguments[place + 1 : place + 2]
    is_value = bool(following) and (following[0][:1] != "-" or _NUMBER.match(following[0]))
    return following[0] if is_value else None


def _nearest(where: str, value: str, choices: Sequence[str]) -> str:
    from resnet_spec.cli.hints import VALUES
    from resnet_spec.errors import nearest

    meant = VALUES.get(where, {}).get(value.lower())
    close = meant if meant in choices else nearest(value.lower(), choices)
    return "" if close is None else f"did you mean '{close}'?"
