"""`resnet-spec convert`: weights from any file to one of another scheme, kind, or our own."""

from __future__ import annotations

import argparse
from pathlib import Path

from resnet_spec.cli.arguments import add_network
from resnet_spec.cli.saying import tell
from resnet_spec.files.destinations import OVERWRITE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="a weight file of any kind")
    parser.add_argument(
        "destination",
        type=Path,
        metavar="DST",
        help="the file to write; .safetensors without --to is a checkpoint with its spec",
    )
    parser.add_argument(
        "--from",
        dest="names",
        default="auto",
        metavar="SCHEME",
        help="whose names SRC has (default: auto, found from all of them)",
    )
    parser.add_argument("--to", metavar="SCHEME", help="whose names DST has, as timm or mindcv")
    parser.add_argument("--kind", metavar="KIND", help="kind of DST (default: as its name ends)")
    parser.add_argument("--overwrite", action="store_true", help=f"{OVERWRITE}, once it is proven")
    add_network(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was assumed, what was written, and the proof."""
    from resnet_spec.weights.converting import convert

    done = convert(
        args.source,
        args.destination,
        names=args.names,
        to=args.to,
        kind=args.kind,
        spec=args.spec,
        settings=args.settings,
        overwrite=args.overwrite,
        part=args.part,
    )
    tell(done.notes)
    source = done.source
    print(f"read: {source.path}, {source.kind}, names of {source.scheme.name}: {source.spec.name}")
    print(f"written: {done.path}, names of {done.scheme}")
    print(done.proof.line)
    return 0
