"""Runs pytest in forks of a process that has imported what every test needs, but nothing of the tree.

    python -m mutating.server

Reads a request a line: `{"command": [arguments of pytest], "said": FILE, "seconds": limit}`. Answers
each with a line: pytest's exit status, or -1 where it was ended at the limit.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback

import pytest

EARLY = ("numpy", "pydantic", "rich.progress", "safetensors.numpy", "PIL.Image", "hypothesis")
MEMORY = 8 << 30
"""Bytes that a mutant's tests may hold: a size that grew must not take the machine along."""


def main() -> None:
    for name in EARLY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.startswith("resnet_spec") for name in sys.modules)
    for line in sys.stdin:
        request = json.loads(line)
        print(_status(request["command"], request["said"], request["seconds"]), flush=True)


def _status(command: list[str], said: str, seconds: float) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = 3
        try:
            status = int(pytest.main(command))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = _waited(child, seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
        return -1
    return status if status >= 0 else 1  # A signal ended it: no test passed.


def _waited(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    main()
