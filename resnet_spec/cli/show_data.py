"""`resnet-spec show samples`: images as they are trained on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_settings
from resnet_spec.cli.saying import tell
from resnet_spec.cli.show_output import Picture, add_output, counted, output_of, put

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_spec.showing.samples import Sample

_MOST = 400


def _samples_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="D", help="a dataset's name or path")
    parser.add_argument("--recipe", metavar="R", help="a recipe's name or file (default: demo)")
    add_settings(parser, "change one field of the recipe, as in augment.pad=2")
    parser.add_argument("--seed", type=int, metavar="S", help="the run's seed (default: recipe's)")
    parser.add_argument("--count", type=int, default=32, metavar="N", help="images (default: 32)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="train")
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    add_output(parser)


def _samples(args: argparse.Namespace) -> int:
    from resnet_spec.data import load_data
    from resnet_spec.describing.recipes import load_recipe
    from resnet_spec.errors import RecipeError
    from resnet_spec.showing import samples

    count = counted(args, _MOST)
    settings = [*args.settings, *([] if args.seed is None else [f"seed={args.seed}"])]
    if args.split != "train" and (args.recipe or settings):
        rule = "is not augmented; leave --recipe, --set and --seed out"
        raise RecipeError(f"--split {args.split}: {rule}")
    recipe = load_recipe(args.recipe or "demo", settings)
    data = load_data(args.data, size=args.input_size)
    tell(data.notes)
    output = output_of(args, data.name)
    if args.split != "train":
        found = samples.evaluated_samples(data, args.split, count)
        heading, caption = samples.about(data, args.split, None)
    else:
        found = samples.training_samples(data, recipe, count)
        heading, caption = samples.about(data, args.split, recipe)
    shown = f"{heading}; {caption}"
    status = put(
        output,
        shown,
        lambda: samples.lines(found),
        lambda: samples.figure(found, heading, caption),
    )
    if not output.files:
        _thumbnails(found)
    return status


def _thumbnails(found: Sequence[Sample]) -> None:
    """Print the images in half blocks where the terminal has colour."""
    from rich.console import Console

    console = Console()
    if console.is_terminal and console.color_system is not None:
        print_thumbnails(console, found)


def print_thumbnails(console: Console, found: Sequence[Sample], columns: int = 16) -> None:
    """Print the images side by side, as many as fit, each below its index and class."""
    from rich.columns import Columns
    from rich.text import Text

    from resnet_spec.showing.canvas import short
    from resnet_spec.showing.terminal import thumbnail

    blocks = [
        Text("\n").join(
            [
                Text(short(f"{it.index} {it.label}", columns), "bold"),
                *thumbnail(it.pixels, columns),
            ]
        )
        for it in found
    ]
    console.print()
    console.print(Columns(blocks, padding=(0, 2, 1, 0)))


PICTURES = {
    "samples": Picture("images as they are trained on", _samples_arguments, _samples),
}
