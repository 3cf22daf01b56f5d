"""`resnet-spec export`: trained weights as a file that other programs run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_network
from resnet_spec.cli.saying import tell
from resnet_spec.errors import BackendError, problem
from resnet_spec.files.destinations import OVERWRITE

if TYPE_CHECKING:
    from resnet_spec.folding import Folded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="any weight file")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="onnx, torch-export, stablehlo or mindir"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: CHECKPOINT with the format's ending"
    )
    parser.add_argument("--overwrite", action="store_true", help=f"{OVERWRITE}, once it is checked")
    parser.add_argument(
        "--batch", default="dynamic", metavar="N", help="images at a time (default: dynamic)"
    )
    parser.add_argument(
        "--input",
        choices=("normalised", "uint8"),
        default="normalised",
        help="float32 images, normalised already, or uint8 [N, H, W, C] (default: normalised)",
    )
    parser.add_argument(
        "--fold-norms", action="store_true", help="put norms into the convolutions before them"
    )
    parser.add_argument(
        "--from",
        dest="names",
        default="auto",
        metavar="SCHEME",
        help="whose names CHECKPOINT has (default: auto, found from all of them)",
    )
    add_network(parser)


def run(args: argparse.Namespace) -> int:
    """Export, and print what was written and checked; 1 when it computes something else."""
    from resnet_spec.exporting import export, format_of, takes
    from resnet_spec.files.destinations import check_destination
    from resnet_spec.planning.classifier import no_classifier
    from resnet_spec.weights.converting import load_weights

    batch = _batch(args.batch)
    chosen = format_of(args.to)
    out = _out(args.out, args.checkpoint, chosen.ending)
    check_destination(out, overwrite=args.overwrite, source=args.checkpoint)
    loaded = load_weights(args.checkpoint, args.spec, args.names, args.settings, args.part)
    if not loaded.has_classifier:
        raise no_classifier(str(args.checkpoint))
    tell(loaded.notes)
    kept = loaded.checkpoint
    done = export(
        loaded.spec,
        loaded.state,
        args.to,
        out,
        batch=batch,
        fold=args.fold_norms,
        images=args.input,
        overwrite=args.overwrite,
        class_names=() if kept is None else kept.class_names,
        dataset=None if kept is None else kept.dataset,
    )
    if not done.is_kept:
        print(f"resnet-spec: error: {done.line}", file=sys.stderr)
        return 1
    if done.folded is not None:
        print(_folded(done.folded))
    print(f"input: {takes(loaded.spec, args.to, batch, args.input)}")
    print(done.line)
    return 0


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST):
        rule = f"must be dynamic, or a number from 1 to {_LARGEST}"
        raise BackendError(problem("--batch", text, rule))
    return int(text)


_LARGEST = 4096


def _out(out: Path | None, checkpoint: Path, ending: str) -> Path:
    """Return where to write. Raises BackendError for another ending: programs go by it."""
    if out is None:
        return checkpoint.with_suffix(ending)
    if out.suffix != ending:
        raise BackendError(problem("--out", out, f"must end in {ending}"))
    return out


def _folded(folded: Folded) -> str:
    line = f"norms: {len(folded.folded)} folded"
    if not folded.kept:
        return line
    some = ", ".join(folded.kept[:3]) + (", ..." if len(folded.kept) > 3 else "")
    return f"{line}; {len(folded.kept)} follow no convolution and stay: {some}"
