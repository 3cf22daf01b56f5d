"""Parameters, slots and averages in parts, one in each of several processes, against one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from several import Found, ranks_of

from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError
from resnet_spec.session_state import FIRST_LOSS_SCALE
from resnet_spec.weights.checkpoint import load_checkpoint

pytest.importorskip("torch")
member: Any = pytest.importorskip("torch_sharded_member")

pytestmark = pytest.mark.xdist_group("torch_sharded")

EXACT = 1e-12
"""Of float64; measured with 2 processes: 6e-15."""
SEEN = 1e-2
"""What every planted fault exceeds; measured: 0.5 and more."""

ranks = ranks_of("torch_sharded_member")
Ranks = list[dict[str, Found]]


@pytest.fixture(scope="module")
def one() -> dict[str, Found]:
    """What one process comes to."""
    setup, once, alone = member.setup_of("plain", 2), member.setup_of("plain"), member.ALONE
    session = member.session_of(once, alone)
    return {
        "loaded": member.session_of(setup, alone).state(),
        "plain": member.trained(setup, alone),
        "flattening": member.trained(member.flattening(), alone),
        "accumulated": member.trained(member.setup_of("replica", 2), alone),
        "gradients": member.with_gradients(session, once.batches[0]),
        "evaluated": member.evaluated(session, member.Together(), member.SIZE, once.plan.classes),
        "bfloat16": member.trained(setup, alone, "bfloat16"),
        **{kind: member.trained(member.optimised(kind), alone) for kind in member.OPTIMIZERS},
    }


def error(found: Found, expected: Found) -> float:
    """Return the worst max|a - b| / max|b| over arrays."""
    assert found.keys() <= expected.keys() and found
    return max(
        float(np.abs(array - expected[name]).max() / (np.abs(expected[name]).max() or 1.0))
        for name, array in found.items()
    )


def test_the_state_is_that_of_one_process(ranks: Ranks, one: dict[str, Found]) -> None:
    for name in ("plain", "flattening", "gradients", *member.OPTIMIZERS):
        assert ranks[0][name].keys() == one[name].keys()
        assert error(ranks[0][name], one[name]) < EXACT, name


def test_every_process_has_the_same_bits(ranks: Ranks) -> None:
    same = ("loaded", "plain", "flattening", "replica", "handed over", "gradients", "evaluated")
    for other in ranks[1:]:
        for name in same:
            mine, yours = ranks[0][name], other[name]
            assert mine and all(np.array_equal(mine[key], yours[key]) for key in mine), name


def test_what_is_loaded_comes_back_to_the_bit(ranks: Ranks, one: dict[str, Found]) -> None:
    assert list(ranks[0]["loaded"]) and ranks[0]["loaded"].keys() == one["loaded"].keys()
    for name, array in one["loaded"].items():
        assert np.array_equal(ranks[0]["loaded"][name], array), name


def test_each_process_has_a_part_of_all_that_is_trained(ranks: Ranks) -> None:
    for kind in ("parameters", "momentum", "ema"):
        here, whole = zip(*(found["held"][kind] for found in ranks), strict=True)
        assert sum(here) == whole[0] > 0, kind
        # Rows are not shared out by halves where there are five, as in the classifier.
        assert max(here) < 1.2 * whole[0] / len(ranks), kind
    assert str(ranks[0]["info"]["sharded"]) == "true"


def test_a_run_is_gone_on_with_alone_and_then_in_replicas(
    ranks: Ranks, one: dict[str, Found]
) -> None:
    assert error(ranks[0]["handed over"], one["plain"]) < EXACT


def test_replicas_are_parts_of_a_batch_in_weights(ranks: Ranks, one: dict[str, Found]) -> None:
    if len(ranks) != 2:
        pytest.skip("the reference has two parts")
    found = {k: a for k, a in ranks[0]["replica"].items() if ".running_" not in k}
    assert error(found, one["accumulated"]) < EXACT


def test_an_evaluation_is_that_of_one_process_to_the_bit(
    ranks: Ranks, one: dict[str, Found]
) -> None:
    for name, array in one["evaluated"].items():
        assert np.array_equal(ranks[0]["evaluated"][name], array), name


def test_processes_without_a_batch_do_not_keep_others_waiting(ranks: Ranks) -> None:
    assert [int(found["predicted"]["count"]) for found in ranks] == [1] + [0] * (len(ranks) - 1)


def test_bfloat16_is_as_near_as_rounding_lets_it(ranks: Ranks, one: dict[str, Found]) -> None:
    if len(ranks) != 2:
        pytest.skip("two processes show it")
    own = error(one["bfloat16"], one["plain"])
    assert error(ranks[0]["bfloat16"], one["plain"]) < 2 * own


def test_an_overflow_in_one_process_skips_the_step_in_all(ranks: Ranks) -> None:
    if len(ranks) != 2:
        pytest.skip("two processes show it")
    mine, yours = (found["overflow"] for found in ranks)
    assert all(np.array_equal(mine[name], yours[name]) for name in mine)
    start = member.setup_of("plain").state["fc.weight"]
    assert np.array_equal(mine["skipped/fc.weight"], start)
    assert mine["skipped/loss_scale/scale"] == 0.5 * FIRST_LOSS_SCALE["scale"]
    assert not np.array_equal(mine["fc.weight"], start)


@pytest.mark.parametrize("fault", ["sums for means", "a part that stays"])
def test_a_fault_is_seen(fault: str, ranks: Ranks, one: dict[str, Found]) -> None:
    if len(ranks) != 2:
        pytest.skip("two processes show it")
    assert error(ranks[0][fault], one["plain"]) > SEEN


# --- The command ----------------------------------------------------------------------------------

TRAIN = ["train", "tiny.toml", "--backend", "torch", "--input-size", "8"]
SETTINGS = ["epochs=12", "batch=480", "precision=float64", "ema.decay=0.9", "accumulate=2"]
TRAIN += [word for setting in SETTINGS for word in ("--set", setting)]
LINE = "resnet-spec: error: --shard: needs several processes; see resnet-spec launch\n"


def test_one_process_is_refused_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--shard", "--out", "run"]) == 2
    assert capsys.readouterr().err == LINE
    assert not (here / "run").exists()


def test_what_is_compiled_is_not_sharded() -> None:
    setup, group = member.setup_of("plain"), member.Group(0, 2, "127.0.0.1:1")
    with pytest.raises(BackendError, match="--shard: is not tried with --compile; leave one"):
        member.session_of(setup, group, compile=True)


@pytest.mark.thorough
def test_a_run_in_parts_is_gone_on_with_in_one_process(here: Path) -> None:
    """It is stopped after its first epoch, as SLURM stops one; the rest is another process's."""
    assert main([*TRAIN, "--out", "whole"]) == 0
    launch = ["launch", "--processes", "2", "--", *TRAIN, "--shard", "--out", "run"]
    popen = subprocess.Popen(
        [sys.executable, "-P", "-m", "resnet_spec", *launch],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert popen.stdout is not None
        next(line for line in popen.stdout if line.startswith("epoch"))
        popen.send_signal(signal.SIGTERM)
        _, errors = popen.communicate(timeout=60)
    finally:
        popen.kill()
    assert (popen.returncode, errors) == (130, "")
    environment = json.loads((here / "run" / "summary.json").read_text())["environment"]
    assert environment["sharded"] == "true"
    assert 0 < load_checkpoint(here / "run" / "last.safetensors").progress["step"] < 12 * 4
    assert main(["train", "--resume", "run"]) == 0
    mine, expected = (load_checkpoint(here / run / "last.safetensors") for run in ("run", "whole"))
    assert mine.progress["step"] == expected.progress["step"]
    for name, array in expected.state.items():
        assert np.allclose(mine.state[name], array, rtol=1e-9, atol=1e-10), name
