"""Processes of a group, started for a test: the same program in each, told which of them it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Array, Batch, State
from resnet_spec.data.dataset import Dataset
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.together import Together

Found = dict[str, Array]
HERE = Path(__file__).parent


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environments(size: int) -> list[dict[str, str]]:
    """Return the environment of each of `size` processes, as a launcher gives it."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start `python COMMAND`; all that it says comes by one pipe."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(popens: Sequence[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str]]:
    """Return each one's status and what it said; all are gone then."""
    try:
        said = [popen.communicate(timeout=seconds)[0] for popen in popens]
    finally:
        for popen in popens:
            popen.kill()
            popen.wait()
    return [(popen.returncode, text) for popen, text in zip(popens, said, strict=True)]


def run_several(size: int, command: Sequence[str], seconds: float = 120) -> list[tuple[int, str]]:
    """Run `python COMMAND` in `size` processes; return each one's status and what it said."""
    return ended([start(command, told) for told in environments(size)], seconds)


def calling(module: str, call: str, **more: str) -> subprocess.Popen[str]:
    """Start a process that calls a function of a test module; warnings are errors there, too."""
    paths = [str(HERE / "backends"), str(HERE), *sys.path]
    given = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}
    text = f"import {module}; {module}.{call}"
    return start(["-W", "error", "-c", text], {**os.environ, **given})


def found_by(
    module: str, function: str, size: int, folder: Path, **more: str
) -> list[dict[str, Found]]:
    """Return what `module.function(rank, size, port, file)` leaves in its file, by rank."""
    port, files = free_port(), [folder / f"{rank}.npz" for rank in range(size)]
    calls = [f"{function}({rank}, {size}, {port}, {str(f)!r})" for rank, f in enumerate(files)]
    for status, text in ended([calling(module, call, **more) for call in calls], 200):
        assert status == 0, f"status {status}: {text}"
    return [_read(file) for file in files]


def _read(path: Path) -> dict[str, Found]:
    found: dict[str, Found] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays:
            name, _, inner = key.partition(":")
            found.setdefault(name, {})[inner] = arrays[key]
    return found


# --- What every group's test does -----------------------------------------------------------------

BITS = np.array([np.pi, -0.0, 5e-324, np.inf, 1 / 3, 2.0**53 + 2])
"""What is to be gathered bit for bit."""


def ranks_of(module: str, **more: str) -> Any:
    """Return the fixture of what each process of `module.take_part` found, by rank."""

    @pytest.fixture(
        scope="module",
        params=[2, pytest.param(4, marks=pytest.mark.thorough)],
        ids="{} processes".format,
    )
    def ranks(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> list[dict[str, Found]]:
        folder = tmp_path_factory.mktemp("ranks")
        return found_by(module, "take_part", request.param, folder, **more)

    return ranks


def write(found: Mapping[str, Found], out: str) -> None:
    """Leave what a process found in a file."""
    np.savez(out, allow_pickle=False, **flat(found))


def flat(found: Mapping[str, Found]) -> Found:
    """Return all arrays by `name:key`."""
    return {f"{name}:{key}": array for name, part in found.items() for key, array in part.items()}


def trained(session: Any, batches: Sequence[Batch], rates: Array) -> Found:
    """Train a step per batch; return the state and the log."""
    log = session.train(iter(batches), rates[: len(batches)])
    state: State = session.state()
    return {**state, "log/loss": log.loss, "log/correct": log.correct, "log/count": log.count}


def with_gradients(session: Any, batch: Batch) -> Found:
    """Return the loss and the gradients."""
    loss, gradients = session.gradients(batch)
    return {"loss": np.array(loss), **gradients}


def evaluated(session: Any, together: Together, size: int, classes: int) -> Found:
    """Evaluate 19 images in batches of 4: five of them, not as many in each process."""
    draw = np.random.default_rng(5)
    images = draw.integers(0, 256, (19, size, size, 3), dtype=np.uint8)
    split = images, draw.integers(0, classes, len(images))
    data = Dataset.from_arrays("drawn", split, split, classes=tuple("abcdefgh"[:classes]))
    result = evaluate(session, data.test, 4, together=together)
    return {"loss": np.array(result.loss), "margins": result.margins, "found": result.predictions}
