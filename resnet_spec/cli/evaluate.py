"""`resnet-spec evaluate`: accuracy and loss of a checkpoint on a dataset, with any backend."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resnet_spec.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .safetensors file")
    parser.add_argument("--backend", required=True, metavar="NAME")
    parser.add_argument("--data", metavar="D", help="dataset (default: the one it was trained on)")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="images at a time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Print accuracy, loss and count; in JSON also ties (images with two equal highest logits)."""
    from resnet_spec.checkpoint import load_checkpoint
    from resnet_spec.cli.progress import ImageBar
    from resnet_spec.data import load_data
    from resnet_spec.evaluate import evaluate
    from resnet_spec.loader import load_backend

    if args.batch < 1:
        raise DataError(f"--batch = {args.batch}: must be >= 1")
    checkpoint = load_checkpoint(args.checkpoint).evaluated()
    backend = load_backend(args.backend)
    data = load_data(args.data or checkpoint.data, size=checkpoint.spec.input.size)
    spec = checkpoint.spec
    for what, ours, theirs in (
        ("classes", spec.classes, len(data.classes)),
        ("channels", spec.input.channels, data.channels),
    ):
        if ours != theirs:
            raise DataError(
                f"--data = {args.data or checkpoint.data}: has {theirs} {what}, "
                f"and the network was made for {ours}"
            )
    split = data.train if args.split == "train" else data.test
    session = backend.Session(checkpoint.plan(), device=args.device, precision=args.precision)
    session.load(checkpoint.state)
    with ImageBar(f"evaluating on {args.backend}", len(split)) as bar:
        result = evaluate(session, split, args.batch, bar.tick)
    values = {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "count": result.count,
        "ties": result.ties,
        "backend": args.backend,
        "data": data.name,
        "split": args.split,
        "environment": dict(session.info),
    }
    if args.format == "json":
        print(json.dumps(values, indent=2))
    else:
        print(
            f"{spec.name} on {data.name} {args.split}, {args.backend}: accuracy "
            f"{result.accuracy:.4f}, loss {result.loss:.4f}, {result.count} images"
        )
    return 0
