"""List the networks that have a name."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase

from resnet_spec.cli.arguments import add_format
from resnet_spec.errors import SpecError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="", help="a part of the name, or a pattern as in 'resnet*d'"
    )
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print name, parameters, multiply-accumulates and parts of every preset that matches."""
    from resnet_spec.presets import about, list_presets

    names = [name for name in list_presets() if _matches(name, args.pattern)]
    if not names:
        hint = did_you_mean(args.pattern, list_presets()) or "see: resnet-spec list"
        raise SpecError(f"pattern = {args.pattern}: matches no preset; {hint}")
    rows = [{**_costs(name), "about": about(name)} for name in names]
    print(json.dumps(rows, indent=2) if args.format == "json" else _table(rows))
    return 0


def _matches(name: str, pattern: str) -> bool:
    is_glob = any(sign in pattern for sign in "*?[")
    return fnmatchcase(name, pattern) if is_glob else pattern in name


def _costs(name: str) -> dict[str, object]:
    from resnet_spec.describe import count_macs, count_params
    from resnet_spec.lowering import lower
    from resnet_spec.spec_files import load_spec

    spec = load_spec(name)
    ops = lower(spec).ops
    return {
        "name": name,
        "params": count_params(ops),
        "macs": count_macs(ops),
        "input_size": spec.input.size,
        "classes": spec.classes,
    }


def _table(rows: list[dict[str, object]]) -> str:
    from resnet_spec.describe_text import table

    heads = ("name", "params", "MACs", "input", "about")
    cells = [
        (
            str(row["name"]),
            f"{row['params']:,}",
            f"{row['macs']:,}",
            str(row["input_size"]),
            str(row["about"]),
        )
        for row in rows
    ]
    return "\n".join(table([heads, *cells], right=(1, 2, 3)))
