"""The MindSpore backend as one of several processes, against one, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
import pytest
import several
from mindspore_networks import backend, make_batch, same_bits, worst
from resnet_spec_mindspore.means import Mean
from resnet_spec_mindspore.scheduler import start as start_scheduler
from several import BITS, Found, found_by, free_port, ranks_of, with_gradients, write

from resnet_spec.contract import Array, Batch
from resnet_spec.data.batches import share_of
from resnet_spec.describing.spec import Spec
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.rematerialisation import rematerialised
from resnet_spec.recipe import Recipe
from resnet_spec.running.found_group import found_group
from resnet_spec.running.together import Together
from resnet_spec.session_state import FIRST_LOSS_SCALE

pytestmark = pytest.mark.xdist_group("mindspore_group")

IMAGES, STEPS, CLASSES = 16, 3, 4
RATES = np.linspace(0.1, 0.05, STEPS)
CLOSE = 1e-5
"""Relative to the greatest value of a tensor, in float32; measured: 1.5e-6, replicas 0."""
STATISTICS = ("running_mean", "running_var")
trained = partial(several.trained, rates=RATES)
evaluated = partial(several.evaluated, size=8, classes=CLASSES)


def plan_of(sync: str = "global") -> Plan:
    fields: dict[str, Any] = {
        "name": "tiny",
        "classes": CLASSES,
        "block": "basic",
        "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        "stages": [{"width": 6, "blocks": 1, "stride": 2}],
        "norm": {"sync": sync},
    }
    return lower(Spec(**fields), (8, 8))


def recipe_of(parts: int, remat: str = "none") -> Recipe:
    fields: dict[str, Any] = {"accumulate": parts, "ema": {"decay": 0.9 if parts > 1 else 0.0}}
    return Recipe(steps=STEPS, batch=IMAGES, remat=remat, **fields)


def shares_of(group: Group, parts: int) -> list[Batch]:
    plan = plan_of()
    return [share_of(make_batch(plan, seed, IMAGES), group, parts) for seed in range(STEPS)]


def fresh(group: Group, parts: int, sync: str = "global", remat: str = "none") -> Any:
    together = {} if group is ALONE else {"group": group}
    recipe = recipe_of(parts, remat)
    plan = rematerialised(plan_of(sync), recipe)
    return restarted(backend.Session(plan, recipe, **together))


def restarted(session: Any) -> Any:
    session.load(initial_state(plan_of(), 3))
    return session


def in_chunks(session: Any, batches: list[Batch]) -> Found:
    session.train(batches[:1], RATES[:1])
    session.load(session.state())
    session.train(batches[1:], RATES[1:])
    return session.state()


def take_part(rank: int, size: int, port: int, out: str) -> None:
    """Do what a process of a group does here."""
    group = Group(rank, size, f"localhost:{port}", rank)
    members = backend.join(group)
    assert backend.join(group) is members
    found: dict[str, Found] = {"gathered": {"": members.gather(BITS * (rank + 1))}}
    session, batches = fresh(group, 2), shares_of(group, 2)
    found["whole"] = trained(session, batches)
    found["evaluated"] = evaluated(session, Together(group, members))
    found["chunks"] = in_chunks(restarted(session), batches)
    # As many images as in a part: a graph is compiled for one size.
    part = share_of(make_batch(plan_of(), 0, IMAGES // 2), group, 1)
    found["gradients"] = with_gradients(restarted(session), part)
    with patch("resnet_spec_mindspore.group.Mean", lambda shapes, _: Mean(shapes, 1)):
        found["sums of gradients"] = with_gradients(session, part)
    replica = fresh(group, 1, "replica")
    found["statistics"] = statistics_of(trained(replica, shares_of(group, 1)[:1]))
    found["replica"] = trained(restarted(replica), shares_of(group, 1))
    ended(members, found, out)


def ended(members: Any, found: dict[str, Found], out: str) -> NoReturn:
    """End the process as a command's does: MindSpore may stumble as it is unloaded."""
    write(found, out)
    members.leave()
    members.end()
    sys.stderr.flush()
    os._exit(0)


def take_part_twice(rank: int, size: int, port: int, out: str) -> None:
    """Train, and with blocks that are computed again."""
    group = Group(rank, size, f"localhost:{port}", rank)
    members, batches = backend.join(group), shares_of(group, 2)
    kinds = {"whole": "none", "recomputed": "all"}
    found = {name: trained(fresh(group, 2, remat=it), batches) for name, it in kinds.items()}
    ended(members, found, out)


def take_part_wrongly(rank: int, size: int, port: int, out: str) -> None:
    """Do it with faults."""
    group = Group(rank, size, f"127.0.0.1:{port}", rank)
    members, found = backend.join(group), dict[str, Found]()
    found["statistics of its own"] = trained(fresh(group, 2, "replica"), shares_of(group, 2)[:1])
    sums = fresh(group, 1, "replica")
    sums._move.update.mean.size = 1.0
    found["sums"] = trained(sums, shares_of(group, 1))
    ended(members, found, out)


def take_part_in_float16(rank: int, size: int, port: int, out: str) -> None:
    """Take a step that overflows in the last process alone, and one that does not."""
    group = Group(rank, size, f"127.0.0.1:{port}", rank)
    members, found = backend.join(group), dict[str, Found]()
    session = backend.Session(plan_of("replica"), recipe_of(1), precision="float16", group=group)
    (batch, *_) = shares_of(group, 1)
    pixels = batch.images.astype(np.float32) / 255
    sound = replace(batch, images=pixels)
    broken = replace(batch, images=pixels + np.inf) if rank == size - 1 else sound
    for name, given in (("overflow", broken), ("sound", sound)):
        found[name] = trained(restarted(session), [given])
    ended(members, found, out)


ranks = ranks_of("test_mindspore_group")


@cache
def alone(parts: int) -> Any:
    return fresh(ALONE, parts)


@cache
def alone_trained(parts: int, steps: int = STEPS) -> Found:
    return trained(restarted(alone(parts)), shares_of(ALONE, parts)[:steps])


def trained_of(found: Mapping[str, Array]) -> Found:
    """Return weights, velocities and the log; without averages and what norms have counted."""
    moved = {name: array for name, array in found.items() if not name.startswith("ema/")}
    return without(moved, *STATISTICS)


def without(found: Mapping[str, Array], *ends: str) -> Found:
    return {name: array for name, array in found.items() if not name.endswith(ends)}


def statistics_of(found: Mapping[str, Array]) -> Found:
    return {name: array for name, array in found.items() if name.endswith(STATISTICS)}


def test_all_processes_have_the_same(ranks: list[dict[str, Found]]) -> None:
    for other in ranks[1:]:
        assert other.keys() == ranks[0].keys()
        for name, found in other.items():
            assert same_bits(found, ranks[0][name]), name


def test_several_processes_train_what_one_does(ranks: list[dict[str, Found]]) -> None:
    assert worst(ranks[0]["whole"], alone_trained(2)) < CLOSE
    assert ranks[0]["whole"]["log/count"].tolist() == [IMAGES] * STEPS


def test_chunks_and_resuming_change_no_bit(ranks: list[dict[str, Found]]) -> None:
    whole = without(ranks[0]["whole"], "/loss", "/correct", "/count")
    assert same_bits(ranks[0]["chunks"], whole)


@pytest.mark.thorough
def test_blocks_computed_again_change_no_bit(tmp_path: Path) -> None:
    """Quickly they are in one process, in test_mindspore_remat.py."""
    found = found_by("test_mindspore_group", "take_part_twice", 2, tmp_path)[0]
    assert same_bits(found["recomputed"], found["whole"])


def test_gradients_are_those_of_the_whole_batch(ranks: list[dict[str, Found]]) -> None:
    expected = with_gradients(restarted(alone(2)), make_batch(plan_of(), 0, IMAGES // 2))
    assert worst(ranks[0]["gradients"], expected) < CLOSE
    assert worst(ranks[0]["sums of gradients"], expected) > 100 * CLOSE


def test_replicas_train_as_parts_do(ranks: list[dict[str, Found]]) -> None:
    got, expected = ranks[0]["replica"], alone_trained(len(ranks))
    assert worst(trained_of(got), trained_of(expected)) < CLOSE


def test_running_statistics_of_replicas_are_their_mean(ranks: list[dict[str, Found]]) -> None:
    each = [
        trained(restarted(alone(1)), shares_of(Group(rank, len(ranks)), 1)[:1])
        for rank in range(len(ranks))
    ]
    got = ranks[0]["statistics"]
    expected = {name: np.mean([one[name] for one in each], axis=0) for name in got}
    assert worst(got, expected) < CLOSE
    assert worst(got, {name: each[0][name] for name in got}) > 100 * CLOSE


def test_an_evaluation_is_that_of_one_process(ranks: list[dict[str, Found]]) -> None:
    session = alone(2)
    session.load(without(ranks[0]["whole"], "/loss", "/correct", "/count"))
    assert same_bits(ranks[0]["evaluated"], evaluated(session, Together()))


def test_what_is_gathered_has_its_bits(ranks: list[dict[str, Found]]) -> None:
    expected = np.stack([BITS * (rank + 1) for rank in range(len(ranks))])
    assert ranks[0]["gathered"][""].tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_wrong_means_are_seen(tmp_path: Path) -> None:
    found = found_by("test_mindspore_group", "take_part_wrongly", 2, tmp_path)[0]
    assert worst(found["statistics of its own"], alone_trained(2, 1)) > 100 * CLOSE
    assert worst(*(trained_of(one) for one in (found["sums"], alone_trained(2)))) > 100 * CLOSE


@pytest.mark.thorough
def test_an_overflow_in_one_process_is_skipped_by_all(tmp_path: Path) -> None:
    found = found_by("test_mindspore_group", "take_part_in_float16", 2, tmp_path)
    first = initial_state(plan_of(), 3)
    for one in found:
        weights = {name: one["overflow"][name] for name in plan_of().trainable}
        assert same_bits(weights, {name: first[name] for name in weights})
        assert float(one["overflow"]["loss_scale/scale"]) == FIRST_LOSS_SCALE["scale"] / 2
        moved = {name: one["sound"][name] for name in weights}
        assert all((moved[name] != first[name]).any() for name in weights)
        assert float(one["sound"]["loss_scale/scale"]) == FIRST_LOSS_SCALE["scale"]
    assert same_bits(found[0]["sound"], found[1]["sound"])


def test_the_scheduler_goes_with_who_started_it() -> None:
    with start_scheduler({**os.environ, "MS_SCHED_PORT": str(free_port())}) as watch:
        children = Path(f"/proc/{watch.pid}/task/{watch.pid}/children")
        served = within(10, lambda: [int(pid) for pid in children.read_text().split()])
        assert watch.stdin is not None
        watch.stdin.close()
        assert watch.wait(10) == -signal.SIGKILL % 256
    assert not any(Path(f"/proc/{pid}").exists() for pid in served)


def test_loading_it_leaves_no_error_that_nobody_caught() -> None:
    """A program with one says no goodbye, and its scheduler ends before the others have left it."""
    code = "import sys, resnet_spec_mindspore; print([n for n in vars(sys) if n[:5] == 'last_'])"
    ((status, said),) = several.ended([several.start(["-c", code], os.environ)], 100)
    assert (status, said) == (0, "[]\n")


def within(seconds: float, ask: Any) -> Any:
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_the_workers_of_msrun_are_known() -> None:
    words = {
        "MS_ROLE": "MS_WORKER",
        "MS_WORKER_NUM": "2",
        "MS_NODE_ID": "1",
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": "8118",
        "DEVICE_ID": "1",
    }
    assert found_group(words) == Group(1, 2, "127.0.0.1:8118", 1, "msrun")
    scheduler = {**words, "MS_ROLE": "MS_SCHED"}
    del scheduler["MS_NODE_ID"], scheduler["DEVICE_ID"]
    assert found_group(scheduler) == Group(0, 2, "127.0.0.1:8118", served_by="msrun")
