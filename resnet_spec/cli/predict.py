"""`resnet-spec predict`: the most probable classes of image files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.pretrained import WEIGHTS, add_weights, weights_of, with_known_statistics
from resnet_spec.cli.saying import tell
from resnet_spec.errors import DataError, problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resnet_spec.contract import Array
    from resnet_spec.data.views import View
    from resnet_spec.describing.spec import Spec


_NOT_FINITE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help=f"{WEIGHTS}; left out with --pretrained"
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files")
    parser.add_argument("--backend", required=True, metavar="NAME")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_weights(parser)


def run(args: argparse.Namespace) -> int:
    """Print the top classes of each image with their probabilities.

    1 when an image has none, for its logits are not finite.
    """
    import numpy as np

    from resnet_spec.contract import Batch
    from resnet_spec.files.json_text import json_text
    from resnet_spec.loader import check_backend, load_backend
    from resnet_spec.planning.lowering import lower
    from resnet_spec.running.evaluate import finite_rows, softmax

    if args.top < 1:
        raise DataError(problem("--top", args.top, "must be >= 1"))
    check_backend(args.backend)
    is_option = args.pretrained is not None
    paths = [Path(name) for name in ([args.checkpoint] if is_option else []) + args.images]
    _check_files(paths)
    weights = weights_of(args, None if is_option else args.checkpoint)
    spec, note = with_known_statistics(weights)
    images = _images(paths, spec, weights.view)
    session = load_backend(args.backend).Session(
        lower(spec), device=args.device, precision=args.precision
    )
    session.load(weights.state)
    places = np.arange(len(images))
    batch = Batch(images, labels=np.full(len(images), -1), indices=places)
    (logits,) = session.predict([batch])
    names = weights.class_names
    rows: list[dict[str, Any]] = [
        {"image": str(path), "classes": _top(names, row, args.top) if sound else []}
        for path, row, sound in zip(paths, softmax(logits), finite_rows(logits), strict=True)
    ]
    status = 0 if all(row["classes"] for row in rows) else _NOT_FINITE
    unnamed = () if names else ("the weights do not name their classes; they are numbered",)
    is_json = args.format == "json"
    tell((*weights.notes, *note, *unnamed), errors=is_json)
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


def _check_files(paths: Sequence[Path]) -> None:
    """Raise DataError for none, and with a line for each that is no file."""
    if not paths:
        raise DataError("IMAGE: is required; name one or more image files")
    lines = [
        f"{path}: is a folder; name the image files in it, as in {path}/*"
        if path.is_dir()
        else f"{path}: there is no such file"
        for path in paths
        if not path.is_file()
    ]
    if lines:
        raise DataError(*lines)


def _images(paths: Sequence[Path], spec: Spec, view: View | None) -> NDArray[np.uint8]:
    """Return the images, [N, size, size, C]. Raises DataError with a line for each that is none."""
    import numpy as np

    from resnet_spec.data.images import read_image

    images: list[NDArray[np.uint8]] = []
    lines: list[str] = []
    for path in paths:
        try:
            images.append(read_image(path, spec.input.size, spec.input.channels, view))
        except DataError as error:
            lines += error.problems
    if lines:
        raise DataError(*lines)
    return np.stack(images)


def _top(known: Sequence[str], probabilities: Array, count: int) -> list[dict[str, Any]]:
    names = known or tuple(str(i) for i in range(len(probabilities)))
    best = (-probabilities).argsort(kind="stable")[:count]  # Of equal ones the first.
    return [{"class": names[i], "probability": float(probabilities[i])} for i in best]
