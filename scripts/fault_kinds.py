"""A small run in several processes, and the ways in which scripts/faults.py has it fail.

What happens to a run happens from outside: signals to its processes, and what is done to its disk
and its files. A number that is none is put into one process by a module that Python imports as it
starts (`sitecustomize`).
"""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from resnet_spec.weights.checkpoint import checkpoint_header
from resnet_spec.weights.last_two import LAST, PREVIOUS

LIMIT_S = 15.0
"""What every fault has to be over in."""
EPOCHS, BATCH, IMAGES = 16, 16, 96
"""Six steps an epoch, with an evaluation and a checkpoint after each."""
_LOOK_S = 0.002
_MARK, _POISON = "RESNET_SPEC_FAULTS", "RESNET_SPEC_POISON"
_DISK_BYTES = 16 << 20

_NETWORK = """
block = "basic"
dropout = 0.1
stem = {widths = [4], kernel = 3, stride = 1, pool = false}
stages = [{width = 4, blocks = 1}]
"""

_SITE = f"""
import os
rank, step, struck = os.environ.get("{_POISON}", "::").split(":", 2)
if rank and rank == os.environ.get("RANK"):
    from resnet_spec.data import batches
    sound = batches.train_batches

    def poisoned(noises, split, recipe, first_step, *others):
        for at, batch in enumerate(sound(noises, split, recipe, first_step, *others), first_step):
            for factors in batch.noise.values() if at == int(step) else ():
                factors[:] = float("nan")
                open(struck, "w").close()
            yield batch

    batches.train_batches = poisoned
"""


# --- The run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where the runs of one backend are made. disk: a file system of its own, or None."""

    root: Path
    backend: str
    processes: int
    disk: Path | None

    def make(self) -> None:
        """Write the network, the images and the module that poisons."""
        draw = np.random.default_rng(7)
        for split, count in (("train", IMAGES), ("val", IMAGES // 3)):
            for name, light in (("dark", 60), ("light", 180)):
                folder = self.data / split / name
                folder.mkdir(parents=True)
                for i in range(count // 2):
                    pixels = draw.integers(light - 60, light + 60, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i:02}.png")
        (self.root / "tiny.toml").write_text(_NETWORK)
        (self.root / "site").mkdir()
        (self.root / "site" / "sitecustomize.py").write_text(_SITE)

    @property
    def data(self) -> Path:
        return self.root / "images"

    @property
    def run(self) -> Path:
        return (self.disk or self.root) / "run"

    def begin(self, poison: str = "") -> Running:
        """Start the run anew. poison: "RANK:STEP" of what is to be no number."""
        given = ["tiny.toml", "--backend", self.backend, "--input-size", "8"]
        given += ["--data", str(self.data)]
        settings = (f"epochs={EPOCHS}", f"batch={BATCH}", "schedule.rate=0.05")
        given += [word for one in settings for word in ("--set", one)]
        return self._started([*given, "--out", str(self.run), "--overwrite"], poison)

    def go_on(self) -> Running:
        """Start it from where it stands."""
        return self._started(["--resume", str(self.run)])

    def _started(self, arguments: Sequence[str], poison: str = "") -> Running:
        (self.run / ".lock").unlink(
            missing_ok=True
        )  # Of a run that failed: a new one says it holds.
        launch = ["launch", "--processes", str(self.processes), "--", "train", *arguments]
        paths = (str(self.root / "site"), os.environ.get("PYTHONPATH", ""))
        more = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        if poison:
            more[_POISON] = f"{poison}:{self.root / 'struck'}"
        return Running(self, [sys.executable, "-P", "-m", "resnet_spec", *launch], more)


class Running:
    """A run under way, told from all other processes by a mark in its environment."""

    def __init__(self, place: Place, command: Sequence[str], more: Mapping[str, str]) -> None:
        self.place, self._mark = place, uuid.uuid4().hex
        self.started = time.monotonic()
        self._popen = subprocess.Popen(
            command,
            cwd=place.root,
            env={**os.environ, **more, _MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill(self.left())
        self._popen.communicate()

    def is_over(self) -> bool:
        return self._popen.poll() is not None

    def wait_for_folder(self) -> float:
        """Return the seconds until the run holds its folder: from then on it trains."""
        while not (self.place.run / ".lock").exists() and not self.is_over():
            time.sleep(_LOOK_S)
        return time.monotonic() - self.started

    def rank(self, rank: int) -> int:
        """Return the process of a rank; what that has started itself has its environment, too."""
        for process, told in self._marked():
            if told.get("RANK") == str(rank) and _parent(process) == self._popen.pid:
                return process
        raise ProcessLookupError(f"rank {rank} is not there")

    def left(self) -> list[int]:
        """Return the processes of the run that are there."""
        return [process for process, _ in self._marked()]

    def _marked(self) -> Iterator[tuple[int, dict[str, str]]]:
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (entry / "environ").read_text("utf-8", "replace").split("\0")
                told = {word.partition("=")[0]: word.partition("=")[2] for word in words}
                if told.get(_MARK) == self._mark:
                    yield int(entry.name), told

    def ended(self, seconds: float) -> tuple[int | None, list[str], list[str], int]:
        """Return status, lines said and lines of error, and how many processes are left behind.

        Status None: it was still there after `seconds`. Nothing is there any more then.
        """
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        status = self._popen.poll()
        until = time.monotonic() + 2.0
        while status is not None and self.left() and time.monotonic() < until:
            time.sleep(0.05)
        left = self.left()
        self._kill(left)
        said, errors = self._popen.communicate()
        behind = 0 if status is None else len(left)
        return status, said.splitlines(), errors.splitlines(), behind

    def _kill(self, processes: Sequence[int]) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _parent(process: int) -> int:
    # proc(5): "pid (name) state ppid ..."; the name may hold anything.
    text = Path(f"/proc/{process}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


# --- The faults -----------------------------------------------------------------------------------


class Missed(Exception):
    """The run ended before it could be struck."""


@dataclass
class Moment:
    """One time that a run is made to fail. share: how far into the run, 0..1."""

    place: Place
    running: Running
    rank: int
    share: float
    seconds: float
    draw: random.Random
    undo: list[Callable[[], object]] = field(default_factory=list)

    def wait(self) -> None:
        """Wait until the moment has come. Raises Missed where the run is over by then."""
        self.running.wait_for_folder()
        time.sleep(self.share * self.seconds)
        if self.running.is_over():
            raise Missed

    def wait_for(self, sign: Callable[[], bool]) -> None:
        """Wait for something to be seen on disk. Raises Missed where the run ends before."""
        while not sign():
            if self.running.is_over():
                raise Missed
            time.sleep(0.0002)

    def send(self, number: int) -> None:
        try:
            os.kill(self.running.rank(self.rank), number)
        except ProcessLookupError:
            raise Missed from None


def kill(it: Moment) -> None:
    it.wait()
    it.send(signal.SIGKILL)


def stop(it: Moment) -> None:
    it.wait()
    it.send(signal.SIGSTOP)


def kill_writing(it: Moment) -> None:
    """Kill the process that writes while a checkpoint is on its way to its name."""
    it.running.wait_for_folder()
    process = it.running.rank(0)
    for _ in range(it.draw.randrange(2 * EPOCHS) + 1):  # The best ones are written, too.
        it.wait_for(lambda: not _half_files(it.place.run))
        it.wait_for(lambda: bool(_half_files(it.place.run)))
    time.sleep(it.draw.random() * 0.003)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def corrupt(it: Moment) -> None:
    """Kill a process, and then change a byte of the last checkpoint, or cut its end off."""
    it.wait_for(lambda: (it.place.run / PREVIOUS).exists())
    it.send(signal.SIGKILL)

    def damage() -> None:
        path = it.place.run / LAST
        data = bytearray(path.read_bytes())
        at = it.draw.randrange(len(data))
        if it.draw.random() < 0.5:
            data[at] ^= 1 << it.draw.randrange(8)
        else:
            del data[at:]
        path.write_bytes(data)

    it.undo.append(damage)


def fill_disk(it: Moment) -> None:
    """Fill the disk; where there is none of our own, files of rank 0 grow no further."""
    it.wait()
    if it.place.disk is None:
        with suppress(ProcessLookupError):
            resource.prlimit(it.running.rank(0), resource.RLIMIT_FSIZE, (0, 0))
        return
    ballast = it.place.disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    it.undo.append(ballast.unlink)


def read_only(it: Moment) -> None:
    """Let nothing be written to the run's folder; root is not kept out by a mode."""
    it.wait()
    run = str(it.place.run)
    if os.geteuid():
        it.place.run.chmod(0o555)
        it.undo.append(lambda: it.place.run.chmod(0o755))
        return
    subprocess.run(["chattr", "+i", run], check=True, capture_output=True)
    it.undo.append(lambda: subprocess.run(["chattr", "-i", run], check=True))


def drop_data(it: Moment) -> None:
    it.wait()
    away = it.place.data.with_name("away")
    it.place.data.rename(away)
    it.undo.append(lambda: away.rename(it.place.data))


def not_a_number(it: Moment) -> None:
    """Wait for what `Place.begin` was told to poison."""
    struck = it.place.root / "struck"
    it.wait_for(struck.exists)
    it.undo.append(struck.unlink)


class Kind(NamedTuple):
    """A way to fail.

    strike: does it. line: what the one line of error has to match; {rank} is the rank. each_rank:
    whether each process is struck at so many moments, or one at each moment. back: whether the run
    goes on from the checkpoint before the last. halves: whether a file that was being written may
    be left until the run goes on.
    """

    about: str
    strike: Callable[[Moment], None]
    line: str
    each_rank: bool = False
    back: bool = False
    halves: bool = False


_KILLED = r"rank {rank}: was ended by SIGKILL .*"
_STOPPED = r"rank {rank}: has been stopped for 10 s; .*"  # It is killed then.
_REFUSED = "No space left on device|File too large"
_NAN = (
    r"rank {rank}: has dropout factors that are not finite, and the loss became nan at step \d+; .*"
)
_KEPT_OUT = "Read-only file system|Operation not permitted|Permission denied"
KINDS = {
    "kill": Kind("SIGKILL", kill, _KILLED, each_rank=True, halves=True),
    "write": Kind("SIGKILL while a checkpoint is written", kill_writing, _KILLED, halves=True),
    "stop": Kind("SIGSTOP", stop, _STOPPED, each_rank=True, halves=True),
    "full": Kind("the disk is full", fill_disk, rf"rank 0: .*cannot be written: ({_REFUSED})"),
    "readonly": Kind(
        "the folder is read-only",
        read_only,
        rf"rank 0: .*cannot be written: ({_KEPT_OUT})",
        halves=True,
    ),
    "drop": Kind("the data is gone", drop_data, r"rank \d+: .*cannot be read .*"),
    "nan": Kind("NaN in one process", not_a_number, _NAN),
    "corrupt": Kind("the last checkpoint is damaged", corrupt, _KILLED, back=True, halves=True),
}


def line_of(kind: Kind, rank: int) -> re.Pattern[str]:
    """Return what the one line of error has to be."""
    return re.compile(rf"resnet-spec: error: {kind.line.replace('{rank}', str(rank))}")


# --- What is on disk ------------------------------------------------------------------------------


def _half_files(run: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return [path.name for path in run.glob(".*.tmp")]
    return []


def half_files(run: Path) -> int:
    return len(_half_files(run))


def step_of(path: Path) -> int:
    """Return the step that a checkpoint stands at; 0 where there is none."""
    header = checkpoint_header(path) or {}
    return int(header.get("progress", {}).get("step", 0))


def seen_on_disk(run: Path) -> str:
    """Return what the run was at, by what is there."""
    if _half_files(run):
        return "writing"
    with suppress(OSError):
        lines = (run / "metrics.jsonl").read_bytes().count(b"\n")
        saved = step_of(run / LAST) // (IMAGES // BATCH)
        if lines > saved:
            return "evaluated, not saved"
        return "later steps" if lines else "first steps"
    return "first steps"


class Disk:
    """A file system in memory, of our own; `path` is None where it may not be made."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        options = ["-o", f"size={_DISK_BYTES}", "tmpfs", str(path)]
        try:
            made = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True)
            self.path = path if made.returncode == 0 else None
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EPERM):
                raise
            self.path = None

    def __enter__(self) -> Path | None:
        return self.path

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)


def clear(run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)
