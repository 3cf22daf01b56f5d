"""From a request to a job: the run, ready to begin or to go on. Nothing on disk is touched.

The one way to a run, for `resnet-spec train`, for `resnet_spec.train` and for a grid's cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_spec.data import data_place
from resnet_spec.data.absent import training_split
from resnet_spec.data.as_before import as_before
from resnet_spec.data.at_size import viewed
from resnet_spec.data.augmenting import check_channels
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.fitted_spec import fitted
from resnet_spec.data.given import name_of
from resnet_spec.data.kept import load_kept
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.describing.split_settings import sorted_settings
from resnet_spec.errors import BackendError, DataError, RecipeError
from resnet_spec.group import ALONE, Group
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.pace import Pace
from resnet_spec.planning.rematerialisation import trained_by
from resnet_spec.recipe import Recipe
from resnet_spec.running.going_back import names_file, read_to_go_on
from resnet_spec.running.opened import Opened
from resnet_spec.running.opening import check_trains
from resnet_spec.running.reach import Reach
from resnet_spec.running.request import Request
from resnet_spec.running.resuming import Consent, check_same_run, going_on
from resnet_spec.running.run_folder import Begins, RunFolder, Say
from resnet_spec.running.runs import Position, Run
from resnet_spec.running.stages import stages_of
from resnet_spec.running.teaching import (
    Teacher,
    check_teacher_stays,
    moved,
    teacher_of,
    where_it_is,
)
from resnet_spec.running.together import check_can_compile, check_can_shard, check_shares
from resnet_spec.running.validating import validated
from resnet_spec.weights.adopting import adopt, with_statistics
from resnet_spec.weights.checkpoint import Checkpoint
from resnet_spec.weights.loading import Pretrained, load_pretrained


@dataclass(frozen=True)
class Job:
    """A run with all that it needs to begin.

    start: the checkpoint that it starts from; None: from the recipe's seed. begins: how it takes
    its folder over. device, compile, shard: as in `contract.Session`.
    group: which of several processes this is. teacher: whom the run learns from, if it does.
    """

    run: Run
    start: Checkpoint | None
    begins: Begins
    device: str = "auto"
    compile: bool = False
    shard: bool = False
    group: Group = ALONE
    teacher: Teacher | None = None


_REACH = Reach()


def job_of(
    request: Request, say: Say, reach: Reach = _REACH, group: Group = ALONE, *, paced: bool = True
) -> Job:
    """Return what is to be trained. Nothing is written, and no old run is touched.

    say: hears of what was changed on the way, a line each. group: which of several processes this
    is; all of them make the same job. paced: its own schedule is followed. Raises every error of
    the inputs but those of the session, which is made before anything is touched, too.
    """
    request.check()
    if request.auto_resume:
        job = _taken_up(request, say, reach)
    elif request.resume is False:
        job = _fresh(request, say, reach)
    else:
        found = reach.opened(lambda: _last_of(request, say))
        assert found is not None
        job = _taught(_continued(request, found, say, reach), say)
    if paced:  # Raises for a schedule that does not fit the run.
        Pace.of(job.run.recipe, job.run.epoch_steps)
    # These raise for sizes that the network cannot take, or that the run has no time for.
    _ = job.run.evaluated_plan, job.run.tested, stages_of(job.run)
    check_teacher_stays(job.run, overwrite=job.begins.overwrite)
    check_trains(job.run.backend, job.run.recipe, job.run.plan.classes)
    check_shares(job.run.backend, job.run.recipe, group)
    if request.shard:
        check_can_shard(job.run.backend)
    if request.compile:
        check_can_compile(job.run.backend)
    fixed = {"device": request.device, "compile": request.compile, "shard": request.shard}
    return replace(job, **fixed, group=group)


def _fresh(request: Request, say: Say, reach: Reach, before: Fingerprint | None = None) -> Job:
    """Return the run of a request. before: what data is to be that has more parts since then."""
    request.check_fresh()
    backend = _checked_backend(request.backend, reach)
    for_recipe, for_spec = sorted_settings(request.settings)
    usual = "demo" if request.pretrained is None else "fine-tune"
    for key, value in (("freeze", request.freeze), ("head_rate", request.head_rate)):
        for_recipe += [] if value is None else [f"{key}={value}"]
    recipe = load_recipe(usual if request.recipe is None else request.recipe, for_recipe)
    reach.check_precision(backend, recipe.precision)
    start = _Start(request, backend, recipe, for_spec, before)
    if request.pretrained is not None:
        return _taught(_pretrained(start, request.pretrained, say, reach), say)
    if request.spec is None:
        raise RecipeError("SPEC: is required without --pretrained; see: resnet-spec list")
    run = _run(start, load_spec(request.spec, for_spec), say, reach)
    RunFolder(run.out).check_free(overwrite=request.overwrite)
    return _taught(Job(run, None, Begins(overwrite=request.overwrite)), say)


def _taught(job: Job, say: Say) -> Job:
    """Return the job with the run's teacher, whom its recipe then tells from others."""
    recipe, teacher = teacher_of(job.run, say, job.begins.goes_on_from)
    start = None if job.start is None else replace(job.start, recipe=recipe)
    return replace(job, run=replace(job.run, recipe=recipe), start=start, teacher=teacher)


@dataclass(frozen=True)
class _Start:
    """What is settled of a fresh run before anything large is read.

    settings: the spec's. before: see `_fresh`.
    """

    request: Request
    backend: str
    recipe: Recipe
    settings: Sequence[str]
    before: Fingerprint | None


def _pretrained(start: _Start, source: str | Path, say: Say, reach: Reach) -> Job:
    """Return the run of a network with pretrained weights, and its state before the first step."""
    request, settings = start.request, start.settings
    weights = load_pretrained(source, part=request.part)
    spec = load_spec(weights.spec if request.spec is None else request.spec, settings)
    known = with_statistics(weights, spec)[0]
    run = _run(start, known, say, reach, weights)
    adopted = adopt(
        weights,
        run.spec,
        settings=settings,
        head=request.head or "auto",
        seed=start.recipe.seed,
        classes=run.data.classes,
        data_name=run.data.name,
        ignore_classes=request.ignore_classes,
    )
    notes = [*weights.notes_with(request.spec, settings), *adopted.notes]
    if not weights.spec.input.mean and not spec.input.mean:
        notes.append(f"input.mean, input.std: the weights do not say; {run.data.name}'s are taken")
    for note in notes:
        say(f"note: {note}")
    RunFolder(run.out).check_free(overwrite=request.overwrite)
    record = {**weights.record(), "notes": notes}
    state = Checkpoint(run.spec, adopted.state, start.recipe, progress=Position().to_dict())
    return Job(run, state, Begins(overwrite=request.overwrite, pretrained=record))


def _last_of(request: Request, say: Say) -> Opened | None:
    """Read the checkpoint of the run that is to go on."""
    last = request.goes_on_from()
    if last is None:
        return None
    return Opened(*read_to_go_on(last, say, is_named=names_file(request.resume)))


def _continued(request: Request, found: Opened, say: Say, reach: Reach) -> Job:
    """Return the run of a checkpoint; see `Request.check_going_on` for what may change."""
    request.check_going_on()
    last, start = found
    assert start.recipe is not None
    start = moved(start, start.recipe, request.teacher_is_at())
    assert start.recipe is not None
    folder = RunFolder.of_checkpoint(last)
    out = request.folder() or folder.path
    if not folder.is_same(out):
        RunFolder(out).check_free(overwrite=request.overwrite)
        say(f"note: the run of {folder.path} goes on in {out}; {folder.path} stays as it is")
    elif request.overwrite:
        rule = f"would replace the run to go on with, {folder.path}; leave it out"
        raise DataError(f"--overwrite: {rule}")
    backend = _checked_backend(request.backend or start.backend.get("name"), reach)
    reach.check_precision(backend, start.recipe.precision)
    data, place = _reread(request, start, last, reach)
    training_split(data)  # Raises where there is none.
    consent = Consent(data=request.accept_data, classes=request.ignore_classes)
    goes_on = going_on(start, start.recipe, data, f"--data = {place}", folder.path, consent)
    for note in (*goes_on.data.notes, *goes_on.notes):
        say(f"note: {note}")
    run = Run(
        spec=start.spec,
        plan=trained_by(lower(start.spec), start.recipe),
        recipe=start.recipe,
        backend=backend,
        data=goes_on.data,
        data_name=place,
        out=out,
        read=goes_on.dataset,
        began_with=goes_on.position.epoch_steps,
        held_out=goes_on.held_out,
    )
    begins = Begins(folder.path, start.progress, request.overwrite, checkpoint=last.name)
    start = replace(start, progress=goes_on.position.to_dict())
    return Job(run, start, begins)


def _taken_up(request: Request, say: Say, reach: Reach) -> Job:
    """Return the run that was begun by this very request before, or else a fresh one."""
    notes = list[str]()

    def found_in(out: Path) -> Opened | None:
        later = request.going_on(out)
        return reach.opened(lambda: _last_of(later, say) if RunFolder(out).holds_run else None)

    out = request.folder()
    found = None if out is None else found_in(out)
    before = None if found is None else found.start.dataset
    wanted = _fresh(replace(request, overwrite=True), notes.append, reach, before)
    folder = RunFolder(wanted.run.out)
    found = found_in(folder.path) if out is None else found
    if found is not None:
        found = found._replace(start=where_it_is(found.start, wanted.run.recipe))
        job = _continued(request.going_on(folder.path), found, say, reach)
        check_same_run(job.run, wanted.run)
        say(f"note: the run in {folder.path} goes on")
        return _taught(job, say)
    for note in notes:
        say(note)
    folder.check_free(overwrite=False)
    return replace(wanted, begins=replace(wanted.begins, overwrite=False))


def _reread(request: Request, start: Checkpoint, last: Path, reach: Reach) -> tuple[Dataset, str]:
    """Return the data to go on with, and its place: that of --data, or the one that is kept."""
    size = start.spec.input.size
    if request.data is not None:
        return reach.data(request.data, size), _place(request.data)
    return load_kept(start.data, f"--resume = {last}", size), start.data


def _run(
    start: _Start, spec: Spec, say: Say, reach: Reach, weights: Pretrained | None = None
) -> Run:
    """Return the fresh run of `spec`, fitted to the data of the request."""
    request = start.request
    source = "digits" if request.data is None else request.data
    data = reach.data(source, request.input_size)
    training_split(data)  # Raises where there is none.
    data = data if start.before is None else as_before(data, start.before)
    data = data if weights is None else viewed(data, weights.view)
    if weights is not None and not weights.has_classifier and request.spec is None:
        spec = spec.model_copy(update={"classes": len(data.classes)})  # It says nothing of them.
    check_channels(start.recipe.augment, data.channels)
    spec, notes = fitted(spec, data)
    place = None if isinstance(source, Dataset) else str(source)
    data, read, held_out = validated(data, request.validation, start.recipe, place)
    for note in (*(f"note: {note}" for note in data.notes), *notes):
        say(note)
    out = request.folder() or Path("runs") / f"{spec.name}-{data.name}-{start.backend}"
    plan = trained_by(lower(spec), start.recipe)
    fixed = spec, plan, start.recipe, start.backend, data, _place(source), out
    return Run(*fixed, read=read, held_out=held_out)


def _place(source: str | Path | Dataset) -> str:
    """Return what finds the data again from every working folder."""
    return name_of(source) if isinstance(source, Dataset) else data_place(source)


def _checked_backend(name: str | None, reach: Reach) -> str:
    """Return the backend's name, looked for before anything is read or downloaded."""
    if name is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    reach.backend(name)
    return name
