"""Train from Python: all that `resnet-spec train` does, as one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from resnet_spec.data.dataset import Dataset
from resnet_spec.describing.spec_files import Source
from resnet_spec.describing.text_lists import Texts
from resnet_spec.recipe import Recipe
from resnet_spec.running.fit import fit
from resnet_spec.running.found_group import found_group
from resnet_spec.running.job import Job
from resnet_spec.running.job_of_group import in_common, job_together
from resnet_spec.running.meeting import expected
from resnet_spec.running.opening import open_session
from resnet_spec.running.progress import first_step_text, is_wanted, shown
from resnet_spec.running.read_only_folder import folder_of
from resnet_spec.running.request import Request
from resnet_spec.running.run_folder import Say
from resnet_spec.running.runs import Position, Run, Summary
from resnet_spec.running.stages import stage_at, stages_of
from resnet_spec.running.teaching import teaching
from resnet_spec.running.together import Together, by_rank
from resnet_spec.running.tracking.choice import chosen
from resnet_spec.running.tracking.forwarding import Tracking, Watches
from resnet_spec.running.tracking.tracker import Tracked
from resnet_spec.running.validating import own_part_note
from resnet_spec.running.want_of_memory import memory_told
from resnet_spec.running.watch import Watch, checked_watch
from resnet_spec.weights.adopting import Head

Watching = Callable[[Run, int], AbstractContextManager[Watch]]
"""Opens what watches a run that begins at a step."""


def train(
    spec: Source | None = None,
    backend: str | None = None,
    data: str | Path | Dataset | None = None,
    recipe: str | Path | Mapping[str, object] | Recipe | None = None,
    *,
    settings: Texts = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool | str | Path = False,
    auto_resume: bool = False,
    input_size: int | None = None,
    device: str = "auto",
    compile: bool = False,
    shard: bool = False,
    pretrained: str | Path | None = None,
    part: str | None = None,
    head: Head | None = None,
    freeze: str | None = None,
    head_rate: float | None = None,
    accept_data: bool = False,
    ignore_classes: bool = False,
    validation: float | None = None,
    track: Texts = (),
    watch: Watch | None = None,
    say: Say | None = None,
    progress: bool | None = None,
) -> Summary:
    """Train a network and return what the run came to; its folder holds the rest.

    spec: a preset, a `.toml` or `.json` file, a dict or a spec; not needed with `pretrained`.
    backend: numpy, torch, flax, mindspore or one from outside.
    data: a dataset's name or path, or a `Dataset`; None: digits. A dataset that was made in Python
        has to be given again to resume, and to evaluate.
    recipe: a name, a file, a dict or a recipe; None: demo, or fine-tune with `pretrained`.
    settings: `key=value` texts that change a field of the recipe or the spec, or one of them.
    out: the run's folder; None: `runs/SPEC-DATA-BACKEND`. One that holds a run is refused unless
        `overwrite`.
    resume: go on with the run in this folder, or in `out` where True; of all else only `backend`,
        `device`, `data` and `accept_data` may be given.
    auto_resume: go on with the run in `out` where there is one, and begin it otherwise: the same
        call starts a run and takes it up again. A run of another network or recipe is refused.
    input_size: pixels per side; None: the data's own.
    device, compile, shard: as in `contract.Session`.
    pretrained, part: weights to start from, as in `build`.
    head: "keep" or "replace" their classifier; None: replaced where the classes differ.
    freeze, head_rate: as in `Recipe`.
    accept_data: go on, with `resume`, though the data is not what the run began with.
    ignore_classes: take labels by position where the classes of weights and data differ.
    validation: the part of the training images that is held out, by class, to evaluate each epoch
        and to choose the best one by; the test images are looked at once, at the end. None: the
        data's own validation part does that; where it has none, each epoch is evaluated on the test
        images, and the best one chosen by them.
    track: one or several of tensorboard, mlflow and wandb.
    watch: hears of chunks and epochs; it may have one method of `Watch` alone.
    say: hears of what was changed on the way, a line each; None prints the lines where progress is
        shown.
    progress: whether to show how far it is; None: in a notebook, and at an interactive prompt.

    Where the environment speaks of several processes (`found_group`), as under torchrun or srun,
    this is one of them: each calls `train` with the same arguments, and the first one speaks.

    Raises SpecError, RecipeError, DataError, CheckpointError, BackendError and TrackingError for
    inputs that break a rule, before anything is trained.
    """
    hearing = None if watch is None else checked_watch(watch)
    group = found_group(os.environ)
    request = Request(
        spec=spec,
        backend=backend,
        data=data,
        recipe=recipe,
        settings=settings,
        out=out,
        overwrite=overwrite,
        resume=resume,
        auto_resume=auto_resume,
        input_size=input_size,
        device=device,
        compile=compile,
        shard=shard,
        pretrained=pretrained,
        part=part,
        head=head,
        freeze=freeze,
        head_rate=head_rate,
        accept_data=accept_data,
        ignore_classes=ignore_classes,
        validation=validation,
    )
    is_shown = is_wanted(progress)
    hears = say or (print if is_shown else _ignore)

    @contextmanager
    def watching(run: Run, at: int) -> Generator[Watch]:
        own = [] if hearing is None else [hearing]
        if not is_shown:
            yield Watches(*own)
            return
        first = first_step_text(run.backend, compile=compile)
        with shown(run.total_steps, run.epochs, at, first) as view:
            yield Watches(view, *own)

    with expected(group):
        trackers = chosen(track)
        with job_together(request, hears, group) as (job, together):
            return carry_out(job, together, watching, hears, track=trackers)


def carry_out(
    job: Job,
    together: Together,
    watching: Watching,
    say: Say,
    *,
    track: Sequence[str] = (),
    begins: Callable[[Run, Mapping[str, str]], None] = lambda run, info: None,
) -> Summary:
    """Train a job to its end, or until Ctrl-C. begins: is told of the session's `info` first.

    The folder is touched only when all is there that the first step needs. Of several processes
    the first one sees it, and speaks to those that watch.
    """
    if job.group.size > 1:
        together.check_same(in_common(job))
    with memory_told(job.run):
        if together.is_first:
            return _trained(job, together, watching, say, track, begins)
        return _trained(job, together, _unwatched, _ignore, (), lambda run, info: None)


def _trained(
    job: Job,
    together: Together,
    watching: Watching,
    say: Say,
    track: Sequence[str],
    begins: Callable[[Run, Mapping[str, str]], None],
) -> Summary:
    run, recipe, group = job.run, job.run.recipe, job.group
    made = partial(open_session, run.backend, device=job.device, group=group)
    train = partial(made, recipe=recipe, compile=job.compile, shard=job.shard)
    at = 0 if job.start is None else int(job.start.progress.get("step", 0))
    first = stage_at(stages_of(run), at).plan
    session = train(first)
    evaluator, plan = session, run.evaluated_plan
    if recipe.ema.decay > 0 or recipe.augment.progressive or plan is not None:
        evaluator = made(plan or run.plan, precision=recipe.precision)
    alone = partial(made, precision=recipe.precision, compile=job.compile)
    teach = teaching(job.teacher, first, alone)
    begins(run, session.info)
    if (note := own_part_note(run)) is not None:
        say(f"note: {note}")
    if at and job.start is not None and run.is_done(Position.from_dict(job.start.progress)):
        say(f"note: the run in {run.out} is complete: nothing is left to train")
    tracked = Tracked.of(run, session.info)
    with (
        folder_of(run.out, together).held(job.begins, job.start, say),
        Tracking(track, tracked, at, say=lambda line: say(f"note: {line}")) as tracking,
        watching(run, at) as watch,
    ):
        for name, place in tracking.places.items():
            say(f"tracked by {name}: {place}")
        watches = Watches(watch, tracking)
        with by_rank(group), memory_told(run):
            summary = fit(run, session, evaluator, watches, job.start, together, train, teach)
        tracking.finish(summary)
        return summary


@contextmanager
def _unwatched(run: Run, at: int) -> Generator[Watch]:
    yield Watches()


def _ignore(line: str) -> None:
    """Hear nothing."""
