"""The Flax backend as one of several processes, against one process, in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_networks import (
    CASES,
    CLASSES,
    RATES,
    RECIPE,
    assert_identical,
    assert_states_close,
    backend,
    batch_of,
    reference,
    state_of,
)

from resnet_spec.contract import Array, Batch, State
from resnet_spec.data.dataset import Dataset
from resnet_spec.describing.spec import Spec
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.together import Together

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.xdist_group("flax_group")

STEPS = 3
IMAGES = 8
EXACT = 2e-13
"""Of float64; measured: 1.3e-14."""
Found = dict[str, Array]


def plan_of(sync: str = "global") -> Plan:
    fields, size = CASES["tiny"]
    return lower(Spec(classes=CLASSES, norm={"sync": sync}, **fields), size)


def recipe_of(parts: int) -> Recipe:
    return RECIPE.model_copy(update={"batch": IMAGES, "accumulate": parts})


def share_of(batch: Batch, group: Group, parts: int) -> Batch:
    rows = np.concatenate([np.arange(len(batch))[cut] for cut in group.shares(len(batch), parts)])
    noise = {name: factors[rows] for name, factors in batch.noise.items()}
    return Batch(batch.images[rows], batch.labels[rows], batch.indices[rows], noise=noise)


def shares_of(group: Group, parts: int) -> list[Batch]:
    plan = plan_of()
    return [share_of(batch_of(plan, seed, IMAGES), group, parts) for seed in range(STEPS)]


def fresh(group: Group, parts: int, sync: str = "global", precision: str = "float64") -> Any:
    together = {} if group is ALONE else {"group": group}
    plan, recipe = plan_of(sync), recipe_of(parts)
    session = backend.Session(plan, recipe, device="cpu", precision=precision, **together)
    session.load(state_of(plan))
    return session


def trained(session: Any, batches: list[Batch]) -> Found:
    log = session.train(iter(batches), RATES[: len(batches)])
    state: State = session.state()
    return {**state, "log/loss": log.loss, "log/correct": log.correct, "log/count": log.count}


def data() -> Dataset:
    draw = np.random.default_rng(5)
    images = draw.integers(0, 256, (19, 8, 8, 3), dtype=np.uint8)
    split = images, draw.integers(0, CLASSES, len(images))
    return Dataset.from_arrays("drawn", split, split, classes=tuple("abcd"))


def evaluated(session: Any, together: Together) -> Found:
    """Evaluate in batches of 4, five of them: not as many in each process."""
    result = evaluate(session, data().test, 4, together=together)
    return {"loss": np.array(result.loss), "margins": result.margins}


STATISTICS = ("running_mean", "running_var")


def statistics_of(found: Mapping[str, Array]) -> Found:
    return {name: array for name, array in found.items() if name.endswith(STATISTICS)}


def with_gradients(session: Any, batch: Batch) -> Found:
    loss, gradients = session.gradients(batch)
    return {"loss": np.array(loss), **gradients}


# What a process of a group does.

BITS = np.array([np.pi, -0.0, 5e-324, np.inf, 1 / 3, 2.0**53 + 2])


def in_chunks(session: Any, batches: list[Batch]) -> Found:
    session.load(state_of(plan_of()))
    session.train(batches[:1], RATES[:1])
    session.load(session.state())
    session.train(batches[1:], RATES[1:STEPS])
    return session.state()


def take_part(rank: int, size: int, port: int, out: str) -> None:
    group = Group(rank, size, f"127.0.0.1:{port}", rank)
    members = backend.join(group)
    found: dict[str, Found] = {"gathered": {"": members.gather(BITS * (rank + 1))}}
    session, batches = fresh(group, 2), shares_of(group, 2)
    found["whole"] = trained(session, batches)
    found["evaluated"] = evaluated(session, Together(group, members))
    found["chunks"] = in_chunks(session, batches)
    session.load(state_of(plan_of()))
    batches_in_one = shares_of(group, 1)
    found["gradients"] = with_gradients(session, batches_in_one[0])
    replica = fresh(group, 1, "replica")
    found["statistics"] = statistics_of(trained(replica, batches_in_one[:1]))
    replica.load(state_of(plan_of()))
    found["replica"] = trained(replica, batches_in_one)
    if size == 2:
        found["statistics of its own"] = trained(fresh(group, 2, "replica"), batches)
        with patch.object(jax.lax, "pmean", jax.lax.psum):
            found["sums"] = trained(fresh(group, 1, "replica"), batches_in_one)
    flat = {f"{name}:{key}": found[name][key] for name in found for key in found[name]}
    np.savez(out, allow_pickle=False, **flat)
    members.leave()


# Processes are started once for all tests.


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(call: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *sys.path]
    given = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    # Compiled quicker so.
    given["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
    text = f"import test_flax_group; test_flax_group.{call}"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text],
        env={**os.environ, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(processes: list[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str]]:
    """Return the status and the words of each; all are gone then."""
    try:
        said = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@cache
def run_of(size: int, folder: Path) -> list[dict[str, Found]]:
    port = free_port()
    outs = [folder / f"{rank}.npz" for rank in range(size)]
    calls = [f"take_part({rank}, {size}, {port}, {str(out)!r})" for rank, out in enumerate(outs)]
    for status, text in ended([start(call) for call in calls], 200):
        assert status == 0, text
    return [read(out) for out in outs]


def read(path: Path) -> dict[str, Found]:
    found: dict[str, Found] = {}
    with np.load(path) as arrays:
        for key in arrays:
            name, _, inner = key.partition(":")
            found.setdefault(name, {})[inner] = arrays[key]
    return found


@pytest.fixture(
    scope="module",
    params=[2, pytest.param(4, marks=pytest.mark.thorough)],
    ids="{} processes".format,
)
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Found]]:
    """What each process found."""
    return run_of(request.param, tmp_path_factory.mktemp("ranks"))


@cache
def alone(parts: int) -> Any:
    return fresh(ALONE, parts)


@cache
def alone_trained(parts: int) -> Found:
    session = alone(parts)
    session.load(state_of(plan_of()))
    return trained(session, shares_of(ALONE, parts))


def without(found: Mapping[str, Array], *ends: str) -> Found:
    return {name: array for name, array in found.items() if not name.endswith(ends)}


def test_all_processes_have_the_same(ranks: list[dict[str, Found]]) -> None:
    for other in ranks[1:]:
        assert other.keys() == ranks[0].keys()
        for name, found in other.items():
            assert_identical(found, ranks[0][name])


def test_several_processes_train_what_one_does(ranks: list[dict[str, Found]]) -> None:
    assert_states_close(ranks[0]["whole"], alone_trained(2), EXACT)
    assert ranks[0]["whole"]["log/count"].tolist() == [IMAGES] * STEPS


def test_chunks_and_resuming_change_no_bit(ranks: list[dict[str, Found]]) -> None:
    assert_identical(ranks[0]["chunks"], without(ranks[0]["whole"], "loss", "correct", "count"))


def test_gradients_are_those_of_the_whole_batch(ranks: list[dict[str, Found]]) -> None:
    session = alone(2)
    session.load(state_of(plan_of()))
    expected = with_gradients(session, batch_of(plan_of(), 0, IMAGES))
    assert_states_close(ranks[0]["gradients"], expected, EXACT)


def test_replicas_train_as_parts_do(ranks: list[dict[str, Found]]) -> None:
    expected = alone_trained(len(ranks))
    got = ranks[0]["replica"]
    assert_states_close(without(got, *STATISTICS), without(expected, *STATISTICS), EXACT)


def test_running_statistics_of_replicas_are_their_mean(ranks: list[dict[str, Found]]) -> None:
    each: list[Found] = []
    for rank in range(len(ranks)):
        session = reference.Session(plan_of(), recipe_of(1), precision="float64")
        session.load(state_of(plan_of()))
        each.append(trained(session, shares_of(Group(rank, len(ranks)), 1)[:1]))
    got = ranks[0]["statistics"]
    expected = {name: np.mean([one[name] for one in each], axis=0) for name in got}
    assert_states_close(got, expected, EXACT)


def test_an_evaluation_is_that_of_one_process(ranks: list[dict[str, Found]]) -> None:
    session = alone(2)
    session.load(without(ranks[0]["whole"], "loss", "correct", "count"))
    assert_states_close(ranks[0]["evaluated"], evaluated(session, Together()), EXACT)


def test_what_is_gathered_has_its_bits(ranks: list[dict[str, Found]]) -> None:
    expected = np.stack([BITS * (rank + 1) for rank in range(len(ranks))])
    assert ranks[0]["gathered"][""].tobytes() == expected.tobytes()


def test_wrong_means_are_seen(ranks: list[dict[str, Found]]) -> None:
    if len(ranks) > 2:
        pytest.skip("two processes tell")
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        assert_states_close(ranks[0]["statistics of its own"], alone_trained(2), EXACT)
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        expected = without(alone_trained(2), *STATISTICS)
        assert_states_close(without(ranks[0]["sums"], *STATISTICS), expected, EXACT)
