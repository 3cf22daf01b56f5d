"""A run's folder: what is in it, which run goes on from it, and how a run takes it over.

A `RunFolder` is the one object through which a run's files are written. It is looked at before
anything is trained, and written to only while it is held.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_spec.errors import BusyError, CheckpointError, DataError, did_you_mean, problem
from resnet_spec.files.locking import locked
from resnet_spec.files.writing import check_folder, replacing, write_json, writing
from resnet_spec.running.metrics import FILE_NAME as METRICS
from resnet_spec.running.metrics import Epoch, append_metrics, keep_metrics, read_metrics, torn
from resnet_spec.running.replaced_run import ReplacedRun
from resnet_spec.running.runs import Summary
from resnet_spec.weights.checkpoint import Checkpoint, checkpoint_header, save_checkpoint
from resnet_spec.weights.last_two import LAST, PREVIOUS, is_sound

Say = Callable[[str], None]

BEST, SUMMARY = "best.safetensors", "summary.json"
PRETRAINED, TRACKING = "pretrained.json", "tracking.json"
_FILES = (
    *(LAST, PREVIOUS, BEST, METRICS, SUMMARY, PRETRAINED, TRACKING),
    "tensorboard/events.out.tfevents.*",
)
_INHERITED = (METRICS, BEST, PRETRAINED, SUMMARY)
"""What a run that goes on in another folder takes with it, beside its checkpoints."""


@dataclass(frozen=True)
class Begins:
    """How a run takes its folder over.

    goes_on_from: the folder of the run that goes on; None for a fresh one. progress: where its
    checkpoint stands; None: where the run starts. overwrite: replace the run that is there.
    pretrained: what `pretrained.json` is to hold, None for no such file. checkpoint: that run's
    file: `LAST`, or `PREVIOUS` where that one is damaged.
    """

    goes_on_from: Path | None = None
    progress: Mapping[str, Any] | None = None
    overwrite: bool = False
    pretrained: Mapping[str, Any] | None = None
    checkpoint: str = LAST


@dataclass(frozen=True)
class RunFolder:
    """The folder `path` of one run, which need not be there yet.

    What writes raises OutputError where the system refuses.
    """

    path: Path

    @classmethod
    def of_checkpoint(cls, last: Path) -> RunFolder:
        """Return the folder of the run that the checkpoint belongs to."""
        return cls(ReplacedRun.owner_of(last.parent))

    @property
    def last(self) -> Path:
        """Where the last checkpoint is kept."""
        return self.path / LAST

    @property
    def previous(self) -> Path:
        """Where the checkpoint before the last is kept."""
        return self.path / PREVIOUS

    @property
    def best(self) -> Path:
        """Where the evaluated weights of the best epoch are kept."""
        return self.path / BEST

    @property
    def summary(self) -> Path:
        """Where it is kept what the run came to."""
        return self.path / SUMMARY

    # --- Looked at --------------------------------------------------------------------------------

    def is_same(self, other: Path) -> bool:
        """Return whether `other` is this folder by another name."""
        return self.path.resolve() == other.resolve()

    def found_last(self) -> Path | None:
        """Return the last checkpoint; one that a killed process had just set aside, too.

        Where there is none, as a process that was killed between two renames may leave it, the one
        before it.
        """
        places = (self.path, *self._replaced.places)
        found = (place / name for name in (LAST, PREVIOUS) for place in places)
        return next((path for path in found if path.is_file()), None)

    @property
    def holds_run(self) -> bool:
        """Whether a run has left a checkpoint here."""
        return self.found_last() is not None or self.best.exists()

    def check_free(self, *, overwrite: bool) -> None:
        """Raise DataError where a fresh run cannot be kept here; nothing is touched."""
        check_folder(self.path, "a run")
        if self.holds_run and not overwrite:
            raise DataError(
                f"--out = {self.path}: holds a run; go on with --resume, replace it with "
                "--overwrite, or name another folder"
            )

    def epochs(self) -> list[Epoch]:
        """Return the epochs so far. Raises DataError; see `read_metrics`."""
        return read_metrics(self.path)

    # --- Held -------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, say: Say) -> Generator[None]:
        """Hold the folder against other runs, and no more. Raises BusyError."""

        def refuse(holder: str) -> BusyError:
            by = f" ({holder})" if holder else ""
            remedy = "wait for it, or name another folder"
            return BusyError(f"--out = {self.path}: is in use by another run{by}; {remedy}")

        with locked(self.path, refuse, lambda line: say(f"note: {line}")):
            yield

    @contextmanager
    def held(self, begins: Begins, start: Checkpoint | None, say: Say) -> Generator[None]:
        """Hold the folder for a run, with what it begins from, and without what it replaces.

        The replaced run is put back unless the new one has a checkpoint (`save_last`) before this
        ends. One that goes on from elsewhere has that run's until it has its own, so that it is a
        whole run even where nothing is left to train. Raises BusyError when another process holds
        the folder, and DataError when one has trained there meanwhile.
        """
        with self.locked(say):
            with writing(self.path):
                self._settle()
            if begins.goes_on_from is not None and self.is_same(begins.goes_on_from):
                self._check_unchanged(start, begins)
                self._go_back(begins)
                self._tell_torn(say)
                yield
                return
            self.check_free(overwrite=begins.overwrite)
            with writing(self.path):
                self._replaced.set_aside()
            try:
                self._take_over(begins)
                self._tell_torn(say)
                yield
                self._keep_last(begins)
            finally:
                if self._replaced.put_back() and self.found_last() is not None:
                    told = f"the run that was in {self.path} is put back"
                    say(f"note: {told}; the new one came to nothing")

    # --- Written ----------------------------------------------------------------------------------

    def save_last(self, checkpoint: Checkpoint) -> None:
        """Write what the run goes on from, and keep the one before, for when this one is damaged.

        A run that was replaced is given up now.
        """
        save_checkpoint(self.last, checkpoint, kept=self.previous)
        self._replaced.give_up()

    def save_best(self, weights: Checkpoint) -> None:
        """Write the weights of the best epoch."""
        save_checkpoint(self.best, weights)

    def add_epoch(self, epoch: Epoch, keys: Sequence[str]) -> None:
        """Add an epoch's line to the metrics. keys: those of the run, by `keys_of`."""
        append_metrics(self.path, epoch, keys)

    def drop_epochs(self, after_step: int) -> None:
        """Drop the lines of epochs that ended later, which a run that goes on writes again."""
        keep_metrics(self.path, up_to_step=after_step)

    def write_summary(self, summary: Summary) -> None:
        """Write what the run came to."""
        write_json(self.summary, asdict(summary))

    def drop_summary(self) -> None:
        """Remove the summary of a run that is about to go on."""
        self.summary.unlink(missing_ok=True)

    def write_marks(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write how far each tracker has come."""
        write_json(self.path / TRACKING, marks)

    @property
    def _replaced(self) -> ReplacedRun:
        return ReplacedRun(self.path, _FILES)

    def _check_unchanged(self, start: Checkpoint | None, begins: Begins) -> None:
        header = checkpoint_header(self.path / begins.checkpoint)
        known = begins.progress or (None if start is None else start.progress)
        is_other = known is None or header is None or header.get("progress") != dict(known)
        # Another process that has gone back before us has left a sound one.
        if is_other or (begins.checkpoint == PREVIOUS and is_sound(self.last)):
            rule = "another process has trained this run meanwhile"
            raise DataError(f"--resume = {self.path}: {rule}; give the command again")

    def _go_back(self, begins: Begins) -> None:
        """Put the checkpoint that the run goes on from in the place of a damaged last one.

        Else the next to be written would make the damaged one that before it, and lose the sound.
        """
        if begins.checkpoint == PREVIOUS:
            with writing(self.last):
                self.previous.replace(self.last)

    def _tell_torn(self, say: Say) -> None:
        note = torn(self.path)
        if note is not None:
            say(f"note: {note}")

    def _take_over(self, begins: Begins) -> None:
        if begins.goes_on_from is not None:
            for name in _INHERITED:
                self._copy(begins.goes_on_from, name)
            if not self._replaced.places[0].is_dir():  # Else a killed run would cost the other.
                self._copy_checkpoints(begins.goes_on_from, begins.checkpoint)
        if begins.pretrained is not None:
            write_json(self.path / PRETRAINED, begins.pretrained)

    def _keep_last(self, begins: Begins) -> None:
        """Take the last checkpoint along where a run went on and came to none of its own."""
        if begins.goes_on_from is not None and not self.last.is_file():
            self._copy_checkpoints(begins.goes_on_from, begins.checkpoint)
            self._replaced.give_up()

    def _copy_checkpoints(self, run: Path, checkpoint: str) -> None:
        """Copy what the run in another folder goes on from, and the one before it."""
        if checkpoint == LAST:
            self._copy(run, PREVIOUS)
        self._copy(run, checkpoint, LAST)

    def _copy(self, run: Path, name: str, to: str | None = None) -> None:
        """Copy a file of the run in another folder, which may be set aside; none that is absent."""
        last = RunFolder(run).found_last()
        source = (run if last is None else last.parent) / name
        if source.is_file():
            with replacing(self.path / (to or name)) as temporary:
                shutil.copyfile(source, temporary)

    def _settle(self) -> None:
        """End what a process left that was killed while it replaced a run, and drop half files."""
        self._replaced.settle(lambda: self.last.is_file() or self.previous.is_file())
        for name in (LAST, PREVIOUS, BEST, SUMMARY, METRICS):
            for half in self.path.glob(f".{name}.*.tmp"):
                half.unlink(missing_ok=True)


def checkpoint_to_go_on(resume: str | Path, option: str = "--resume") -> Path:
    """Return the `last.safetensors` of the run that is named by its folder or by that file.

    Raises CheckpointError for what is no run.
    """
    path = Path(resume)
    if path.is_dir():
        last = RunFolder(path).found_last()
        if last is None:
            runs = sorted(below.parent.name for below in path.glob(f"*/{LAST}"))
            remedy = f"name a run in it: {', '.join(runs[:5])}" if runs else "begin it anew"
            raise CheckpointError(problem(option, path, f"holds no {LAST}", remedy))
        return last
    if not path.is_file():
        near = did_you_mean(str(path), [str(one) for one in _neighbours(path)])
        if path.name == LAST and path.with_name(PREVIOUS).is_file():
            near = f"{option} {path.parent} goes on from {path.with_name(PREVIOUS)}"
        raise CheckpointError(problem(option, path, "there is no such run", near))
    if path.name == BEST:
        raise CheckpointError(
            problem(option, path, "holds weights alone", f"use {path.with_name(LAST)}")
        )
    if path.name != LAST:
        rule = f"is not a run's {LAST}, whose folder the run goes on in"
        raise CheckpointError(problem(option, path, rule, f"copy it to DIR/{LAST}, give that"))
    return path


def _neighbours(path: Path) -> list[Path]:
    parent = path.parent
    return [one for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []
