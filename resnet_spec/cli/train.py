"""`resnet-spec train`: one network, one dataset, one recipe, any backend."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.cli.pretrained import add_pretrained
from resnet_spec.errors import BackendError, CheckpointError, DataError, RecipeError

if TYPE_CHECKING:
    from resnet_spec.checkpoint import Checkpoint
    from resnet_spec.pretrained.loading import Pretrained
    from resnet_spec.recipe import Recipe
    from resnet_spec.runs import Run, Summary
    from resnet_spec.spec import Spec

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
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        dest="settings",
        help="change one field of the recipe or the spec, as in schedule.rate=0.05 (repeatable)",
    )
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
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ... (default: the best)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument(
        "--track",
        metavar="NAMES",
        help="report to tensorboard, mlflow, wandb: one or several, with commas; or none "
        "(default: none, or those that --resume finds)",
    )
    _add_fine_tuning(parser)


def _add_fine_tuning(parser: argparse.ArgumentParser) -> None:
    add_pretrained(parser)
    parser.add_argument(
        "--head",
        choices=("keep", "replace"),
        help="the classifier of --pretrained (default: replace where the classes' number differs)",
    )
    parser.add_argument(
        "--freeze", metavar="PART", help="backbone, stem or stages=N keep their weights"
    )
    parser.add_argument(
        "--head-rate", type=float, metavar="F", help="the classifier learns at F times the rate"
    )


def run(args: argparse.Namespace) -> int:
    """Train, print a line per epoch and where the run was left; 130 after Ctrl-C."""
    from resnet_spec.tracking.choice import chosen

    trackers = None if args.track is None else chosen(args.track)
    start = _resumed(args)
    if start is not None:
        plan_of_work = _continued(args, start)
        trackers = _known_trackers(plan_of_work.out) if trackers is None else trackers
    else:
        plan_of_work, start = _fresh(args)
    summary = _train(args, plan_of_work, start, trackers or ())
    print(_closing_line(summary, plan_of_work.out))
    return 0 if summary.complete else _INTERRUPTED


def _resumed(args: argparse.Namespace) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None for a fresh run."""
    from resnet_spec.checkpoint import load_checkpoint

    if not args.resume:
        return None
    folder = args.out if args.resume is True else Path(args.resume)
    if folder is None:
        raise CheckpointError("--resume: needs a run; give --resume RUN or --out DIR")
    return load_checkpoint(folder / "last.safetensors" if folder.is_dir() else folder)


def _known_trackers(out: Path) -> tuple[str, ...]:
    """Return the trackers that the run in `out` has reported to so far."""
    from resnet_spec.tracking.choice import NONE, chosen
    from resnet_spec.tracking.watching import read_marks

    return chosen(",".join(read_marks(out)) or NONE)


def _fresh(args: argparse.Namespace) -> tuple[Run, Checkpoint | None]:
    """Return the run, and the pretrained weights that it starts from."""
    from resnet_spec.recipes import load_recipe
    from resnet_spec.settings import sorted_settings
    from resnet_spec.spec_files import load_spec

    if args.head is not None and args.pretrained is None:
        raise RecipeError("--head: is of pretrained weights; give --pretrained, too")
    for_recipe, for_spec = sorted_settings(args.settings)
    usual = "demo" if args.pretrained is None else "fine-tune"
    for key, value in (("freeze", args.freeze), ("head_rate", args.head_rate)):
        for_recipe += [] if value is None else [f"{key}={value}"]
    recipe = load_recipe(args.recipe or usual, for_recipe)
    if args.pretrained is not None:
        return _pretrained(args, recipe, for_spec)
    if args.spec is None:
        raise RecipeError("SPEC: is required without --pretrained; see: resnet-spec list")
    work = _run(args, load_spec(args.spec, for_spec), recipe, args.data or "digits")
    _clear(work.out, args.overwrite)
    return work, None


def _pretrained(
    args: argparse.Namespace, recipe: Recipe, settings: Sequence[str]
) -> tuple[Run, Checkpoint]:
    """Return the run of a network with pretrained weights, and its state before the first step."""
    from resnet_spec.checkpoint import Checkpoint
    from resnet_spec.files import write_json
    from resnet_spec.pretrained.adopting import adopt, with_statistics
    from resnet_spec.pretrained.loading import load_pretrained
    from resnet_spec.runs import Position
    from resnet_spec.spec_files import load_spec

    weights = load_pretrained(args.pretrained)
    asked = load_spec(weights.spec if args.spec is None else args.spec, settings)
    work = _run(args, with_statistics(weights, asked)[0], recipe, args.data or "digits", weights)
    adopted = adopt(
        weights, work.spec, settings=settings, head=args.head or "auto", seed=recipe.seed
    )
    notes = [*weights.notes, *adopted.notes]
    if not weights.spec.input.mean and not asked.input.mean:
        notes.append(f"input.mean, input.std: the weights do not say; {work.data.name}'s are taken")
    for note in notes:
        print(f"note: {note}")
    _clear(work.out, args.overwrite)
    write_json(work.out / "pretrained.json", {**weights.record(), "notes": notes})
    return work, Checkpoint(work.spec, adopted.state, recipe, progress=Position().to_dict())


def _continued(args: argparse.Namespace, start: Checkpoint) -> Run:
    """Return the run that `start` belongs to; only its backend, device and folder may change."""
    given = [("SPEC", args.spec), ("--recipe", args.recipe), ("--set", args.settings)]
    given += [("--pretrained", args.pretrained), ("--head", args.head), ("--freeze", args.freeze)]
    given += [("--head-rate", args.head_rate)]
    for name, value in given:
        if value:
            raise RecipeError(f"{name}: cannot be changed in the middle of a run; leave it out")
    if start.recipe is None:
        raise CheckpointError("--resume: the checkpoint holds weights alone; use last.safetensors")
    args.backend = args.backend or start.backend.get("name")
    args.input_size = start.spec.input.size
    args.out = args.out or (Path(args.resume) if Path(args.resume).is_dir() else None)
    return _run(args, start.spec, start.recipe, args.data or start.data)


def _run(
    args: argparse.Namespace,
    spec: Spec,
    recipe: Recipe,
    data_name: str,
    weights: Pretrained | None = None,
) -> Run:
    from resnet_spec.data import load_data
    from resnet_spec.data.encoded import viewed
    from resnet_spec.fine_tuning import fine_tuned
    from resnet_spec.fitting_data import fitted
    from resnet_spec.lowering import lower
    from resnet_spec.runs import Run

    if args.backend is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    data = load_data(data_name, size=args.input_size)
    data = data if weights is None else viewed(data, weights.view)
    spec, notes = fitted(spec, data)
    for note in notes:
        print(note)
    out = args.out or Path("runs") / f"{spec.name}-{data.name}-{args.backend}"
    return Run(spec, fine_tuned(lower(spec), recipe), recipe, args.backend, data, data_name, out)


def _clear(out: Path, overwrite: bool) -> None:
    """Refuse to mix two runs in one folder."""
    if out.exists() and not out.is_dir():
        raise DataError(f"--out = {out}: is a file, and a run needs a folder")
    if (out / "last.safetensors").exists() and not overwrite:
        raise DataError(
            f"--out = {out}: holds a run; go on with --resume, replace it with --overwrite, "
            "or name another folder"
        )
    for pattern in _FILES:
        for path in out.glob(pattern):
            path.unlink()


_FILES = (
    *("last.safetensors", "best.safetensors", "metrics.jsonl", "summary.json"),
    *("pretrained.json", "tracking.json", "tensorboard/events.out.tfevents.*"),
)


def _train(
    args: argparse.Namespace, work: Run, start: Checkpoint | None, trackers: Sequence[str]
) -> Summary:
    from resnet_spec.cli.progress import TrainingBar
    from resnet_spec.fit import fit
    from resnet_spec.loader import load_backend
    from resnet_spec.tracking.tracker import Tracked
    from resnet_spec.tracking.watching import Tracking, Watches

    recipe = work.recipe
    make = load_backend(work.backend).Session
    session = make(
        work.plan, recipe, device=args.device, precision=recipe.precision, compile=args.compile
    )
    evaluator = session
    if recipe.ema.decay > 0:
        evaluator = make(work.plan, device=args.device, precision=recipe.precision)
    print(_opening_line(work, session.info))
    epochs = math.ceil(work.total_steps / work.epoch_steps)
    at = 0 if start is None else int(start.progress.get("step", 0))
    with (
        Tracking(trackers, Tracked.of(work, session.info), at, say=_note) as tracking,
        TrainingBar(work.total_steps, epochs, at) as bar,
    ):
        for name, place in tracking.places.items():
            print(f"tracked by {name}: {place}")
        summary = fit(work, session, evaluator, Watches(bar, tracking), start)
        tracking.finish(summary)
        return summary


def _note(line: str) -> None:
    print(f"note: {line}")


def _opening_line(work: Run, info: Mapping[str, str]) -> str:
    environment = " ".join(info[key] for key in ("framework", "version", "device", "precision"))
    return (
        f"{work.spec.name} on {work.data.name} ({len(work.data.train)} train, "
        f"{len(work.data.test)} test images, {work.plan.input.height} px), "
        f"recipe {work.recipe.name}, {work.total_steps} steps of {work.recipe.batch}; {environment}"
    )


def _closing_line(summary: Summary, out: Path) -> str:
    if not summary.complete:
        return f"stopped at step {summary.steps}; go on with: resnet-spec train --resume {out}"
    assert summary.best_accuracy is not None and summary.final_accuracy is not None
    return (
        f"best accuracy {summary.best_accuracy:.4f} (epoch {summary.best_epoch}), "
        f"final {summary.final_accuracy:.4f}, {summary.images_per_second:.0f} images/s, "
        f"{summary.wall_s:.1f} s; left in {out}"
    )
