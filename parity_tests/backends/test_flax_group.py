"""The Flax backend as one of several processes, against one process, in processes of their own."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_members import (
    EXACT,
    IMAGES,
    QUICKER,
    STATISTICS,
    STEPS,
    alone,
    alone_trained,
    evaluated,
    fresh,
    plan_of,
    recipe_of,
    shares_of,
    statistics_of,
    trained,
    without,
)
from flax_networks import (
    RATES,
    assert_identical,
    assert_states_close,
    backend,
    batch_of,
    reference,
    state_of,
)
from several import BITS, Found, calling, ended, free_port, ranks_of, with_gradients, write

from resnet_spec.contract import Batch
from resnet_spec.errors import BackendError, LostError
from resnet_spec.group import Group
from resnet_spec.running import launching
from resnet_spec.running.together import Together

jax = pytest.importorskip("jax")
group_module: Any = importlib.import_module("resnet_spec_flax.group")
pytestmark = pytest.mark.xdist_group("flax_group")

# What a process of a group does.


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
    found["statistics of its own"] = trained(fresh(group, 2, "replica"), batches)
    with patch.object(jax.lax, "pmean", jax.lax.psum):
        found["sums"] = trained(fresh(group, 1, "replica"), batches_in_one[:1])
    write(found, out)
    members.leave()


# Processes are started once for all tests.


def start(call: str) -> subprocess.Popen[str]:
    return calling("test_flax_group", call, **QUICKER)


ranks = ranks_of("test_flax_group", **QUICKER)


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
    session = reference.Session(plan_of(), recipe_of(2), precision="float64")
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


def train_until_killed(rank: int, last: int, address: str) -> None:
    group = Group(rank, 2, address)
    backend.join(group)
    session, batches = fresh(group, 1), shares_of(group, 1)
    for i in range(4):
        if i == 2 and rank == last:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            session.train(iter(batches[:1]), RATES[:1])
        except BackendError as error:
            sys.exit(str(error))


def killed(last: int) -> tuple[int, str]:
    """Return the status and the words of the process that is left over."""
    address = f"127.0.0.1:{free_port()}"
    calls = [f"train_until_killed({rank}, {last}, {address!r})" for rank in (0, 1)]
    done = ended([start(call) for call in calls], 60)
    assert done[last][0] == -signal.SIGKILL, done[last]
    return done[1 - last]


def test_a_process_that_is_gone_is_told_in_one_line() -> None:
    status, text = killed(1)
    assert status == 3
    assert text.startswith("rank 0: another process is gone: ") and text.count("\n") == 1


@pytest.mark.thorough
def test_nobody_waits_for_rank_0_when_it_is_gone() -> None:
    # JAX may end the process by a signal, before its message has come to nothing.
    status, text = killed(0)
    assert status in (3, -signal.SIGABRT)
    assert "gone" in text or "another task died" in text


def test_a_gpu_of_its_own() -> None:
    own = group_module._own_gpu
    assert [own(place, {}) for place in (0, 3)] == [0, 3]
    assert [own(place, {"CUDA_VISIBLE_DEVICES": "2"}) for place in (0, 3)] == [0, 0]
    assert [own(place, {"CUDA_VISIBLE_DEVICES": "4,5"}) for place in (0, 1)] == [0, 1]


def test_a_gather_that_meets_nobody_is_one_line() -> None:
    """JAX raises what it also raises for arrays that do not fit, which is none of it."""
    closed = "UNKNOWN: Gloo AllGather failed: [pair.cc:547] Connection closed by peer [127.0.0.1]:1"
    with (
        pytest.raises(LostError, match="rank 1: another process is gone: UNKNOWN: Gloo AllGather"),
        group_module.answering(Group(1, 2)),
    ):
        raise ValueError(closed)
    with pytest.raises(ValueError, match="two shapes"), group_module.answering(Group(1, 2)):
        raise ValueError("two shapes")


def test_a_stopped_process_is_named_before_jax_ends_the_others() -> None:
    assert group_module._HEARTBEAT_S > launching._STOPPED_S + 5


def test_what_jax_says_in_c_is_not_heard_and_python_is() -> None:
    program = (
        "import os, sys; from resnet_spec_flax import group; group._keep_stderr_for_python(); "
        "os.write(2, b'from C'); print('from Python', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "from Python\n")


def test_wrong_means_are_seen(ranks: list[dict[str, Found]]) -> None:
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        assert_states_close(ranks[0]["statistics of its own"], alone_trained(2), EXACT)
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        weights = without(alone_trained(len(ranks), 1), *STATISTICS)
        assert_states_close(without(ranks[0]["sums"], *STATISTICS), weights, EXACT)
