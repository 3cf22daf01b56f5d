"""The script behind docs/performance.md: its cases can be asked for, and its rows are bench's."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from bench_cases import OTHER, OURS, PEER, measured, result

from resnet_spec.benchmarking.entries import peers
from resnet_spec.cli.main import main as command
from resnet_spec.ops import Norm
from resnet_spec.planning.initial_weights import initial_state

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import speed_table  # pyright: ignore[reportMissingImports]

    return speed_table


def test_every_case_asks_for_what_is_known(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[Any]()
    monkeypatch.setattr("resnet_spec.cli.bench.run", lambda args: asked.append(args) or 0)
    for options in script.cases().values():
        assert command(["bench", *options]) == 0
    assert len(asked) == len(script.cases()) > 20
    against = {name for args in asked for name in args.against or ()}
    assert against - set(peers()) == {"speed_table:in_float32", "speed_table:folded_flax"}
    assert capsys.readouterr().err == ""


def test_a_row_has_the_speed_and_the_ratio_of_bench(script: Any) -> None:
    found = result(measured(OURS, 0.2, 0.2, 0.2), measured(PEER, 0.4, 0.5, 0.6, memory_mb=12.4))
    first, second = script.rows(found.to_dict())
    assert first == "| predict tiny, 8 px, batch 4, float32 | torch | 100 |  |  | 0.2 |  |"
    told = (
        "| predict tiny, 8 px, batch 4, float32 | timm | 40 | 2.50 (2.25 to 2.75) |  | 0.2 | 12 |"
    )
    assert second == told
    assert script.table([found.to_dict()] * 2).count("\n") == 5


def test_what_is_there_is_not_measured_again(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = list[Any]()

    def measured_now(folder: Path, options: Any, rounds: int) -> bool:
        told.append((folder.name, rounds))
        if len(told) == 2:
            return False
        folder.mkdir(parents=True)
        numbers = result(measured(OTHER, 0.2, 0.2, 0.2)).to_dict()
        (folder / "bench.json").write_text(json.dumps(numbers))
        return True

    monkeypatch.setattr(script, "_measured", measured_now)
    given = [str(tmp_path), "--only", "flax-train", "--rounds", "3"]
    assert script.main(given) == 1
    assert [name for name, _ in told] == [name for name in script.cases() if "flax-train" in name]
    assert {rounds for _, rounds in told} == {3}
    assert capsys.readouterr().out.count("| flax | 100 |") == len(told) - 1
    told.clear()
    assert script.main([*given, "--tables"]) == 0 and told == []


def test_in_float32_is_the_session_in_float32(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[Any]()
    monkeypatch.setattr(script, "ours", lambda *given: (None, seen.append(given) or "it"))
    from bench_cases import asked

    assert script.in_float32(asked(precision="bfloat16").case()) == "it"
    ((case, backend),) = seen
    assert (case.precision, backend) == ("float32", "torch")
    assert sys.modules["speed_table"] is script


def test_folded_flax_is_without_norms(script: Any) -> None:
    pytest.importorskip("flax")
    from bench_cases import asked

    numbers = asked()
    case = numbers.case(state=initial_state(numbers.plan, seed=0))
    peers = importlib.import_module("resnet_spec_flax.peers")
    with patch.object(peers, "build", wraps=peers.build) as built:
        folded = script.folded_flax(case)
    (plan, _), _ = built.call_args
    assert not any(isinstance(op, Norm) for op in plan.ops)
    assert folded.params is None  # Or bench would take it for another network.
    folded.turn(1)
