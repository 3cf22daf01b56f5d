"""`resnet-spec train`: one network, one dataset, one recipe, any backend."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.errors import BackendError, CheckpointError, DataError, RecipeError

if TYPE_CHECKING:
    from resnet_spec.checkpoint import Checkpoint
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
    parser.add_argument("--recipe", metavar="R", help="a recipe's name or file (default: demo)")
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


def run(args: argparse.Namespace) -> int:
    """Train, print a line per epoch and where the run was left; 130 after Ctrl-C."""
    start = _resumed(args)
    plan_of_work = _continued(args, start) if start else _fresh(args)
    summary = _train(args, plan_of_work, start)
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


def _fresh(args: argparse.Namespace) -> Run:
    from resnet_spec.recipe import Recipe
    from resnet_spec.recipes import load_recipe
    from resnet_spec.spec import Spec
    from resnet_spec.spec_files import load_spec

    if args.spec is None:
        raise RecipeError("SPEC: is required; see: resnet-spec list")
    for_recipe, for_spec = _sorted_settings(args.settings, Recipe, Spec)
    recipe = load_recipe(args.recipe or "demo", for_recipe)
    spec = load_spec(args.spec, for_spec)
    return _run(args, spec, recipe, args.data or "digits")


def _sorted_settings(
    settings: Sequence[str], recipe: type[Recipe], spec: type[Spec]
) -> tuple[list[str], list[str]]:
    """Part the settings by the table that knows their first key; `spec.` and `recipe.` force it."""
    from resnet_spec.errors import did_you_mean

    for_recipe: list[str] = []
    for_spec: list[str] = []
    for setting in settings:
        owner, _, rest = setting.partition(".")
        key = setting.partition("=")[0].split(".")[0].split("[")[0].strip()
        if owner in ("recipe", "spec"):
            (for_recipe if owner == "recipe" else for_spec).append(rest)
        elif key in recipe.model_fields:
            for_recipe.append(setting)
        elif key in spec.model_fields:
            for_spec.append(setting)
        else:
            known = [*recipe.model_fields, *spec.model_fields]
            raise RecipeError(f"--set {setting}: unknown key '{key}'; {did_you_mean(key, known)}")
    return for_recipe, for_spec


def _continued(args: argparse.Namespace, start: Checkpoint) -> Run:
    """Return the run that `start` belongs to; only its backend, device and folder may change."""
    given = [("SPEC", args.spec), ("--recipe", args.recipe), ("--set", args.settings)]
    for name, value in given:
        if value:
            raise RecipeError(f"{name}: cannot be changed in the middle of a run; leave it out")
    if start.recipe is None:
        raise CheckpointError("--resume: the checkpoint holds weights alone; use last.safetensors")
    args.backend = args.backend or start.backend.get("name")
    args.input_size = start.spec.input.size
    args.out = args.out or (Path(args.resume) if Path(args.resume).is_dir() else None)
    return _run(args, start.spec, start.recipe, args.data or start.data)


def _run(args: argparse.Namespace, spec: Spec, recipe: Recipe, data_name: str) -> Run:
    from resnet_spec.data import load_data
    from resnet_spec.fine_tuning import fine_tuned
    from resnet_spec.fitting_data import fitted
    from resnet_spec.lowering import lower
    from resnet_spec.runs import Run

    if args.backend is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    data = load_data(data_name, size=args.input_size)
    spec, notes = fitted(spec, data)
    for note in notes:
        print(note)
    out = args.out or Path("runs") / f"{spec.name}-{data.name}-{args.backend}"
    if not args.resume:
        _clear(out, args.overwrite)
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
    for name in ("last.safetensors", "best.safetensors", "metrics.jsonl", "summary.json"):
        (out / name).unlink(missing_ok=True)


def _train(args: argparse.Namespace, work: Run, start: Checkpoint | None) -> Summary:
    from resnet_spec.cli.progress import TrainingBar
    from resnet_spec.fit import fit
    from resnet_spec.loader import load_backend

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
    with TrainingBar(work.total_steps, epochs, at) as watch:
        return fit(work, session, evaluator, watch, start)


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
