"""A contestant's process, seen from outside: started, asked line by line, and ended for certain."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from resnet_spec.files.json_text import json_text
from resnet_spec.running.child_processes import command_of, environment_with, signal_name

MODULE = "resnet_spec.benchmarking.worker"
_LAST_WORD_S = 5.0


class FailedError(Exception):
    """A contestant that is out: its one line says why."""


class WorkerProcess:
    """A process that answers lines of JSON. On leaving it is ended, whatever it is doing."""

    def __init__(self, threads: int, module: str = MODULE, arguments: Sequence[str] = ()) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.began = time.perf_counter()
        # A session of its own: Ctrl-C ends it through us, once, and not in the middle of a line.
        self._popen = subprocess.Popen(
            command_of(module, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=environment_with(threads),
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._popen.pid

    def ask(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line and return the answer to it. Raises FailedError where there is none."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        with suppress(BrokenPipeError):  # How it ended is told below.
            self._popen.stdin.write(json_text(told) + "\n")
            self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        if not line:
            raise FailedError(self._ending())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise FailedError(str(answer["failed"]))
        return answer

    def close(self) -> None:
        """End the process, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout, self._words):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _ending(self) -> str:
        """Return how a process ended that said nothing, with the last line of its error stream."""
        try:
            status = self._popen.wait(_LAST_WORD_S)
        except subprocess.TimeoutExpired:
            return "its process closed its output"
        if status < 0:
            return f"its process was ended by {signal_name(-status)}"
        self._words.seek(0)
        text = self._words.read().decode("utf-8", "replace")
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return f"its process ended with status {status}: {said[-1] if said else 'no word'}"
