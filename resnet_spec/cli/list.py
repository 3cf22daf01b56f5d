"""`resnet-spec list`: the networks that have a name, and published weights."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_format
from resnet_spec.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from resnet_spec.pretrained import Published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="", help="a part of the name, or a pattern as in 'resnet*d'"
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="list published weights instead of networks"
    )
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print name, parameters, multiply-accumulates and parts of every preset that matches.

    With --pretrained: name, scheme, images, accuracy, digest and license of published weights.
    """
    from resnet_spec.presets import about, list_presets

    if args.pretrained:
        return _run_pretrained(args)

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


def _run_pretrained(args: argparse.Namespace) -> int:
    from resnet_spec.errors import CheckpointError
    from resnet_spec.pretrained import PUBLISHED

    found = [entry for name, entry in PUBLISHED.items() if _matches(name, args.pattern)]
    if not found:
        hint = did_you_mean(args.pattern, PUBLISHED) or "see: resnet-spec list --pretrained"
        raise CheckpointError(f"pattern = {args.pattern}: matches no published weights; {hint}")
    rows = [_pretrained_row(entry) for entry in found]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        print(_pretrained_table(rows))
    return 0


def _pretrained_row(entry: Published) -> dict[str, object]:
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


def _pretrained_table(rows: list[dict[str, object]]) -> str:
    from resnet_spec.describe_text import table

    heads = ("name", "names", "input", "of", "filter", "top-1", "top-5", "SHA-256", "license")
    keys = ("name", "names", "input_size", "resize", "interpolation", "top1", "top5", "sha256")
    cells = [
        tuple("-" if row[k] is None else str(row[k]) for k in (*keys, "license")) for row in rows
    ]
    return "\n".join(
        [
            *table([heads, *cells], right=(2, 3, 5, 6)),
            "",
            "Accuracies are the publishers', in percent on ImageNet-1K; SHA-256 is what is known",
            "of the file's digest. Sources, means and addresses: --format json.",
        ]
    )
