"""Gives tests that ask for a `pair` the whole matrix, one worker per case.

A case's sessions are compiled once and shared by every level's tests (`--dist loadgroup`), and so
is what a file of tests compiles for several of them: it has a group of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec

import pytest

# Set for its workers by pytest-xdist, and by some shells: tables are as wide as in a pipe.
os.environ.pop("COLUMNS", None)
# Some shells forbid Python to keep what it compiles, which hundreds of processes would do anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker per core: two threads each would wait for one another, up to a hundred times longer.
    # NumPy reads it as it is imported, so that what imports NumPy has to come after it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Compiled quicker so; scripts/parity_matrix.py compares what is optimised.
    quick = ["--xla_backend_optimization_level=0"]
    # XLA ends a process where it does not know a flag: one for a JAX that is known to have it.
    if find_spec("jax") and version("jax").startswith("0.10."):
        quick.append("--xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(quick))

from serving import server  # noqa: F401  # pyright: ignore[reportUnusedImport]
from tiny_run import here  # noqa: F401  # pyright: ignore[reportUnusedImport]

_compiled = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of a run share what XLA compiles, in a folder that goes with the run."""
    if "PYTEST_XDIST_WORKER" in os.environ or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = config.stash[_compiled] = tempfile.TemporaryDirectory(prefix="resnet-spec-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(_compiled, None):
        del os.environ["JAX_COMPILATION_CACHE_DIR"]
        folder.cleanup()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pair" not in metafunc.fixturenames:
        return
    from pairs import cell, pairs  # Imports the frameworks, which the other tests do without.

    metafunc.parametrize("pair", [cell(pair) for pair in pairs()], ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups first: what one worker has to run alone must not be what comes last."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
