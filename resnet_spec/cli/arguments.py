"""Arguments that several commands take, spelled once. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_spec.describing.spec import Spec


def add_spec(
    parser: argparse.ArgumentParser,
    checkpoint: bool = False,
    settings: str = "change one field, as in stages[2].blocks=4",
) -> None:
    """Add SPEC and the options that change it: --set, --input-size, --classes.

    checkpoint: whether the command takes weights in its place, too, or neither. settings: what
    --set does.
    """
    also = ", or weights: a checkpoint, a file of any kind, a published name" if checkpoint else ""
    metavar = "SPEC|CHECKPOINT" if checkpoint else "SPEC"
    what = f"a preset, a .toml or .json file{also}"
    parser.add_argument("spec", nargs="?" if checkpoint else None, metavar=metavar, help=what)
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes")
    add_settings(parser, settings)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add --part, --spec and --set, which say what tensors cannot."""
    add_part(parser)
    parser.add_argument("--spec", metavar="SPEC", help="the network it must be (default: inferred)")
    add_settings(parser, "what tensors do not show, as in stride_position=1x1")


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add --part, which chooses among the networks of a file."""
    parser.add_argument(
        "--part",
        metavar="NAME",
        help="which network of a file with several, as ema, the moving average, or encoder_q "
        "(default: the model)",
    )


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --set, which may be given many times; `settings` is [] without it."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        dest="settings",
        help=f"{what} (repeatable)",
    )


def add_format(parser: argparse.ArgumentParser, choices: Sequence[str]) -> None:
    """Add --format; the first of `choices` is the default."""
    default = choices[0]
    help_text = f"{', '.join(choices)} (default: {default})"
    parser.add_argument(
        "--format", choices=choices, default=default, metavar="FORMAT", help=help_text
    )


def spec_of(args: argparse.Namespace) -> Spec:
    """Return the spec that the arguments of `add_spec` describe. Raises SpecError."""
    from resnet_spec.describing.spec_files import load_spec

    settings = list(args.settings)
    if args.input_size is not None:
        settings.append(f"input.size={args.input_size}")
    if args.classes is not None:
        settings.append(f"classes={args.classes}")
    return load_spec(args.spec, settings)
