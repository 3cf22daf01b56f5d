"""`resnet-spec evaluate`: accuracy and loss of weights on a dataset, with any backend."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.computing import (
    add_computing,
    check_computing,
    computed_with,
    engine_notes,
    predictor,
)
from resnet_spec.cli.pretrained import WEIGHTS, add_weights
from resnet_spec.cli.saying import hush, tell
from resnet_spec.cli.weights_and_data import add_data, weights_on_data
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resnet_spec.cli.weights_and_data import WeightsOnData
    from resnet_spec.data.dataset import Split
    from resnet_spec.group import Group
    from resnet_spec.running.evaluate import Evaluation, Predictor


_NOT_FINITE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help=WEIGHTS)
    add_computing(parser)
    add_data(parser)
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="images at a time")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.npz",
        help="write each image's prediction, label, and margin to the next class, too",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="write them as a table: FILE.csv or FILE.parquet, a row per image",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace those files")
    add_weights(parser)


def run(args: argparse.Namespace) -> int:
    """Print accuracy, loss, count and ties (images with two equal highest logits), and more.

    1 for a network that has no accuracy, for its logits are not finite.
    """
    from resnet_spec.cli.evaluated import more_lines, of_classes
    from resnet_spec.files.json_text import json_text
    from resnet_spec.running.found_group import found_group
    from resnet_spec.running.measures import BINS
    from resnet_spec.running.meeting import expected, leave
    from resnet_spec.running.predictions import write_evaluated
    from resnet_spec.running.under_launcher import end_with_launcher

    end_with_launcher(os.environ)
    group = found_group(os.environ)
    if group.rank:
        hush(group.rank)
    with expected(group):
        loaded = _loaded(args, group)
        weights, spec, data = loaded.weights, loaded.spec, loaded.data
        split = loaded.split(args.split)
        session, result = _evaluated(args, loaded, split, group)
    leave()
    if group.rank:
        return 0 if result.problem is None else _NOT_FINITE
    if args.out is not None:
        _write(args.out, result, split.labels)
    if args.predictions is not None:
        write_evaluated(args.predictions, result, split, data.classes)
    notes = [*loaded.notes, *engine_notes(args, session)]
    classes = of_classes(result, split.labels, data.classes)
    values = {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "top5_accuracy": result.top5,
        "calibration_error": result.calibration_error,
        "calibration_bins": BINS,
        "classes": classes,
        "count": result.count,
        "ties": result.ties,
        "not_finite": result.not_finite,
        "backend": args.backend,
        "engine": args.engine,
        "data": data.name,
        "split": args.split,
        "network": spec.name,
        "weights": {**weights.record(), "notes": notes},
        "environment": dict(session.info),
        "notes": notes,
    }
    if args.format == "json":
        print(json_text(values, indent=2))
        return 0 if result.problem is None else _NOT_FINITE
    tell(notes)
    what = f"{spec.name} on {data.name} {args.split}, {computed_with(args)}"
    if result.accuracy is None or result.loss is None:
        print(f"resnet-spec: error: {what}: {result.problem}", file=sys.stderr)
        return _NOT_FINITE
    print(
        f"{what}: accuracy {result.accuracy:.4f}, loss {result.loss:.4f}, "
        f"{result.count} images, {result.ties} ties"
    )
    print("\n".join(more_lines(result, classes)))
    if weights.entry is not None and weights.entry.top1 is not None:
        entry = weights.entry
        print(f"published: top-1 {entry.top1} % on ImageNet-1K ({entry.source})")
    return 0


def _loaded(args: argparse.Namespace, group: Group) -> WeightsOnData:
    if args.batch < 1:
        raise DataError(f"--batch = {args.batch}: must be >= 1")
    _check_files(args)
    check_computing(args, group)  # Before anything is read or downloaded.
    return weights_on_data(args)


def _evaluated(
    args: argparse.Namespace, loaded: WeightsOnData, split: Split, group: Group
) -> tuple[Predictor, Evaluation]:
    """Return what computes and what it gives; several processes share the images out."""
    from resnet_spec.cli.progress import ImageBar
    from resnet_spec.data.fingerprint import SplitPrint
    from resnet_spec.digests import digest
    from resnet_spec.running.evaluate import evaluate
    from resnet_spec.running.meeting import joined

    things: dict[str, object] = {
        "network": loaded.spec.to_dict(),
        "precision": args.precision,
        "batch": args.batch,
        "data": [args.split, len(split)],
    }
    if group.size > 1:  # Their shares are added up. To look so closely takes a moment.
        seen = SplitPrint.of(split, len(loaded.data.classes))
        things["data"] = [args.split, seen.count, seen.digest, list(loaded.data.classes)]
        things["--crop"] = [args.crop, str(loaded.weights.view)]
        things["checkpoint"] = digest(loaded.weights.state)
    name = computed_with(args)
    with joined(name, group, things) as together:
        if group.size > 1:
            together.check_same(things)
        session = predictor(args, loaded.spec, loaded.weights.state)
        with ImageBar(f"evaluating on {name}", len(split)) as bar:
            return session, evaluate(session, split, args.batch, bar.tick, together)


def _check_files(args: argparse.Namespace) -> None:
    """Refuse what --out and --predictions cannot mean, before any work is done."""
    from resnet_spec.files.tables import ENDINGS, check_destination

    if args.out is None and args.predictions is None and args.overwrite:
        raise DataError("--overwrite: is of the file in --out; give --out, too")
    for option, path, endings in (
        ("--out", args.out, (".npz",)),
        ("--predictions", args.predictions, ENDINGS),
    ):
        if path is not None:
            check_destination(option, path, overwrite=args.overwrite, endings=endings)


def _write(path: Path, result: Evaluation, labels: NDArray[np.int64]) -> None:
    """Write the predictions whole or not at all."""
    import numpy as np

    from resnet_spec.files.writing import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, predictions=result.predictions, labels=labels, margins=result.margins)
