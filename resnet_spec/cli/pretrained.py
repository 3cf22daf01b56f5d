"""Arguments and lines about weights that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_spec.data.views import View
    from resnet_spec.weights.loading import Pretrained

WEIGHTS = "a checkpoint, a weight file of any kind, published weights or hf:OWNER/NAME"
_FORMS = (
    "published weights (see: resnet-spec list --pretrained), a weight file of any kind, or "
    "hf:OWNER/NAME[/FILE][@REVISION]"
)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add --pretrained, --from, --part, --spec and --set: the weights, and what they cannot say."""
    from resnet_spec.cli.arguments import add_network

    add_pretrained(parser)
    parser.add_argument(
        "--from",
        dest="names",
        default="auto",
        metavar="SCHEME",
        help="whose names the weights have (default: auto, found from all of them)",
    )
    add_network(parser)


def add_ignore_classes(parser: argparse.ArgumentParser) -> None:
    """Add --ignore-classes."""
    parser.add_argument(
        "--ignore-classes",
        action="store_true",
        help="take labels by position, whatever the names of the classes",
    )


def add_crop(parser: argparse.ArgumentParser) -> None:
    """Add --crop."""
    what = "the part of an image's shorter side that is seen (default: as the weights' run did)"
    parser.add_argument("--crop", type=float, metavar="F", help=what)


def view_asked(crop: float | None, weights: Pretrained) -> View | None:
    """Return how images are looked at: by --crop, or as the weights say. Raises DataError."""
    from resnet_spec.data.at_size import view_of
    from resnet_spec.errors import DataError, problem

    if crop is None:
        return weights.view
    if not 0.0 < crop <= 1.0:
        raise DataError(problem("--crop", crop, "must be > 0 and <= 1", "0.875 is the usual"))
    return view_of(weights.spec.input.size, crop, "--crop")


def add_pretrained(parser: argparse.ArgumentParser) -> None:
    """Add --pretrained."""
    parser.add_argument("--pretrained", metavar="NAME|FILE|hf:...", help=_FORMS)


def weights_of(args: argparse.Namespace, place: str | None, *, whole: bool = True) -> Pretrained:
    """Return the weights at `place`, or at --pretrained, by the arguments of `add_weights`.

    whole: whether they must have a classifier. Raises CheckpointError for none or both.
    """
    from resnet_spec.errors import CheckpointError
    from resnet_spec.weights.loading import load_pretrained

    if (place is None) == (args.pretrained is None):
        given = "neither is" if place is None else "both are"
        raise CheckpointError(f"CHECKPOINT, --pretrained: one must be given, and {given}")
    source = args.pretrained if place is None else place
    weights = load_pretrained(
        source, spec=args.spec, names=args.names, settings=args.settings, part=args.part
    )
    if args.spec is None and not any(it.startswith("input.size") for it in args.settings):
        weights = weights.as_evaluated()
    if getattr(args, "crop", None) is None:
        weights = weights.with_crop_told()
    return weights.whole() if whole else weights
