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
class Request:
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


def job_of(request: Request, say: Say) -> Job:
    """Return what is to be trained. Nothing is written, and no old run is touched.

    say: hears of what was changed on the way, a line each. Raises every error of the inputs but
    those of the session, which has still to be made.
    """
    last = _to_go_on_from(request)
    job = _fresh(request, say) if last is None else _continued(request, last, say)
    rates(job.run.recipe, job.run.epoch_steps)  # Raises for a schedule that does not fit the run.
    return job


def _to_go_on_from(request: Request) -> Path | None:
    """Return the checkpoint to go on from, or None for a fresh run."""
    if request.resume is False:
        return None
    if request.resume is not True:
        return checkpoint_to_go_on(request.resume)
    if request.out is None:
        raise CheckpointError("--resume: needs a run; give --resume RUN or --out DIR")
    return checkpoint_to_go_on(request.out, "--resume: --out")


def _fresh(request: Request, say: Say) -> Job:
    for name, value in (("--head", request.head), ("--part", request.part)):
        if value is not None and request.pretrained is None:
            raise RecipeError(f"{name}: is of pretrained weights; give --pretrained, too")
    if request.accept_data:
        raise RecipeError(f"{ACCEPT}: is of a run that goes on; give --resume, too")
    if request.ignore_classes and request.pretrained is None:
        raise RecipeError(f"{IGNORE}: is of weights that are there; give --pretrained or --resume")
    for_recipe, for_spec = sorted_settings(request.settings)
    usual = "demo" if request.pretrained is None else "fine-tune"
    for key, value in (("freeze", request.freeze), ("head_rate", request.head_rate)):
        for_recipe += [] if value is None else [f"{key}={value}"]
    recipe = load_recipe(usual if request.recipe is None else request.recipe, for_recipe)
    if request.pretrained is not None:
        return _pretrained(request, request.pretrained, recipe, for_spec, say)
    if request.spec is None:
        raise RecipeError("SPEC: is required without --pretrained; see: resnet-spec list")
    run = _run(request, load_spec(request.spec, for_spec), recipe, request.data or "digits", say)
    check_place(run.out, overwrite=request.overwrite)
    return Job(run, None, Begins(overwrite=request.overwrite))


def _pretrained(
    request: Request, source: str | Path, recipe: Recipe, settings: Sequence[str], say: Say
) -> Job:
    """Return the run of a network with pretrained weights, and its state before the first step."""
    weights = load_pretrained(source, part=request.part)
    spec = load_spec(weights.spec if request.spec is None else request.spec, settings)
    known = with_statistics(weights, spec)[0]
    run = _run(request, known, recipe, request.data or "digits", say, weights)
    head = request.head or "auto"
    adopted = adopt(
        weights,
        run.spec,
        settings=settings,
        head=head,
        seed=recipe.seed,
        classes=run.data.classes,
        data_name=run.data.name,
        ignore_classes=request.ignore_classes,
    )
    notes = [*weights.notes_with(request.spec, settings), *adopted.notes]
    if not weights.spec.input.mean and not spec.input.mean:
        notes.append(f"input.mean, input.std: the weights do not say; {run.data.name}'s are taken")
    for note in notes:
        say(f"note: {note}")
    check_place(run.out, overwrite=request.overwrite)
    record = {**weights.record(), "notes": notes}
    start = Checkpoint(run.spec, adopted.state, recipe, progress=Position().to_dict())
    return Job(run, start, Begins(overwrite=request.overwrite, pretrained=record))


def _continued(request: Request, last: Path, say: Say) -> Job:
    """Return the run that `last` belongs to; only backend, device, data, folder may change."""
    for name, value in _fixed(request).items():
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
    out = request.out or folder
    is_elsewhere = out.resolve() != folder.resolve()
    if is_elsewhere:
        check_place(out, overwrite=request.overwrite)
        say(f"note: the run of {folder} goes on in {out}; {folder} stays as it is")
    elif request.overwrite:
        raise DataError(f"--overwrite: would replace the run to go on with, {folder}; leave it out")
    backend = _checked_backend(request.backend or start.backend.get("name"))
    data, place = _reread(request, start, last)
    training_split(data)  # Raises where there is none.
    consent = Consent(data=request.accept_data, classes=request.ignore_classes)
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
    begins = Begins(folder, start.progress, overwrite=request.overwrite)
    return Job(run, replace(start, progress=found.position.to_dict()), begins)


def _reread(request: Request, start: Checkpoint, last: Path) -> tuple[Dataset, str]:
    """Return the data to go on with, and its place: that of --data, or the one that is kept."""
    size = start.spec.input.size
    if request.data is not None:
        return load_data(request.data, size=size), _place(request.data)
    return load_kept(start.data, f"--resume = {last}", size), start.data


def _fixed(request: Request) -> dict[str, object]:
    """Return what belongs to a run from its beginning, by option; None for what is not given."""
    return {
        "SPEC": request.spec,
        "--recipe": request.recipe,
        "--set": request.settings or None,
        "--input-size": request.input_size,
        "--pretrained": request.pretrained,
        "--part": request.part,
        "--head": request.head,
        "--freeze": request.freeze,
        "--head-rate": request.head_rate,
    }


def _run(
    request: Request,
    spec: Spec,
    recipe: Recipe,
    source: str | Path | Dataset,
    say: Say,
    weights: Pretrained | None = None,
) -> Run:
    backend = _checked_backend(request.backend)
    data = load_data(source, size=request.input_size)
    training_split(data)  # Raises where there is none.
    data = data if weights is None else viewed(data, weights.view)
    if weights is not None and not weights.has_classifier and request.spec is None:
        spec = spec.model_copy(update={"classes": len(data.classes)})  # It says nothing of them.
    spec, notes = fitted(spec, data)
    for note in (*(f"note: {note}" for note in data.notes), *notes):
        say(note)
    out = request.out or Path("runs") / f"{spec.name}-{data.name}-{backend}"
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
