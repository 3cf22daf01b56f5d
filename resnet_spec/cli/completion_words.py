"""What can be typed: commands, their options, and the values of those that have some by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from resnet_spec.cli.parsing import Parser


class Option(NamedTuple):
    """An option. values: names that it takes, () where it takes others; None: it takes nothing."""

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...] | None


class Words(NamedTuple):
    """What may follow a command. values: names that may be its first argument."""

    command: str
    help: str
    options: tuple[Option, ...]
    values: tuple[str, ...] = ()


def all_words() -> list[Words]:
    """Return the words of every command, and of the commands inside one behind it."""
    from resnet_spec.cli.main import COMMANDS, parser_of

    known = _known()
    found: list[Words] = []
    for name, command in COMMANDS.items():
        parser = parser_of(name)
        found.append(_words(parser, command.help, known))
        found += [
            _words(inner, inner.description or "", known) for inner in parser.inner().values()
        ]
    return found


def _words(parser: Parser, about: str, known: Mapping[str, Sequence[str]]) -> Words:
    options = tuple(_options(parser, known))
    first = next((a for a in parser._actions if not a.option_strings), None)
    values = tuple(map(str, (first and first.choices) or ()))
    if first is not None and not values:
        values = tuple(known.get(str(first.metavar), ()))
    return Words(parser.command, about, options, values)


def _options(parser: Parser, known: Mapping[str, Sequence[str]]) -> Iterator[Option]:
    for action in parser._actions:
        if not action.option_strings:
            continue
        values: tuple[str, ...] | None = None
        if action.nargs != 0:
            named = known.get(f"{parser.command} {action.option_strings[-1]}")
            named = named or known.get(action.option_strings[-1], ())
            values = tuple(map(str, action.choices or named))
        text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        yield Option(tuple(action.option_strings), text, values)


def _known() -> Mapping[str, Sequence[str]]:
    """Return names by the option, or the metavar of the argument, that takes them."""
    from resnet_spec.benchmarking.entries import peers
    from resnet_spec.cli.list_known import DATASETS
    from resnet_spec.comparing.sources import list_studies
    from resnet_spec.contract import Precision
    from resnet_spec.describing.presets import PRESETS
    from resnet_spec.describing.recipes import list_recipes
    from resnet_spec.loader import backend_names, export_formats
    from resnet_spec.parity.levels import LEVELS
    from resnet_spec.running.tracking.choice import TRACKERS
    from resnet_spec.weights import KINDS
    from resnet_spec.weights.naming import SCHEMES
    from resnet_spec.weights.published import PUBLISHED

    backends, presets, schemes = backend_names(), tuple(PRESETS), tuple(SCHEMES)
    return {
        "SPEC": presets,
        "SPEC|CHECKPOINT": presets,
        "GRID": list_studies(),
        "--spec": presets,
        "--specs": presets,
        "--backend": backends,
        "--backends": backends,
        "--data": tuple(DATASETS),
        "--recipe": list_recipes(),
        "--pretrained": tuple(PUBLISHED),
        "--from": schemes,
        "--names": schemes,
        "convert --to": schemes,
        "export --to": tuple(export_formats()),
        "bench --against": tuple(peers()),
        "bench --precision": get_args(Precision),
        "--kind": tuple(KINDS),
        "--level": tuple(LEVELS),
        "--track": tuple(TRACKERS),
        "--device": ("auto", "cpu", "cuda:0"),
        "--precision": ("float32", "float64"),
        "--freeze": ("backbone", "stem", "stages=1"),
    }
