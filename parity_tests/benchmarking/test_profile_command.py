"""`resnet-spec bench --profile`: a tiny run of every backend that can; and a node that is slow."""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from bench_cases import asked

from resnet_spec.benchmarking.profiles import answer_of
from resnet_spec.cli.main import main
from resnet_spec.contract import Batch
from resnet_spec.loader import installed_backends, manifest_of
from resnet_spec.ops import Conv
from resnet_spec.plan import walk
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe
from resnet_spec.running.opening import open_session

SMALL = ["--classes", "2", "--batch", "4", "--rounds", "1", "--seconds", "0.01", "--threads", "1"]


def _marked() -> list[object]:
    """Return installed backends that bring a profile; those that compile are thorough."""
    found: list[object] = []
    for name in installed_backends():
        manifest = manifest_of(name)
        if manifest is not None and manifest.bench.profile:
            slow = pytest.mark.thorough if manifest.compiles == "always" else ()
            found.append(pytest.param(name, marks=slow))
    return found


@pytest.mark.parametrize("mode", ["train", "predict"])
@pytest.mark.parametrize("backend", _marked())
def test_a_backends_ops_are_told_by_node(
    backend: str, mode: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "tiny.toml", "--input-size", "16", "--backends", backend, "--mode", mode]
    assert main([*words, *SMALL, "--profile", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["not_profiled"] == {}
    (one,) = found["profiles"]
    assert one["name"] == backend and one["steps"] >= 3 and one["plain_step_s"] > 0
    plan = asked().plan
    directions = {"forward", "backward"} if mode == "train" else {"forward"}
    taken: dict[tuple[str, str], float] = defaultdict(float)
    for part in one["parts"]:
        taken[part["node"], part["direction"]] += part["seconds"]
    convs = [op.name for op in plan.ops if isinstance(op, Conv)]
    assert all(taken[conv, direction] > 0 for conv in convs for direction in directions)
    assert {node for node, _ in taken} <= {node.name for node in walk(plan.root)} | {""}
    assert {direction for _, direction in taken} - {"", "update"} == directions
    assert ("", "update") in taken or mode == "predict"
    total = sum(taken.values())
    assert total == pytest.approx(one["ops_s"])
    of_nodes = sum(seconds for (node, _), seconds in taken.items() if node)
    assert of_nodes > 0.1 * total
    # Moments are counted once. The last step of an asynchronous framework may end after its call.
    assert total < 1.5 * one["profiled_step_s"]
    if backend == "torch" and mode == "predict":
        assert not any(part["kind"] == "norm" for part in one["parts"]), "it is the lean network"
        assert "norms are in the weights" in one["notes"][0]


def _profiled(mode: Any, slow: str) -> list[tuple[str, float]]:
    """Return torch's seconds by node, the most first, where `slow` has more to do than it should.

    slow: a node whose every call multiplies matrices for milliseconds beside its own work.
    """
    torch: Any = importlib.import_module("torch")
    case = asked(mode=mode).case()
    recipe = Recipe.from_dict({"steps": 1, "batch": case.batch}, "test")
    session: Any = open_session("torch", case.plan, recipe, "cpu")
    session.load(initial_state(case.plan, seed=0))
    batch = Batch(case.images(), case.labels(), np.arange(case.batch))
    module = session.native.get_submodule(slow)
    original, matrix = module.forward, torch.ones(256, 256)

    def forward(x: Any) -> Any:
        with torch.no_grad():
            for _ in range(20):
                torch.mm(matrix, matrix)
        return original(x)

    module.forward = forward

    def turn(steps: int) -> None:
        if case.trains:
            session.train(repeat(batch, steps), np.full(steps, 1e-3))
        else:
            list(session.predict(repeat(batch, steps)))

    found = module_of("torch", "profiling").profile(case, session, turn, 3)
    sums: dict[str, float] = defaultdict(float)
    for node, _, _, seconds in answer_of(found, case.plan, 3)["parts"]:
        sums[node] += seconds
    return sorted(sums.items(), key=lambda item: -item[1])


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
@pytest.mark.parametrize(
    ("mode", "slow"), [("train", "layer1.0.conv2"), ("train", "global_pool"), ("predict", "act1")]
)
def test_a_node_that_does_more_than_it_should_is_the_first(mode: str, slow: str) -> None:
    assert _profiled(mode, slow)[0][0] == slow
