"""From what a person asks `train` for to a run, ready to begin or to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_spec.data import data_place, load_data
from resnet_spec.data.absent import training_split
from resnet_spec.data.class_matching import IGNORE
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.encoded import viewed
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.data.given import name_of
from resnet_spec.data.kept import load_kept
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.describing.split_settings import sorted_settings
from resnet_spec.describing.text_lists import Texts
from resnet_spec.errors import BackendError, CheckpointError, DataError, RecipeError
from resnet_spec.loader import load_backend
from resnet_spec.planning.fine_tuning import fine_tuned
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe
from resnet_spec.running.resuming import ACCEPT, Consent, going_on
from resnet_spec.running.run_folder import (
    LAST,
    Begins,
    Say,
    check_place,
    checkpoint_to_go_on,
    run_folder_of,
)
from resnet_spec.running.runs import Position, Run
from resnet_spec.weights.adopting import Head, adopt, with_statistics
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint
from resnet_spec.weights.loading import Pretrained, load_pretrained


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
    part: str | None = None
    head: Head | None = None
    freeze: str | None = None
    head_rate: float | None = None
    accept_data: bool = False
    ignore_classes: bool = False


@dataclass(frozen=True)
class Job:
    """A run, the checkpoint that it starts from (None: from the recipe's seed), and its folder."""

    run: Run
    start: Checkpoint | None
    begins: Begins


def prepare(asked: Asked, say: Say) -> Job:
    """Return what is to be trained. Nothing is written, and no old run is touched.

    say: hears of what was changed on the way, a line each. Raises every error of the inputs but
    those of the session, which has still to be made.
    """
    last = _asked_to_go_on(asked)
    job = _fresh(asked, say) if last is None else _continued(asked, last, say)
    rates(job.run.recipe, job.run.epoch_steps)  # Raises for a schedule that does not fit the run.
    return job


def _asked_to_go_on(asked: Asked) -> Path | None:
    """Return the checkpoint to go on from, or None for a fresh run."""
    if asked.resume is False:
        return None
    if asked.resume is not True:
        return checkpoint_to_go_on(asked.resume)
    if asked.out is None:
        raise CheckpointError("--resume: needs a run; give --resume RUN or --out DIR")
    return checkpoint_to_go_on(asked.out, "--resume: --out")


def _fresh(asked: Asked, say: Say) -> Job:
    for name, value in (("--head", asked.head), ("--part", asked.part)):
        if value is not None and asked.pretrained is None:
            raise RecipeError(f"{name}: is of pretrained weights; give --pretrained, too")
    if asked.accept_data:
        raise RecipeError(f"{ACCEPT}: is of a run that goes on; give --resume, too")
    if asked.ignore_classes and asked.pretrained is None:
        raise RecipeError(f"{IGNORE}: is of weights that are there; give --pretrained or --resume")
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
    check_place(run.out, overwrite=asked.overwrite)
    return Job(run, None, Begins(overwrite=asked.overwrite))


def _pretrained(
    asked: Asked, source: str | Path, recipe: Recipe, settings: Sequence[str], say: Say
) -> Job:
    """Return the run of a network with pretrained weights, and its state before the first step."""
    weights = load_pretrained(source, part=asked.part)
    spec = load_spec(weights.spec if asked.spec is None else asked.spec, settings)
    known = with_statistics(weights, spec)[0]
    run = _run(asked, known, recipe, asked.data or "digits", say, weights)
    head = asked.head or "auto"
    adopted = adopt(
        weights,
        run.spec,
        settings=settings,
        head=head,
        seed=recipe.seed,
        classes=run.data.classes,
        data_name=run.data.name,
        ignore_classes=asked.ignore_classes,
    )
    notes = [*weights.notes_with(asked.spec, settings), *adopted.notes]
    if not weights.spec.input.mean and not spec.input.mean:
        notes.append(f"input.mean, input.std: the weights do not say; {run.data.name}'s are taken")
    for note in notes:
        say(f"note: {note}")
    check_place(run.out, overwrite=asked.overwrite)
    record = {**weights.record(), "notes": notes}
    start = Checkpoint(run.spec, adopted.state, recipe, progress=Position().to_dict())
    return Job(run, start, Begins(overwrite=asked.overwrite, pretrained=record))


def _continued(asked: Asked, last: Path, say: Say) -> Job:
    """Return the run that `last` belongs to; only backend, device, data, folder may change."""
    for name, value in _fixed(asked).items():
        if value is not None:
            raise RecipeError(f"{name}: cannot be changed in the middle of a run; leave it out")
    start = load_checkpoint(last)
    if start.recipe is None or not start.progress:
        raise CheckpointError(f"--resume = {last}: holds weights alone; use a run's {LAST}")
    try:
        Position.from_dict(start.progress)
    except CheckpointError as error:
        raise CheckpointError(f"--resume = {last}: {error}") from None
    folder = run_folder_of(last)
    out = asked.out or folder
    is_elsewhere = out.resolve() != folder.resolve()
    if is_elsewhere:
        check_place(out, overwrite=asked.overwrite)
        say(f"note: the run of {folder} goes on in {out}; {folder} stays as it is")
    elif asked.overwrite:
        raise DataError(f"--overwrite: would replace the run to go on with, {folder}; leave it out")
    backend = _checked_backend(asked.backend or start.backend.get("name"))
    data, place = _reread(asked, start, last)
    training_split(data)  # Raises where there is none.
    consent = Consent(data=asked.accept_data, classes=asked.ignore_classes)
    found = going_on(start, start.recipe, data, f"--data = {place}", folder, consent)
    for note in (*data.notes, *found.notes):
        say(f"note: {note}")
    run = Run(
        spec=start.spec,
        plan=fine_tuned(lower(start.spec), start.recipe),
        recipe=start.recipe,
        backend=backend,
        data=found.data,
        data_name=place,
        out=out,
        read=found.dataset,
        began_with=found.position.epoch_steps,
    )
    begins = Begins(folder, start.progress, overwrite=asked.overwrite)
    return Job(run, replace(start, progress=found.position.to_dict()), begins)


def _reread(asked: Asked, start: Checkpoint, last: Path) -> tuple[Dataset, str]:
    """Return the data to go on with, and its place: that of --data, or the one that is kept."""
    size = start.spec.input.size
    if asked.data is not None:
        return load_data(asked.data, size=size), _place(asked.data)
    return load_kept(start.data, f"--resume = {last}", size), start.data


def _fixed(asked: Asked) -> dict[str, object]:
    """Return what belongs to a run from its beginning, by option; None for what is not given."""
    return {
        "SPEC": asked.spec,
        "--recipe": asked.recipe,
        "--set": asked.settings or None,
        "--input-size": asked.input_size,
        "--pretrained": asked.pretrained,
        "--part": asked.part,
        "--head": asked.head,
        "--freeze": asked.freeze,
        "--head-rate": asked.head_rate,
    }


def _run(
    asked: Asked,
    spec: Spec,
    recipe: Recipe,
    source: str | Path | Dataset,
    say: Say,
    weights: Pretrained | None = None,
) -> Run:
    backend = _checked_backend(asked.backend)
    data = load_data(source, size=asked.input_size)
    training_split(data)  # Raises where there is none.
    data = data if weights is None else viewed(data, weights.view)
    if weights is not None and not weights.has_classifier and asked.spec is None:
        spec = spec.model_copy(update={"classes": len(data.classes)})  # It says nothing of them.
    spec, notes = fitted(spec, data)
    for note in (*(f"note: {note}" for note in data.notes), *notes):
        say(note)
    out = asked.out or Path("runs") / f"{spec.name}-{data.name}-{backend}"
    plan = fine_tuned(lower(spec), recipe)
    return Run(spec, plan, recipe, backend, data, _place(source), out)


def _place(source: str | Path | Dataset) -> str:
    """Return what finds the data again from every working folder."""
    return name_of(source) if isinstance(source, Dataset) else data_place(source)


def _checked_backend(name: str | None) -> str:
    """Return the backend's name, imported before anything is read or downloaded."""
    if name is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    load_backend(name)
    return name
