"""`resnet-spec predict`: the most probable classes of image files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.computing import add_computing, check_computing, engine_notes, predictor
from resnet_spec.cli.pretrained import WEIGHTS, add_crop, add_weights, view_asked, weights_of
from resnet_spec.cli.saying import tell
from resnet_spec.errors import DataError, problem

if TYPE_CHECKING:
    from resnet_spec.contract import Array


_NOT_FINITE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help=f"{WEIGHTS}; left out with --pretrained"
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image files, or folders of them"
    )
    add_computing(parser)
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    table = "write them as a table, too: FILE.csv or FILE.parquet, a row per image"
    parser.add_argument("--out", type=Path, metavar="FILE", help=table)
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    add_crop(parser)
    add_weights(parser)


def run(args: argparse.Namespace) -> int:
    """Print the top classes of each image with their probabilities.

    1 when an image has none, for its logits are not finite.
    """
    from resnet_spec.cli.images import Images
    from resnet_spec.files.json_text import json_text
    from resnet_spec.files.tables import check_destination
    from resnet_spec.running.evaluate import finite_rows, softmax
    from resnet_spec.running.predictions import write_predicted
    from resnet_spec.weights.known_statistics import with_known_statistics

    if args.top < 1:
        raise DataError(problem("--top", args.top, "must be >= 1"))
    if args.out is not None:
        check_destination("--out", args.out, overwrite=args.overwrite)
    elif args.overwrite:
        raise DataError("--overwrite: is of the file in --out; give --out, too")
    check_computing(args)
    is_option = args.pretrained is not None
    given = [Path(name) for name in ([args.checkpoint] if is_option else []) + args.images]
    paths, left_out = _files(given)
    weights = weights_of(args, None if is_option else args.checkpoint)
    spec, note = with_known_statistics(weights)
    images = Images(paths, spec, view_asked(args.crop, weights))
    session = predictor(args, spec, weights.state)
    logits = images.logits(session)
    names = weights.class_names
    rows: list[dict[str, Any]] = [
        {"image": str(path), "classes": _top(names, row, args.top) if sound else []}
        for path, row, sound in zip(paths, softmax(logits), finite_rows(logits), strict=True)
    ]
    if args.out is not None:
        write_predicted(args.out, paths, [row["classes"] for row in rows], args.top)
    status = 0 if all(row["classes"] for row in rows) else _NOT_FINITE
    unnamed = () if names else ("the weights do not name their classes; they are numbered",)
    is_json = args.format == "json"
    by = engine_notes(args, session)
    tell((*left_out, *weights.notes, *note, *unnamed, *by), errors=is_json)
    if is_json:
        print(json_text(rows, indent=2))
        return status
    for row in rows:
        if not row["classes"]:
            rule = "its logits are not finite, so it has no class"
            print(f"resnet-spec: error: {row['image']}: {rule}", file=sys.stderr)
            continue
        found = ", ".join(f"{c['class']} {c['probability']:.4f}" for c in row["classes"])
        print(f"{row['image']}: {found}")
    return status


def _files(given: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the images that are given, those below a folder in its place, and notes on others.

    Raises DataError for none, and with a line for each that is not there or holds no image.
    """
    from resnet_spec.data.images import SUFFIXES
    from resnet_spec.data.walking import Left, images_below

    if not given:
        raise DataError("IMAGE: is required; name one or more image files, or a folder of them")
    paths: list[Path] = []
    notes: list[str] = []
    lines: list[str] = []
    for path in given:
        if path.is_dir():
            left = Left()
            found = images_below(str(path), left)
            paths += [Path(name) for name in found]
            notes += left.notes(str(path))
            if not found:
                lines.append(f"{path}: holds no image; add {', '.join(SUFFIXES)} files")
        elif path.is_file():
            paths.append(path)
        else:
            lines.append(f"{path}: there is no such file")
    if lines:
        raise DataError(*lines)
    return paths, tuple(notes)


def _top(known: Sequence[str], probabilities: Array, count: int) -> list[dict[str, Any]]:
    names = known or tuple(str(i) for i in range(len(probabilities)))
    best = (-probabilities).argsort(kind="stable")[:count]  # Of equal ones the first.
    return [{"class": names[i], "probability": float(probabilities[i])} for i in best]
