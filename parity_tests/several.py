"""Processes of a group, started for a test: the same program in each, told which of them it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnet_spec.contract import Batch
from resnet_spec.group import Group

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


def run_several(size: int, command: Sequence[str], seconds: float = 120) -> list[tuple[int, str]]:
    """Run `python COMMAND` in `size` processes; return each one's status and what it said."""
    popens = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments(size)
    ]
    try:
        said = [popen.communicate(timeout=seconds)[0] for popen in popens]
    finally:
        for popen in popens:
            popen.kill()
            popen.wait()
    return [(popen.returncode, text) for popen, text in zip(popens, said, strict=True)]


def share_of(batch: Batch, group: Group, parts: int = 1) -> Batch:
    """Return the rows of a whole batch that are this process's."""
    rows = np.concatenate([np.arange(len(batch))[cut] for cut in group.shares(len(batch), parts)])
    noise: Mapping[str, np.ndarray] = {k: factors[rows] for k, factors in batch.noise.items()}
    return replace(
        batch,
        images=batch.images[rows],
        labels=batch.labels[rows],
        indices=batch.indices[rows],
        noise=noise,
    )
