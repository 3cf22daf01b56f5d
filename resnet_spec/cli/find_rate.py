"""`resnet-spec find-rate`: the loss at ever higher learning rates, and a rate to train at."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.arguments import add_part, add_settings
from resnet_spec.cli.pretrained import add_ignore_classes, add_pretrained
from resnet_spec.files.destinations import OVERWRITE

if TYPE_CHECKING:
    from resnet_spec.running.rate_range import Range, RateCurve
    from resnet_spec.running.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "spec", nargs="?", metavar="SPEC", help="a preset, or a .toml or .json file"
    )
    parser.add_argument("--backend", metavar="NAME", help="numpy, torch, flax, mindspore, ...")
    parser.add_argument("--data", metavar="D", help="a dataset's name or path (default: digits)")
    recipes = "a recipe's name or file (default: demo, or fine-tune with --pretrained)"
    parser.add_argument("--recipe", metavar="R", help=recipes)
    add_settings(parser, "change one field of the recipe or the spec, as in batch=256")
    parser.add_argument(
        "--low", type=float, default=1e-6, metavar="RATE", help="the first rate (default: 1e-6)"
    )
    parser.add_argument(
        "--high", type=float, default=10.0, metavar="RATE", help="the last rate (default: 10)"
    )
    tried = "rates to try, a step each; at least 10 (default: 100)"
    parser.add_argument("--steps", type=int, default=100, metavar="N", help=tried)
    where = "folder of rates.json and the figure (default: rates/SPEC-DATA-BACKEND)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    held_out = "leave out the training images that train --validation F holds out"
    parser.add_argument("--validation", type=float, metavar="F", help=held_out)
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ... (default: the best)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    add_pretrained(parser)
    add_part(parser)
    add_ignore_classes(parser)


def run(args: argparse.Namespace) -> int:
    """Try the rates, write curve and figure, print the rate; 1 where none lowers the loss."""
    from resnet_spec.cli.progress import ImageBar
    from resnet_spec.cli.saying import say, tell
    from resnet_spec.reporting.plots import INSTALL, can_draw
    from resnet_spec.reporting.rate_files import check_files, write_files
    from resnet_spec.running.job import job_of
    from resnet_spec.running.rate_range import Range, try_rates
    from resnet_spec.running.request import Request

    _check_alone()
    asked = Range(args.low, args.high, args.steps)
    if args.out is not None:
        check_files(args.out, overwrite=args.overwrite)
    named = ("spec", "backend", "data", "recipe", "settings", "input_size", "validation")
    named += ("device", "compile", "pretrained", "part", "ignore_classes")
    given = {name: getattr(args, name) for name in named}
    # A job is asked for that may replace a run; it does not begin, and its folder is not touched.
    request = Request(**given, out=args.out or _FOLDER, overwrite=True)
    job = job_of(request, say, paced=False)  # The rates are its own.
    work = job.run
    out = args.out or _FOLDER / f"{work.spec.name}-{work.data.name}-{work.backend}"
    check_files(out, overwrite=args.overwrite)
    with ImageBar("trying rates", asked.steps) as bar:
        curve = try_rates(job, asked, bar.tick, lambda info: say(_opening(work, asked, info)))
    write_files(out, work, asked, curve)
    if not can_draw():
        tell([f"no figure: matplotlib is not installed; run: {INSTALL}"])
    if curve.still_falls:
        tell(["the loss still falls at the highest rate; a larger --high shows where it turns"])
    print(_result(curve, asked, out))
    return 0 if curve.suggested is not None else 1


_FOLDER = Path("rates")


def _check_alone() -> None:
    import os

    from resnet_spec.errors import BackendError
    from resnet_spec.running.found_group import found_group

    group = found_group(os.environ)
    if group.size > 1:
        rule = f"is one process, and this is one of {group.size}; start it by itself"
        raise BackendError(f"find-rate: {rule}")


def _opening(work: Run, asked: Range, info: Mapping[str, str]) -> str:
    from resnet_spec.running.stages import stage_at, stages_of

    size = stage_at(stages_of(work), 0).plan.input.height
    environment = " ".join(info[key] for key in ("framework", "version", "device", "precision"))
    return (
        f"{work.spec.name} on {work.data.name} ({len(work.data.train)} train images, "
        f"{size} px), recipe {work.recipe.name}: {asked.steps} rates from "
        f"{asked.low:g} to {asked.high:g}, a step of {work.recipe.batch} each; {environment}"
    )


def _result(curve: RateCurve, asked: Range, out: Path) -> str:
    end = "" if curve.diverged is None else f"; diverged at {curve.diverged:.3g}"
    if curve.suggested is None:
        last = asked.high if curve.diverged is None else curve.diverged
        rule = f"the loss does not fall between {asked.low:g} and {last:.3g}"
        return f"no rate to suggest: {rule}{end}; left in {out}"
    return (
        f"suggested rate {curve.suggested:.3g}, where the loss falls fastest; a tenth of that "
        f"where it is lowest: {curve.tenth:.3g}{end}; left in {out}"
    )
