"""`resnet-spec predict`: the most probable classes of image files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.pretrained import WEIGHTS, add_weights, weights_of, with_known_statistics
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_spec.contract import Array


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
    """Print the top classes of each image with their probabilities."""
    import numpy as np

    from resnet_spec.contract import Batch
    from resnet_spec.data.images import read_image
    from resnet_spec.evaluate import softmax
    from resnet_spec.loader import load_backend
    from resnet_spec.lowering import lower

    is_option = args.pretrained is not None
    paths = [Path(name) for name in ([args.checkpoint] if is_option else []) + args.images]
    if not paths:
        raise DataError("IMAGE: is required; name one or more image files")
    weights = weights_of(args, None if is_option else args.checkpoint)
    spec, note = with_known_statistics(weights)
    size, channels = spec.input.size, spec.input.channels
    images = np.stack([read_image(path, size, channels, weights.view) for path in paths])
    session = load_backend(args.backend).Session(
        lower(spec), device=args.device, precision=args.precision
    )
    session.load(weights.state)
    places = np.arange(len(images))
    batch = Batch(images, labels=np.full(len(images), -1), indices=places)
    (logits,) = session.predict([batch])
    names = weights.class_names
    rows: list[dict[str, Any]] = [
        {"image": str(path), "classes": _top(names, row, args.top)}
        for path, row in zip(paths, softmax(logits), strict=True)
    ]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    for line in (*weights.notes, *note):
        print(f"note: {line}")
    for row in rows:
        found = ", ".join(f"{c['class']} {c['probability']:.4f}" for c in row["classes"])
        print(f"{row['image']}: {found}")
    return 0


def _top(known: Sequence[str], probabilities: Array, count: int) -> list[dict[str, Any]]:
    names = known or tuple(str(i) for i in range(len(probabilities)))
    best = probabilities.argsort(kind="stable")[::-1][: max(count, 1)]
    return [{"class": names[i], "probability": float(probabilities[i])} for i in best]
