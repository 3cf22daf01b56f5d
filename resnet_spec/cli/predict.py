"""`resnet-spec predict`: the most probable classes of image files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_spec.checkpoint import Checkpoint
    from resnet_spec.contract import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .safetensors file")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP")
    parser.add_argument("--backend", required=True, metavar="NAME")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Print the top classes of each image with their probabilities."""
    import numpy as np

    from resnet_spec.checkpoint import load_checkpoint
    from resnet_spec.contract import Batch
    from resnet_spec.data.images import read_image
    from resnet_spec.loader import load_backend

    checkpoint = load_checkpoint(args.checkpoint).evaluated()
    size, channels = checkpoint.spec.input.size, checkpoint.spec.input.channels
    images = np.stack([read_image(path, size, channels) for path in args.images])
    session = load_backend(args.backend).Session(
        checkpoint.plan(), device=args.device, precision=args.precision
    )
    session.load(checkpoint.state)
    places = np.arange(len(images))
    batch = Batch(images, labels=np.full(len(images), -1), indices=places)
    (logits,) = session.predict([batch])
    rows: list[dict[str, Any]] = [
        {"image": str(path), "classes": _top(checkpoint, row, args.top)}
        for path, row in zip(args.images, _softmax(logits), strict=True)
    ]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        found = ", ".join(f"{c['class']} {c['probability']:.4f}" for c in row["classes"])
        print(f"{row['image']}: {found}")
    return 0


def _softmax(logits: Array) -> Array:
    import numpy as np

    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _top(checkpoint: Checkpoint, probabilities: Array, count: int) -> list[dict[str, Any]]:
    names = checkpoint.class_names or tuple(str(i) for i in range(len(probabilities)))
    best = probabilities.argsort(kind="stable")[::-1][: max(count, 1)]
    return [{"class": names[i], "probability": float(probabilities[i])} for i in best]
