"""A run's folder: what is in it, which run goes on from it, and how a run takes it over.

A folder is looked at before anything is trained, and written to only while it is held. A run that
replaces another sets its files aside, and they are put back unless it comes to a checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_spec.errors import BusyError, CheckpointError, DataError, did_you_mean, problem
from resnet_spec.files.locking import locked
from resnet_spec.files.writing import check_folder, write_json, writing
from resnet_spec.running.metrics import FILE_NAME as METRICS
from resnet_spec.running.metrics import torn
from resnet_spec.weights.checkpoint import Checkpoint, checkpoint_header

Say = Callable[[str], None]

LAST, BEST, SUMMARY = "last.safetensors", "best.safetensors", "summary.json"
PRETRAINED = "pretrained.json"
_FILES = (
    *(LAST, BEST, METRICS, SUMMARY, PRETRAINED, "tracking.json"),
    "tensorboard/events.out.tfevents.*",
)
_INHERITED = (METRICS, BEST, PRETRAINED)
"""What a run that goes on in another folder takes with it, beside its checkpoint."""
_ASIDE = ".replaced"
"""Below the folder: the run that is being replaced, whole."""
_MOVING = ".replaced-moving"
"""The same while files are moved there or back; they belong where they were."""


@dataclass(frozen=True)
class Begins:
    """How a run takes its folder over.

    goes_on_from: the folder of the run that goes on; None for a fresh one. progress: where its
    checkpoint stands; None: where the run starts. overwrite: replace the run that is there.
    pretrained: what `pretrained.json` is to hold, None for no such file.
    """

    goes_on_from: Path | None = None
    progress: Mapping[str, Any] | None = None
    overwrite: bool = False
    pretrained: Mapping[str, Any] | None = None


def checkpoint_to_go_on(resume: str | Path, option: str = "--resume") -> Path:
    """Return the `last.safetensors` of the run that is named by its folder or by that file.

    Raises CheckpointError for what is no run.
    """
    path = Path(resume)
    if path.is_dir():
        last = _last(path)
        if last is None:
            runs = sorted(below.parent.name for below in path.glob(f"*/{LAST}"))
            remedy = f"name a run in it: {', '.join(runs[:5])}" if runs else "begin it anew"
            raise CheckpointError(problem(option, path, f"holds no {LAST}", remedy))
        return last
    if not path.is_file():
        near = did_you_mean(str(path), [str(one) for one in _neighbours(path)])
        raise CheckpointError(problem(option, path, "there is no such run", near))
    if path.name == BEST:
        raise CheckpointError(
            problem(option, path, "holds weights alone", f"use {path.with_name(LAST)}")
        )
    if path.name != LAST:
        rule = f"is not a run's {LAST}, whose folder the run goes on in"
        raise CheckpointError(problem(option, path, rule, f"copy it to DIR/{LAST}, give that"))
    return path


def run_folder_of(last: Path) -> Path:
    """Return the folder of the run that the checkpoint belongs to."""
    return last.parent.parent if last.parent.name in (_ASIDE, _MOVING) else last.parent


def _neighbours(path: Path) -> list[Path]:
    parent = path.parent
    return [one for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []


def _last(folder: Path) -> Path | None:
    """Return the last checkpoint, where a process was killed that had just set it aside, too."""
    places = (folder, folder / _ASIDE, folder / _MOVING)
    return next((place / LAST for place in places if (place / LAST).is_file()), None)


def check_place(out: Path, *, overwrite: bool) -> None:
    """Raise DataError where a fresh run cannot be kept in `out`; nothing is touched."""
    check_folder(out, "a run")
    holds = _last(out) is not None or (out / BEST).exists()
    if holds and not overwrite:
        raise DataError(
            f"--out = {out}: holds a run; go on with --resume, replace it with --overwrite, "
            "or name another folder"
        )


@contextmanager
def held(out: Path, begins: Begins, start: Checkpoint | None, say: Say) -> Generator[None]:
    """Hold `out` for a run, with what it begins from, and without the run that it replaces.

    That one is put back unless the new run is kept (`keep`) before this ends. Raises BusyError
    when another process holds the folder, and DataError when one has trained there meanwhile.
    """

    with run_lock(out, say):
        with writing(out):
            _settle(out)
        if begins.goes_on_from is not None and _is_same(begins.goes_on_from, out):
            _check_unchanged(out, start, begins)
            _tell_torn(out, say)
            yield
            return
        check_place(out, overwrite=begins.overwrite)
        with writing(out):
            _set_aside(out)
        try:
            _take_over(out, begins)
            _tell_torn(out, say)
            yield
        finally:
            if _put_back(out):
                say(f"note: the run that was in {out} is put back; the new one came to nothing")


@contextmanager
def run_lock(out: Path, say: Say) -> Generator[None]:
    """Hold `out` against other runs, and no more. Raises BusyError."""

    def refuse(holder: str) -> BusyError:
        by = f" ({holder})" if holder else ""
        remedy = "wait for it, or name another folder"
        return BusyError(f"--out = {out}: is in use by another run{by}; {remedy}")

    with locked(out, refuse, lambda line: say(f"note: {line}")):
        yield


def keep(out: Path) -> None:
    """Remove the run that was replaced, for the new one has a checkpoint."""
    shutil.rmtree(out / _ASIDE, ignore_errors=True)


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _check_unchanged(out: Path, start: Checkpoint | None, begins: Begins) -> None:
    header = checkpoint_header(out / LAST)
    known = begins.progress or (None if start is None else start.progress)
    if known is None or header is None or header.get("progress") != dict(known):
        rule = "another process has trained this run meanwhile"
        raise DataError(f"--resume = {out}: {rule}; give the command again")


def _tell_torn(folder: Path, say: Say) -> None:
    note = torn(folder)
    if note is not None:
        say(f"note: {note}")


def _take_over(out: Path, begins: Begins) -> None:
    if begins.goes_on_from is not None:
        for name in _INHERITED:
            if (begins.goes_on_from / name).is_file():
                with writing(out / name):
                    shutil.copyfile(begins.goes_on_from / name, out / name)
    if begins.pretrained is not None:
        write_json(out / PRETRAINED, begins.pretrained)


def _own(folder: Path) -> list[Path]:
    """Return a run's files in `folder`, relative to it."""
    return [path.relative_to(folder) for name in _FILES for path in sorted(folder.glob(name))]


def _set_aside(out: Path) -> None:
    """Move a run's files away; a process that is killed on the way leaves `_MOVING`."""
    names = _own(out)
    if names:
        _move(names, out, out / _MOVING)
        (out / _MOVING).rename(out / _ASIDE)


def _put_back(out: Path) -> bool:
    """Put the run that was set aside in the place of the new one; return whether there is one."""
    if not (out / _ASIDE).is_dir():
        return False
    for name in _own(out):
        (out / name).unlink()
    (out / _ASIDE).rename(out / _MOVING)
    _move_back(out)
    return _last(out) is not None


def _settle(out: Path) -> None:
    """End what a process left that was killed while it replaced a run, and drop half files."""
    if (out / _MOVING).is_dir():
        _move_back(out)
    if (out / LAST).is_file():
        keep(out)
    _put_back(out)
    for name in (LAST, BEST, SUMMARY, METRICS):
        for half in out.glob(f".{name}.*.tmp"):
            half.unlink(missing_ok=True)


def _move_back(out: Path) -> None:
    _move(_own(out / _MOVING), out / _MOVING, out)
    shutil.rmtree(out / _MOVING)


def _move(names: list[Path], source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
