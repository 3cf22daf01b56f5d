"""The torch backend as one of several processes, against one process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from several import BITS, Found, run_several

torch = pytest.importorskip("torch")

from torch_member import alone, setup_of  # noqa: E402

from resnet_spec.session_state import FIRST_LOSS_SCALE  # noqa: E402

pytestmark = pytest.mark.xdist_group("torch_group")

MEMBER = Path(__file__).with_name("torch_member.py")
EXACT = 1e-12
"""Of float64."""
SEEN = 1e-4
"""What every planted fault exceeds."""


@pytest.fixture(scope="module")
def one() -> Found:
    return alone()


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.thorough)], ids=lambda n: f"{n}"
)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each process of a group came to, by rank."""
    out, size = tmp_path_factory.mktemp("ranks"), int(request.param)
    for status, said in run_several(size, [str(MEMBER), str(out)]):
        assert status == 0, said
        assert "Warning" not in said, said
    files = [np.load(out / f"{rank}.npz", allow_pickle=False) for rank in range(size)]
    return [{name: file[name] for name in file.files} for file in files]


def part(found: Found, name: str) -> Found:
    return {key.partition(":")[2]: it for key, it in found.items() if key.startswith(f"{name}:")}


def error(found: Found, expected: Found, leave_out: Iterable[str] = ()) -> float:
    """Return the worst max|a - b| / max|b| over arrays."""
    assert found.keys() == expected.keys() and found
    left = tuple(leave_out)
    return max(
        float(np.abs(found[name] - array).max() / (np.abs(array).max() or 1.0))
        for name, array in expected.items()
        if not (left and name.endswith(left))
    )


def test_the_state_is_that_of_one_process(ranks: list[Found], one: Found) -> None:
    for name in ("plain", "biased", "gradients"):
        assert error(part(ranks[0], name), part(one, name)) < EXACT, name


def test_every_process_has_the_same_bits(ranks: list[Found]) -> None:
    for other in ranks[1:]:
        for name in ("plain", "biased", "replica", "gradients", "evaluated", "gathered"):
            mine, yours = part(ranks[0], name), part(other, name)
            assert mine and all(np.array_equal(mine[key], yours[key]) for key in mine), name


def test_what_is_gathered_keeps_its_bits(ranks: list[Found]) -> None:
    expected = np.stack([BITS * (rank + 1) for rank in range(len(ranks))])
    assert part(ranks[0], "gathered")[""].tobytes() == expected.tobytes()


def test_an_evaluation_is_that_of_one_process_to_the_bit(ranks: list[Found], one: Found) -> None:
    mine, expected = part(ranks[0], "evaluated"), part(one, "evaluated")
    assert all(np.array_equal(mine[name], array) for name, array in expected.items())


def test_a_run_goes_on_to_the_bit(ranks: list[Found]) -> None:
    whole, chunks = part(ranks[0], "plain"), part(ranks[0], "chunks")
    for name, array in whole.items():
        if not name.startswith("log/"):
            assert np.array_equal(chunks[name], array), name


def test_replicas_are_parts_in_weights(ranks: list[Found], one: Found) -> None:
    if len(ranks) != 2:
        pytest.skip("the reference has two parts")
    statistics = ("running_mean", "running_var")
    found, expected = part(ranks[0], "replica"), part(one, "accumulated")
    assert error(found, expected, leave_out=statistics) < EXACT
    assert error(found, expected) > SEEN  # Two parts move the statistics twice, replicas once.


def test_gradients_sent_during_the_pass_are_the_same(ranks: list[Found], one: Found) -> None:
    assert error(part(ranks[0], "overlapping"), part(one, "plain")) < EXACT


def test_an_overflow_in_one_process_skips_the_step_in_all(ranks: list[Found]) -> None:
    if len(ranks) != 2:
        pytest.skip("two processes show it")
    mine, yours = (part(found, "overflow") for found in ranks)
    assert all(np.array_equal(mine[name], yours[name]) for name in mine)
    start = setup_of("plain").state["fc.weight"]
    assert np.array_equal(mine["skipped/fc.weight"], start)
    assert mine["skipped/loss_scale/scale"] == 0.5 * FIRST_LOSS_SCALE["scale"]
    assert not np.array_equal(mine["fc.weight"], start)


def test_a_process_group_of_the_program_s_own_is_taken_and_left() -> None:
    ends = run_several(2, [str(MEMBER.with_name("torch_own_group.py"))])
    rule = "rank 0 of 5: is rank {} of 2 in torch's process group; make none, or this one\n"
    assert ends == [(0, rule.format(rank)) for rank in range(2)]


@pytest.mark.parametrize(
    "fault",
    [
        "statistics of a replica",
        "a contiguous share of all parts",
        "gradients that are not sent",
        "noise of each process's own",
    ],
)
def test_a_fault_is_seen(fault: str, ranks: list[Found], one: Found) -> None:
    if len(ranks) != 2:
        pytest.skip("two processes show it")
    assert error(part(ranks[0], fault), part(one, "plain")) > SEEN
