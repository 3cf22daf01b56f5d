#!/usr/bin/env python3
"""Write docs/reference/: every field of spec and recipe, every command's arguments, and Python.

    python scripts/make_reference.py [--check]

Read from the JSON Schema of the models, the commands' own parsers and docstrings, so that the pages
say what the program does; `--check` changes nothing and exits with 1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import reference_python
from pydantic import BaseModel

from resnet_spec.cli.main import COMMANDS, PROGRAM, parser_of
from resnet_spec.describing.json_schema import described_schema
from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.recipes import RECIPES
from resnet_spec.describing.spec import Spec
from resnet_spec.files.writing import write_text
from resnet_spec.recipe import Recipe

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
MADE = "Made by `python scripts/make_reference.py`; do not edit."

# Where a command is explained.
PAGES = {
    "list": "[The spec](../spec.md#presets)",
    "describe": "[The spec](../spec.md#what-describe-counts)",
    "schema": "[The spec](../spec.md#where-a-spec-comes-from)",
    "backends": "[Writing a backend](../backends.md)",
    "train": "[Training](../training.md)",
    "find-rate": "[Training](../training.md#finding-a-rate)",
    "evaluate": "[Training](../training.md#checkpoints)",
    "predict": "[Training](../training.md#checkpoints)",
    "compare": "[Comparing](../comparing.md)",
    "report": "[Comparing](../comparing.md)",
    "show": "[Seeing](../seeing.md)",
    "inspect": "[Checkpoints](../checkpoints.md)",
    "convert": "[Checkpoints](../checkpoints.md)",
    "export": "[Exported models](../export.md)",
    "bench": "[Benchmarking](../benchmarking.md)",
    "parity": "[Parity](../parity.md)",
    "bisect": "[Parity](../parity.md)",
    "completion": "[The command line](../command_line.md#completion)",
}


def pages() -> dict[str, str]:
    """Return {file name: text} of the whole reference."""
    return {
        "spec.md": _joined(_spec_page()),
        "recipe.md": _joined(_recipe_page()),
        "cli.md": _joined(_cli_page()),
        "python.md": _joined(reference_python.lines(MADE)),
    }


def _joined(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def _spec_page() -> Iterator[str]:
    yield from ("# Fields of a spec", "", f"{MADE} [The spec](../spec.md) gives their sources.", "")
    yield from _tables(Spec)
    yield from ("## base", "")
    yield from ('A file may name a preset, and give only what differs: `base = "resnet50"`.', "")
    yield f"There are {len(PRESETS)}: {', '.join(f'`{name}`' for name in PRESETS)}."


def _recipe_page() -> Iterator[str]:
    yield from ("# Fields of a recipe", "", f"{MADE} [Training](../training.md) explains them.", "")
    yield from _tables(Recipe)
    names = ", ".join(f"`{name}`" for name in RECIPES)
    yield from ("## base", "")
    yield 'A file may name a recipe, and give only what differs: `base = "cifar-fast"`.'
    yield from ("", f"There are {names}.")


def _tables(model: type[BaseModel]) -> Iterator[str]:
    """Yield a section with a table of fields for `model` and each table inside it."""
    schema = described_schema(model)
    inner = schema.get("$defs", {})
    order = [name for name in map(_referred, schema["properties"].values()) if name]
    sections = {model.__name__: schema, **{name: inner[name] for name in order}}
    for name, table in sections.items():
        yield from (f"## {name}", "", _sentence(table.get("description", "")), "")
        yield from ("| field | value | default | meaning |", "|---|---|---|---|")
        for key, field in table["properties"].items():
            default = _default(field, key in table.get("required", ()))
            meaning = _sentence(field.get("description", ""))
            yield f"| `{key}` | {_value(field)} | {default} | {meaning} |"
        yield ""


def _referred(field: Mapping[str, Any]) -> str:
    """Return the name of the table that `field` is, or a list of; or nothing."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref", "")
    return reference.rpartition("/")[2]


def _value(field: Mapping[str, Any]) -> str:
    """Return what a field may be, in words."""
    if name := _referred(field):
        link = f"[{name}](#{name.lower()})"
        return f"list{_length(field)}: {link}" if "items" in field else f"table {link}"
    if "anyOf" in field:
        return " or ".join(_value(part) for part in field["anyOf"] if part != {"type": "null"})
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    match field["type"]:
        case "array":
            return f"list{_length(field)}: {_value(field['items'])}"
        case "boolean":
            return "`true`, `false`"
        case "string":
            return f"text{_between(field, 'minLength', 'maxLength', ' characters')}"
        case kind:
            limits = _between(field, "minimum", "maximum") or _limits(field)
            return f"{kind}{limits}"


def _length(field: Mapping[str, Any]) -> str:
    return _between(field, "minItems", "maxItems", " entries")


def _between(field: Mapping[str, Any], least: str, most: str, unit: str = "") -> str:
    """Return `, A to B` where the field has both limits."""
    if least in field and most in field:
        return f", {_number(field[least])} to {_number(field[most])}{unit}"
    return ""


def _limits(field: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    parts = (f", {sign} {_number(field[key])}" for key, sign in signs.items() if key in field)
    return "".join(parts)


def _number(value: float) -> str:
    if value == 2**63:
        return "2^63"
    return f"{int(value):,}" if value == int(value) else str(value)


def _default(field: Mapping[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    if "defaults" in field:  # Of `optimizers.table`: by kind.
        return ", ".join(f"{kind} `{json.dumps(v)}`" for kind, v in field["defaults"].items())
    if _referred(field) or field.get("default") is None:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _sentence(text: str) -> str:
    """Return a docstring as one line that a table's cell can hold."""
    return " ".join(text.split()).replace("|", "\\|")


def _cli_page() -> Iterator[str]:
    yield from ("# Commands", "", f"{MADE} `{PROGRAM} COMMAND --help` says the same.", "")
    yield from ("| command | what it does |", "|---|---|")
    for name, command in COMMANDS.items():
        yield f"| [`{name}`](#{name}) | {_sentence(command.help)} |"
    yield from (
        "",
        "The exit status is 0 when done, 1 for a negative finding (networks that differ,",
    )
    yield from ("a run of a grid that failed), 2 for bad input, 130 after Ctrl-C.", "")
    for name in COMMANDS:
        yield from _command(parser_of(name), f"## {name}", PAGES.get(name, ""))


def _command(parser: argparse.ArgumentParser, heading: str, page: str = "") -> Iterator[str]:
    """Yield the section of a command, and of the commands inside it."""
    link = f" See {page}." if page else ""
    yield from (heading, "", f"{_sentence(parser.description or '')}{link}", "")
    yield from ("```text", _usage(parser), "```", "")
    rows = sorted(_arguments(parser), key=lambda action: bool(action.option_strings))
    if rows:
        yield from ("| argument | meaning |", "|---|---|")
        yield from (f"| {_names(action)} | {_meaning(action)} |" for action in rows)
        yield ""
    for name, inner in _inner(parser).items():
        yield from _command(inner, f"#{heading} {name}")


def _inner(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the commands inside a command, as those of `show`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    inner = argparse._SubParsersAction
    return [a for a in parser._actions if a.dest != "help" and not isinstance(a, inner)]


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return one line: the positional arguments, and that there are options."""
    words = [parser.prog]
    if _inner(parser):
        return f"{parser.prog} {'|'.join(_inner(parser))} ..."
    for action in _arguments(parser):
        if not action.option_strings:
            word = f"{action.metavar or action.dest}" + " ..." * (action.nargs in ("+", "*"))
            words.append(f"[{word}]" if action.nargs in ("?", "*") else word)
    has_options = any(action.option_strings for action in _arguments(parser))
    return " ".join([*words, *["[OPTION ...]"] * has_options])


def _names(action: argparse.Action) -> str:
    """Return an argument as it is written; alternatives apart, for a table has no `|`."""
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    first, *others = value.split("|")
    if not action.option_strings:
        first = str(action.metavar or action.dest).split("|")[0]
    first = f"[{first}]" if action.option_strings and action.nargs == "?" else first
    written = " ".join([", ".join(action.option_strings), first]).strip()
    return " or ".join(f"`{word}`" for word in (written, *others))


def _meaning(action: argparse.Action) -> str:
    text = action.help or ""
    choices = [str(choice) for choice in action.choices or ()]
    if any(choice not in text for choice in choices):
        text = "; ".join(part for part in (", ".join(choices), text) if part)
    if "default" not in text and action.default not in (None, False, "", []):
        text = f"{text} (default: {action.default})".strip()
    return _sentence(text.replace("; (", " ("))


def main() -> int:
    """Write the pages, or compare them with those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when out of date")
    args = parser.parse_args()
    old = [name for name, text in pages().items() if _read(name) != text]
    for name in old:
        path = FOLDER / name
        if args.check:
            print(f"{path}: is out of date; run: python scripts/make_reference.py", file=sys.stderr)
        else:
            write_text(path, pages()[name])
            print(path)
    return 1 if args.check and old else 0


def _read(name: str) -> str:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
