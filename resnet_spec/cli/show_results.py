"""`resnet-spec show curves | drift`: how runs went, and how far backends are from the reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from resnet_spec.cli.show_output import Picture, add_output, output_of, put


def _curves_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    add_output(parser)


def _curves(args: argparse.Namespace) -> int:
    from resnet_spec.comparing.data_identity import different_data_of
    from resnet_spec.comparing.training_losses import different_losses_of
    from resnet_spec.showing import curves

    runs = curves.read_runs(args.runs)
    output = output_of(args, "-".join(runs)[:60])
    folders = [path if path.is_dir() else path.parent for path in args.runs]
    named = dict(zip(runs, folders, strict=True))
    for note in (*different_data_of(named), *different_losses_of(named)):
        print(f"note: {note}")
    epochs = sum(map(len, runs.values()))
    return put(
        output,
        f"{len(runs)} run{'s' * (len(runs) > 1)}, {epochs} epoch{'s' * (epochs > 1)}",
        lambda: curves.lines(runs),
        lambda: curves.figure(runs),
    )


def _drift_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="of parity --out")
    parser.add_argument(
        "--level",
        action="append",
        default=[],
        metavar="L",
        help="activations, gradients, statistics, update (default: the first two; repeatable)",
    )
    add_output(parser)


def _drift(args: argparse.Namespace) -> int:
    from resnet_spec.showing import drift

    title, panels = drift.read_panels(args.report, args.level)
    output = output_of(args, args.report.stem)
    return put(
        output,
        title,
        lambda: drift.lines(panels),
        lambda: drift.figure(title, panels),
    )


PICTURES = {
    "curves": Picture("loss and accuracy of runs", _curves_arguments, _curves),
    "drift": Picture("errors per node of a parity report", _drift_arguments, _drift),
}
