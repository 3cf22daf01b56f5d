"""The Flax backend's weights and slots in parts over processes, against one process."""

from __future__ import annotations

import numpy as np
import pytest
from flax_members import (
    QUICKER,
    alone,
    alone_trained,
    bytes_kept,
    evaluated,
    fresh,
    plan_of,
    recipe_of,
    shares_of,
    trained,
    weights_kept,
    without,
)
from flax_networks import RATES, assert_identical, assert_states_close, backend, reference, state_of
from several import Found, ranks_of, write

from resnet_spec.group import ALONE, Group
from resnet_spec.running.together import Together

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.xdist_group("flax_group")

STEPS = 4
EXACT = 1e-12
"""Of float64; measured: 4e-15, with four devices of one process."""
LOGS = ("loss", "correct", "count")


def take_part(rank: int, size: int, port: int, out: str) -> None:
    group = Group(rank, size, f"127.0.0.1:{port}", rank)
    members = backend.join(group)
    batches, all_batches = shares_of(group, 2, STEPS), shares_of(ALONE, 2, STEPS)
    session = fresh(group, 2, shard=True)
    found: dict[str, Found] = {"whole": trained(session, batches)}
    found["bytes"] = bytes_kept(session)
    found["weights"] = weights_kept(session, batches)
    session.load(without(found["whole"], *LOGS))
    found["evaluated"] = evaluated(session, Together(group, members))
    found["info"] = {key: np.array(session.info[key]) for key in ("processes", "sharded")}
    session.load(state_of(plan_of()))
    session.train(batches[:2], RATES[:2])
    one = reference.Session(plan_of(), recipe_of(2), precision="float64")
    two = fresh(group, 2)
    one.load(session.state())
    one.train(all_batches[2:3], RATES[2:3])
    two.load(one.state())
    two.train(batches[3:], RATES[3:STEPS])
    found["resumed"] = two.state()
    write(found, out)
    members.leave()


ranks = ranks_of("test_flax_sharded", **QUICKER)


def test_all_processes_have_all_of_the_same(ranks: list[dict[str, Found]]) -> None:
    for other in ranks[1:]:
        for name in ("whole", "evaluated", "resumed"):
            assert_identical(other[name], ranks[0][name])


def test_processes_with_parts_train_what_one_does(ranks: list[dict[str, Found]]) -> None:
    assert_states_close(ranks[0]["whole"], alone_trained(2, STEPS), EXACT)


def test_each_process_keeps_its_part(ranks: list[dict[str, Found]]) -> None:
    for rank in ranks:
        held = rank["bytes"]
        assert held["each"].tolist() == [held["whole"] // len(ranks)]
        assert str(rank["info"]["sharded"]) == "true"
        assert str(rank["info"]["processes"]) == str(len(ranks))


def test_no_whole_copy_of_the_weights_is_kept_while_steps_go_on(
    ranks: list[dict[str, Found]],
) -> None:
    for rank in ranks:
        assert 0 < rank["weights"]["held"] <= rank["weights"]["whole"] / len(ranks) * 1.1


def test_processes_evaluate_unequal_numbers_of_batches(ranks: list[dict[str, Found]]) -> None:
    session = alone(2)
    session.load(without(ranks[0]["whole"], *LOGS))
    assert_states_close(ranks[0]["evaluated"], evaluated(session, Together()), EXACT)


def test_a_run_goes_on_in_one_process_and_without_parts(ranks: list[dict[str, Found]]) -> None:
    expected = without(alone_trained(2, STEPS), *LOGS)
    assert_states_close(ranks[0]["resumed"], expected, EXACT)
