"""One run as a process of its own: its command, its threads, its log, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from resnet_spec.comparing.cells import Cell
from resnet_spec.comparing.standing import Standing
from resnet_spec.running.child_processes import (
    command_of,
    environment_with,
    signal_name,
    threads_of_each,
)


@dataclass(frozen=True)
class Share:
    """How a machine is divided: `jobs` runs at a time, each with `threads` threads."""

    jobs: int
    threads: int

    @classmethod
    def of(cls, jobs: int, threads: int | None = None) -> Share:
        """Divide the processors that this process may use among `jobs` runs.

        threads: take so many instead. OMP_NUM_THREADS, where set, is the most that is taken.
        """
        return cls(jobs, threads_of_each(jobs) if threads is None else threads)

    def environment(self) -> dict[str, str]:
        """Return the environment of a run."""
        return environment_with(self.threads)


def arguments_of(cell: Cell, at: Standing) -> list[str]:
    """Return the arguments of `resnet-spec` that begin or go on with the run."""
    place = cell.place
    either = ["--data", cell.run.data_name, "--device", cell.device]
    if at == "partial":
        return ["train", "--resume", str(place.path), *either]
    size = [] if cell.input_size is None else ["--input-size", str(cell.input_size)]
    network = [str(place.spec), "--recipe", str(place.recipe)]
    # What an earlier try left without a checkpoint to go on from is the cell's own.
    out = ["--out", str(place.path), "--overwrite"]
    held = cell.run.held_out
    is_asked = held is not None and held.fraction is not None
    validation = ["--validation", repr(held.fraction)] if held and is_asked else []
    return ["train", *network, "--backend", cell.backend, *out, *size, *validation, *either]


@dataclass(eq=False)
class Process:
    """A run under way. Its output goes to `log.txt` in its folder, after what is there already."""

    cell: Cell
    popen: subprocess.Popen[bytes]
    log: IO[bytes]
    log_start: int

    @classmethod
    def start(cls, cell: Cell, at: Standing, share: Share, kept_open: int) -> Process:
        """Start or go on with `cell`. kept_open: a descriptor that the process holds on to.

        Raises BusyError when another run holds the folder, and OutputError.
        """
        arguments = arguments_of(cell, at)
        told = {**cell.to_dict(), "jobs": share.jobs, "threads": share.threads}
        log = cell.place.begin(cell.run.spec, cell.run.recipe, told, arguments)
        return cls(cell, _popen(arguments, log, share.environment(), kept_open), log, log.tell())

    def ask_to_stop(self) -> None:
        """Let the run write its last checkpoint and end; while it still starts, it just ends."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def error(self) -> str:
        """Return why the process failed: its last line of error, or the last one of all."""
        text = self.cell.place.log.read_bytes()[self.log_start :].decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        own = [line for line in lines if line.startswith(_ERROR)]
        told = own[-1].removeprefix(_ERROR) if own else lines[-1] if lines else "said nothing"
        status = self.popen.returncode
        return told if status >= 0 else f"ended by {signal_name(-status)}: {told}"


_ERROR = "resnet-spec: error: "


def _popen(
    arguments: list[str], log: IO[bytes], environment: Mapping[str, str], kept_open: int
) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches the run once, through us.
    return subprocess.Popen(
        command_of("resnet_spec", arguments),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        pass_fds=(kept_open,) if os.name == "posix" else (),
    )
