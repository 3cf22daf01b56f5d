"""From what a person asks `train` for to a run, ready to begin or to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.checkpoint import Checkpoint, load_checkpoint
from resnet_spec.data import load_data
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.encoded import viewed
from resnet_spec.data.given import name_of
from resnet_spec.errors import BackendError, CheckpointError, DataError, RecipeError
from resnet_spec.files import write_json
from resnet_spec.fine_tuning import fine_tuned
from resnet_spec.fitting_data import fitted
from resnet_spec.lowering import lower
from resnet_spec.pretrained.adopting import Head, adopt, with_statistics
from resnet_spec.pretrained.loading import Pretrained, load_pretrained
from resnet_spec.recipe import Recipe
from resnet_spec.recipes import load_recipe
from resnet_spec.runs import Position, Run
from resnet_spec.settings import sorted_settings
from resnet_spec.spec import Spec
from resnet_spec.spec_files import Source, load_spec
from resnet_spec.texts import Texts

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run as it is asked for; None takes what is usual. See `training.train`."""

    spec: Source | None = None
    backend: str | None = None
    data: str | Path | Dataset | None = None
    recipe: str | Path | Mapping[str, object] | Recipe | None = None
    settings: Texts = ()
    out: Path | None = None
    overwrite: bool = False
    resume: bool | str | Path = False
    input_size: int | None = None
    pretrained: str | Path | None = None
    head: Head | None = None
    freeze: str | None = None
    head_rate: float | None = None


@dataclass(frozen=True)
class Job:
    """A run and the checkpoint that it starts from; None: from the recipe's seed."""

    run: Run
    start: Checkpoint | None


def prepare(asked: Asked, say: Say) -> Job:
    """Return what is to be trained; a fresh run's folder is ready, and free of older runs.

    say: hears of what was changed on the way, a line each. Raises every error of the inputs.
    """
    start = _resumed(asked)
    return _fresh(asked, say) if start is None else Job(_continued(asked, start, say), start)


def _resumed(asked: Asked) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None for a fresh run."""
    if not asked.resume:
        return None
    folder = asked.out if asked.resume is True else Path(asked.resume)
    if folder is None:
        raise CheckpointError("--resume: needs a run; give --resume RUN or --out DIR")
    return load_checkpoint(folder / "last.safetensors" if folder.is_dir() else folder)


def _fresh(asked: Asked, say: Say) -> Job:
    if asked.head is not None and asked.pretrained is None:
        raise RecipeError("--head: is of pretrained weights; give --pretrained, too")
    for_recipe, for_spec = sorted_settings(asked.settings)
    usual = "demo" if asked.pretrained is None else "fine-tune"
    for key, value in (("freeze", asked.freeze), ("head_rate", asked.head_rate)):
        for_recipe += [] if value is None else [f"{key}={value}"]
    recipe = load_recipe(usual if asked.recipe is None else asked.recipe, for_recipe)
    if asked.pretrained is not None:
        return _pretrained(asked, asked.pretrained, recipe, for_spec, say)
    if asked.spec is None:
        raise RecipeError("SPEC: is required without --pretrained; see: resnet-spec list")
    run = _run(asked, load_spec(asked.spec, for_spec), recipe, asked.data or "digits", say)
    _clear(run.out, asked.overwrite)
    return Job(run, None)


def _pretrained(
    asked: Asked, source: str | Path, recipe: Recipe, settings: Sequence[str], say: Say
) -> Job:
    """Return the run of a network with pretrained weights, and its state before the first step."""
    weights = load_pretrained(source)
    spec = load_spec(weights.spec if asked.spec is None else asked.spec, settings)
    known = with_statistics(weights, spec)[0]
    run = _run(asked, known, recipe, asked.data or "digits", say, weights)
    head = asked.head or "auto"
    adopted = adopt(weights, run.spec, settings=settings, head=head, seed=recipe.seed)
    notes = [*weights.notes, *adopted.notes]
    if not weights.spec.input.mean and not spec.input.mean:
        notes.append(f"input.mean, input.std: the weights do not say; {run.data.name}'s are taken")
    for note in notes:
        say(f"note: {note}")
    _clear(run.out, asked.overwrite)
    write_json(run.out / "pretrained.json", {**weights.record(), "notes": notes})
    return Job(run, Checkpoint(run.spec, adopted.state, recipe, progress=Position().to_dict()))


def _continued(asked: Asked, start: Checkpoint, say: Say) -> Run:
    """Return the run that `start` belongs to; only its backend, device and folder may change."""
    given = {
        "SPEC": asked.spec,
        "--recipe": asked.recipe,
        "--set": asked.settings or None,
        "--pretrained": asked.pretrained,
        "--head": asked.head,
        "--freeze": asked.freeze,
        "--head-rate": asked.head_rate,
    }
    for name, value in given.items():
        if value is not None:
            raise RecipeError(f"{name}: cannot be changed in the middle of a run; leave it out")
    if start.recipe is None:
        raise CheckpointError("--resume: the checkpoint holds weights alone; use last.safetensors")
    folder = None if asked.resume is True else Path(str(asked.resume))
    goes_on = Asked(
        backend=asked.backend or start.backend.get("name"),
        input_size=start.spec.input.size,
        out=asked.out or (folder if folder is not None and folder.is_dir() else None),
    )
    return _run(goes_on, start.spec, start.recipe, asked.data or start.data, say)


def _run(
    asked: Asked,
    spec: Spec,
    recipe: Recipe,
    source: str | Path | Dataset,
    say: Say,
    weights: Pretrained | None = None,
) -> Run:
    if asked.backend is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    data = load_data(source, size=asked.input_size)
    data_name = name_of(source) if isinstance(source, Dataset) else str(source)
    data = data if weights is None else viewed(data, weights.view)
    spec, notes = fitted(spec, data)
    for note in notes:
        say(note)
    out = asked.out or Path("runs") / f"{spec.name}-{data.name}-{asked.backend}"
    plan = fine_tuned(lower(spec), recipe)
    return Run(spec, plan, recipe, asked.backend, data, data_name, out)


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
