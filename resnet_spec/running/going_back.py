"""Which checkpoint a run goes on from: the last one, or the one before it where that is damaged."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.errors import CheckpointError, DamagedError
from resnet_spec.running.run_folder import RunFolder, Say
from resnet_spec.running.runs import Position
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint
from resnet_spec.weights.last_two import LAST, PREVIOUS


def names_file(resume: bool | str | Path) -> bool:
    """Return whether a checkpoint is asked for by name, and not a run."""
    return not isinstance(resume, bool) and not Path(resume).is_dir()


def read_to_go_on(found: Path, say: Say, *, is_named: bool) -> tuple[Path, Checkpoint]:
    """Return the checkpoint that a run goes on from, and where it is.

    found: what `checkpoint_to_go_on` has found. is_named: it was asked for by name, and nothing
    else is taken for it. say: hears, in one line, why the one before it is.

    Raises CheckpointError for a checkpoint that is damaged where there is no sound one before it,
    and for one that is whole and that no run can go on from: then none is taken for it either.
    """
    before = found.with_name(PREVIOUS)
    if found == before:  # A process was killed between two renames.
        start = _read(found)
        say(f"note: {found.with_name(LAST)}: there is no such file; {_goes_on(found, start)}")
        return found, start
    try:
        return found, _read(found)
    except DamagedError as error:
        if not before.is_file():
            raise
        wrong = error
    start = _read_before(before, wrong)
    if is_named:
        remedy = f"--resume {RunFolder.of_checkpoint(found).path} goes on from {before}"
        raise CheckpointError(f"--resume = {_fault(wrong)}; {remedy}, at step {_step(start)}")
    say(f"note: {_fault(wrong)}; {_goes_on(before, start)}")
    return before, start


def _read(path: Path) -> Checkpoint:
    """Return the checkpoint at `path`. Raises CheckpointError where no run can go on from it."""
    start = load_checkpoint(path)
    if start.recipe is None or not start.progress:
        raise CheckpointError(f"--resume = {path}: holds weights alone; use a run's {LAST}")
    try:
        Position.from_dict(start.progress)
    except CheckpointError as error:
        raise CheckpointError(f"--resume = {path}: {error}") from None
    return start


def _read_before(before: Path, wrong: DamagedError) -> Checkpoint:
    try:
        return _read(before)
    except CheckpointError as error:
        folder = RunFolder.of_checkpoint(before).path
        rule = f"neither of its checkpoints can be gone on from: {_fault(wrong)}; {_fault(error)}"
        raise CheckpointError(f"--resume = {folder}: {rule}; begin it anew") from None


def _fault(error: CheckpointError) -> str:
    """Return what is wrong with a file, without its usual remedy: there is a better one here."""
    return str(error).removesuffix("; get it again")


def _goes_on(path: Path, start: Checkpoint) -> str:
    return f"the run goes on from {path}, the checkpoint before it, at step {_step(start)}"


def _step(start: Checkpoint) -> int:
    return Position.from_dict(start.progress).step
