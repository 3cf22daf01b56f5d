"""`resnet-spec list`: the networks, published weights and other things that have a name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.arguments import add_format
from resnet_spec.cli.list_known import matching
from resnet_spec.files.json_text import json_text
from resnet_spec.printing.columns import Column, fitted
from resnet_spec.printing.consoles import table_width

if TYPE_CHECKING:
    from resnet_spec.weights.published import Published

Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="", help="a part of the name, or a pattern as in 'resnet*d'"
    )
    what = parser.add_mutually_exclusive_group()
    for name, text in _INSTEAD.items():
        what.add_argument(f"--{name}", action="store_true", help=f"{text} instead of networks")
    add_format(parser, ("table", "json"))


_INSTEAD = {
    "pretrained": "published weights",
    "recipes": "recipes of training",
    "data": "datasets",
    "schemes": "how projects call their tensors",
    "engines": "programs that predict in a backend's place",
}


def run(args: argparse.Namespace) -> int:
    """Print what matches as a table or JSON: presets with their parameters, costs and parts.

    With --pretrained: name, scheme, images, accuracy, digest and license of published weights.
    """
    rows, as_table = _chosen(args)
    print(json_text(rows, indent=2) if args.format == "json" else as_table(rows))
    return 0


def _chosen(args: argparse.Namespace) -> tuple[Rows, Callable[[Rows], str]]:
    """Return what is listed, and the function that makes a table of it."""
    if args.pretrained:
        return _published(args.pattern), _pretrained_table
    if not (args.recipes or args.data or args.schemes or args.engines):
        return _presets(args.pattern), _table
    from resnet_spec.cli import list_known as known

    if args.recipes:
        return known.recipes(args.pattern), known.recipes_table
    if args.data:
        return known.datasets(args.pattern), known.datasets_table
    if args.engines:
        return known.engines(args.pattern), known.engines_table
    return known.schemes(args.pattern), known.schemes_table


def _presets(pattern: str) -> Rows:
    from resnet_spec.describing.presets import about, list_presets

    names = matching(list_presets(), pattern, "preset", "see: resnet-spec list")
    return [{**_costs(name), "about": about(name)} for name in names]


def _costs(name: str) -> dict[str, Any]:
    from resnet_spec.describing.spec_files import load_spec
    from resnet_spec.planning.costs import count_macs, count_params
    from resnet_spec.planning.lowering import lower

    spec = load_spec(name)
    plan = lower(spec)
    return {
        "name": name,
        "params": count_params(plan.tensors),
        "macs": count_macs(plan.ops),
        "input_size": spec.input.size,
        "classes": spec.classes,
    }


def _table(rows: Rows) -> str:
    columns = [
        Column("name"),
        Column("params", right=True),
        Column("MACs", right=True, drop=2),
        Column("input", right=True, drop=1),
        Column("about", least=20, tail=True),
    ]
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
    return "\n".join(fitted(columns, cells, table_width()))


def _published(pattern: str) -> Rows:
    from resnet_spec.errors import CheckpointError
    from resnet_spec.weights.published import PUBLISHED

    hint = "see: resnet-spec list --pretrained"
    found = matching(list(PUBLISHED), pattern, "published weights", hint, CheckpointError)
    return [_pretrained_row(PUBLISHED[name]) for name in found]


def _pretrained_row(entry: Published) -> dict[str, Any]:
    mean, std = entry.statistics
    return {
        "name": entry.name,
        "network": entry.preset or entry.name.partition(".")[0],
        "settings": list(entry.settings),
        "names": entry.names,
        "input_size": entry.view.crop,
        "resize": entry.view.side,
        "interpolation": entry.view.interpolation,
        "mean": list(mean),
        "std": list(std),
        "top1": entry.top1,
        "top5": entry.top5,
        "accuracy_source": entry.source,
        "sha256": entry.sha256 or None,
        "license": entry.license or None,
        "address": entry.address,
    }


def _pretrained_table(rows: Rows) -> str:
    columns = [
        Column("name"),
        Column("names"),
        Column("input", right=True),
        Column("of", right=True, drop=2),
        Column("filter", drop=1),
        Column("top-1", right=True),
        Column("top-5", right=True, drop=5),
        Column("SHA-256", drop=3),
        Column("license", drop=4),
    ]
    keys = ("name", "names", "input_size", "resize", "interpolation", "top1", "top5", "sha256")
    cells = [
        tuple("-" if row[k] is None else str(row[k]) for k in (*keys, "license")) for row in rows
    ]
    about = (
        "Accuracies are the publishers', in percent on ImageNet-1K; SHA-256 is what is known of "
        "the file's digest. Sources, means and addresses: --format json."
    )
    width = table_width()
    return "\n".join([*fitted(columns, cells, width), "", *wrap(about, min(width or 88, 88))])
