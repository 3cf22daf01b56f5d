"""`resnet-spec train`: one network, one dataset, one recipe, any backend."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_part, add_settings
from resnet_spec.cli.pretrained import add_ignore_classes, add_pretrained

if TYPE_CHECKING:
    from resnet_spec.group import Group
    from resnet_spec.running.runs import Run, Summary

_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "spec", nargs="?", metavar="SPEC", help="a preset, or a .toml or .json file"
    )
    parser.add_argument("--backend", metavar="NAME", help="numpy, torch, flax, mindspore, ...")
    parser.add_argument("--data", metavar="D", help="a dataset's name or path (default: digits)")
    recipes = "a recipe's name or file (default: demo, or fine-tune with --pretrained)"
    parser.add_argument("--recipe", metavar="R", help=recipes)
    add_settings(parser, "change one field of the recipe or the spec, as in schedule.rate=0.05")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in DIR")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="RUN",
        help="go on with the run in RUN (default: the one in DIR)",
    )
    taken_up = "go on with the run in DIR where there is one, else begin it"
    parser.add_argument("--auto-resume", action="store_true", help=taken_up)
    parser.add_argument(
        "--accept-data",
        action="store_true",
        help="--resume though the data is not what the run began with",
    )
    add_ignore_classes(parser)
    held_out = "hold out this part of the training images, to choose the best epoch by (default: "
    held_out += "the data's own validation part, or the test images)"
    parser.add_argument("--validation", type=float, metavar="F", help=held_out)
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ... (default: the best)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parts = "keep parameters and optimiser state in parts, one in each process"
    parser.add_argument("--shard", action="store_true", help=parts)
    parser.add_argument(
        "--track",
        metavar="NAMES",
        help="report to tensorboard, mlflow, wandb: one or several, with commas; or none "
        "(default: none, or those that --resume finds)",
    )
    _add_fine_tuning(parser)


def _add_fine_tuning(parser: argparse.ArgumentParser) -> None:
    add_pretrained(parser)
    add_part(parser)
    parser.add_argument(
        "--head",
        choices=("keep", "replace"),
        help="the classifier of --pretrained (default: replace where the classes differ)",
    )
    parser.add_argument(
        "--freeze", metavar="PART", help="backbone, stem or stages=N keep their weights"
    )
    parser.add_argument(
        "--head-rate", type=float, metavar="F", help="the classifier learns at F times the rate"
    )


def run(args: argparse.Namespace) -> int:
    """Train, print a line per epoch and where the run was left; 130 after Ctrl-C."""
    from resnet_spec.cli.saying import hush
    from resnet_spec.running.found_group import found_group
    from resnet_spec.running.meeting import expected, leave
    from resnet_spec.running.under_launcher import end_with_launcher

    end_with_launcher(os.environ)
    group = found_group(os.environ)
    if group.rank:
        hush(group.rank)
    with expected(group):
        summary, out = _trained(args, group)
    leave()
    if group.rank == 0:
        print(_closing_line(summary, out))
    return 0 if summary.complete else _INTERRUPTED


def _trained(args: argparse.Namespace, group: Group) -> tuple[Summary, Path]:
    """Return what the run came to, and its folder."""
    from resnet_spec.cli.progress import TrainingBar
    from resnet_spec.cli.saying import say
    from resnet_spec.running.job_of_group import job_together
    from resnet_spec.running.progress import first_step_text
    from resnet_spec.running.request import Request
    from resnet_spec.running.tracking.choice import chosen
    from resnet_spec.running.training import carry_out

    track = None if args.track is None else chosen(args.track)
    request = Request(**{field.name: getattr(args, field.name) for field in fields(Request)})

    def first(run: Run) -> str:
        return first_step_text(run.backend, compile=args.compile)

    with job_together(request, say, group) as (job, together):
        if track is None and job.begins.goes_on_from is not None:
            track = _known_trackers(job.run.out)
        summary = carry_out(
            job,
            together,
            lambda run, at: TrainingBar(run.total_steps, _epochs(run), at, first(run)),
            say,
            track=track or (),
            begins=lambda run, info: say(_opening_line(run, info)),
        )
    return summary, job.run.out


def _epochs(run: Run) -> int:
    return math.ceil(run.total_steps / run.epoch_steps)


def _known_trackers(out: Path) -> tuple[str, ...]:
    """Return the trackers that the run in `out` has reported to so far."""
    from resnet_spec.running.tracking.choice import NONE, chosen
    from resnet_spec.running.tracking.forwarding import read_marks

    return chosen(",".join(read_marks(out)) or NONE)


def _opening_line(work: Run, info: Mapping[str, str]) -> str:
    environment = " ".join(info[key] for key in ("framework", "version", "device", "precision"))
    steps = f"{work.total_steps} step{'s' * (work.total_steps != 1)} of {work.recipe.batch}"
    held = "" if work.held_out is None else f"{work.held_out.count} validation, "
    return (
        f"{work.spec.name} on {work.data.name} ({len(work.data.train)} train, {held}"
        f"{len(work.data.test)} test images, {work.plan.input.height} px), "
        f"recipe {work.recipe.name}, {steps}; {environment}"
    )


def _closing_line(summary: Summary, out: Path) -> str:
    from resnet_spec.running.speed import speed_text

    if not summary.steps:
        return "stopped before the first step; nothing is trained"
    if not summary.complete:
        goes_on = f"resnet-spec train --resume {shlex.quote(str(out))}"
        return f"stopped at step {summary.steps}; go on with: {goes_on}"
    assert summary.best_accuracy is not None and summary.final_accuracy is not None
    early = "stopped early; " if summary.stopped_early else ""
    best = f"{early}best of the {summary.best_of} images {summary.best_accuracy:.4f}"
    of_best = f" (epoch {summary.best_epoch}"
    if summary.best_test_accuracy is not None:
        of_best += f", test accuracy {summary.best_test_accuracy:.4f}"
    return (
        f"{best}{of_best}), final test accuracy {summary.final_accuracy:.4f}"
        f"{speed_text(summary.images_per_second, ', ')}, {summary.wall_s:.1f} s; left in {out}"
    )
