"""A job with the processes that carry it out: the first one reads the run's checkpoint for all."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from resnet_spec.digests import digest
from resnet_spec.errors import BackendError
from resnet_spec.group import Group
from resnet_spec.running.going_back import names_file, read_to_go_on
from resnet_spec.running.job import Job, job_of
from resnet_spec.running.meeting import joined
from resnet_spec.running.opened import Opened, told_by_first
from resnet_spec.running.reach import Find, Reach
from resnet_spec.running.request import Request
from resnet_spec.running.run_folder import Say
from resnet_spec.running.together import Together, check_ahead, check_can_join
from resnet_spec.weights.checkpoint import checkpoint_header
from resnet_spec.weights.last_two import PREVIOUS

_BEGINS = "--resume"
"""What tells a process that begins a run from one that goes on with it."""


@contextmanager
def job_together(request: Request, say: Say, group: Group) -> Generator[tuple[Job, Together]]:
    """Yield a job and the processes of `group`, met.

    A run's folder is seen by the first of them alone: where a run goes on they meet before they
    know from where, and a process that does not see it needs to be told the backend. Raises as
    `job_of` and `joined` do.
    """
    if group.size == 1 or (request.resume is False and not request.auto_resume):
        job = job_of(request, say, group=group)
        check_ahead(job.run.backend, job.device, job.run.recipe.precision, group)
        alike = {_BEGINS: True, **in_common(job)} if group.size > 1 else {}
        with joined(job.run.backend, group, alike) as together:
            yield job, together
        return
    request.check()
    backend = request.backend or backend_of_run(request)
    check_can_join(backend, group)
    with joined(backend, group, {_BEGINS: False}) as together:
        reach = Reach(opened=partial(_opened_by_first, together))
        yield job_of(request, say, reach, group), together


def in_common(job: Job) -> dict[str, object]:
    """Return what all processes of a run must have alike, by what it is called."""
    start = job.start
    return {
        "backend": job.run.backend,
        "network": job.run.spec.to_dict(),
        "recipe": job.run.recipe.to_dict(),
        "data": job.run.dataset.to_dict(),
        "validation": None if job.run.held_out is None else job.run.held_out.to_dict(),
        "--shard": job.shard,
        "--compile": job.compile,
        "checkpoint": None if start is None else [dict(start.progress), digest(start.state)],
    }


def backend_of_run(request: Request) -> str:
    """Return the backend that the run was trained by last, as either of its checkpoints says.

    Raises CheckpointError where both are damaged, and BackendError where none is seen.
    """
    last = None if request.auto_resume else request.goes_on_from()
    if last is not None:
        for path in (last, last.with_name(PREVIOUS)):
            if (name := _backend_in(path)) is not None:
                return name
        if last.is_file():
            read_to_go_on(last, lambda line: None, is_named=names_file(request.resume))
    raise BackendError("--backend: is required; see: resnet-spec backends")


def _backend_in(path: Path) -> str | None:
    header: Mapping[str, Any] = checkpoint_header(path) or {}
    told: object = header.get("backend")
    name: object = cast("dict[str, object]", told).get("name") if isinstance(told, dict) else None
    return name if isinstance(name, str) else None


def _opened_by_first(together: Together, find: Find) -> Opened | None:
    """Have rank 0 find and read a checkpoint, and return it in every process."""
    return told_by_first(together, find() if together.is_first else None)
