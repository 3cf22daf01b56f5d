"""`resnet-spec bisect`: the first node that does something else, and why."""

from __future__ import annotations

import argparse

from resnet_spec.cli.arguments import add_format
from resnet_spec.cli.sides import add_sides, precision_of, progress, sides_of
from resnet_spec.files.json_text import json_text

MODES = ("forward", "backward", "statistics", "update")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_sides(parser)
    parser.add_argument(
        "--mode", choices=MODES, metavar="MODE", help=f"{', '.join(MODES)} (default: in this order)"
    )
    add_format(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    """Print the first wrong node of every side; return 0 when there is none, 1 otherwise."""
    from resnet_spec.parity.floors import Floors
    from resnet_spec.parity.localise import search
    from resnet_spec.reporting.report import Finding

    modes = MODES if args.mode is None else (args.mode,)
    expected, sides = sides_of(args)
    found: dict[str, Finding | None] = {}
    with progress(1 + len(sides) * len(modes)) as tick:
        tick("reference")
        floors = Floors(expected, precision_of(args))
        for side in sides:
            found[side.backend] = None
            for mode in modes:
                tick(f"{side.backend}: {mode}")
                found[side.backend] = found[side.backend] or search(mode, side, floors)
    if args.format == "json":
        plain = {name: finding and finding.to_dict() for name, finding in found.items()}
        print(json_text(plain, indent=2))
    else:
        for name, finding in found.items():
            done = f"{name}: no wrong node ({', '.join(modes)})"
            print(done if finding is None else finding)
    return 1 if any(found.values()) else 0
