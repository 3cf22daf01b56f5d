"""Profiles: held against the plan, summed up by nodes and kinds, and told; who has none is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from bench_cases import OTHER, OURS, PEER, Line, asked, measured, result

from resnet_spec import load_spec, lower
from resnet_spec.bench import Contestant, Profile, Timing
from resnet_spec.benchmarking.entries import Entry, check_profiled
from resnet_spec.benchmarking.files import check_files, write_files
from resnet_spec.benchmarking.making import Made
from resnet_spec.benchmarking.process import FailedError
from resnet_spec.benchmarking.profiles import (
    KINDS,
    UNKNOWN,
    Profiled,
    answer_of,
    groups_of,
    kinds_of,
    profiled_of,
)
from resnet_spec.benchmarking.rounds import measure
from resnet_spec.benchmarking.tables import lines
from resnet_spec.benchmarking.worker import Worker
from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError, OutputError
from resnet_spec.ops import BaseOp
from resnet_spec.plan import walk

PLAN = asked().plan
TIMINGS = (
    Timing("fc", 0.25, "forward"),
    Timing("conv1", 0.5, "forward"),
    Timing("conv1", 0.5, "forward"),
    Timing("conv1", 1.0, "backward"),
    Timing("conv1", 0.125, "forward", "copies"),
    Timing("", 0.25, "update", "optimizer"),
    Timing("", 0.125),
)


def profiled(*timings: Timing, name: str = "torch", steps: int = 2) -> Profiled:
    answer = answer_of(Profile(timings, ("a note",)), PLAN, steps)
    return profiled_of(name, {**json.loads(json.dumps(answer)), "seconds": 4.0}, steps, 1.5)


def test_seconds_are_of_a_step_by_node_kind_and_direction() -> None:
    found = profiled(*TIMINGS)
    assert found.parts == (
        ("conv1", "convolution", "forward", 0.5),
        ("conv1", "convolution", "backward", 0.5),
        ("conv1", "copies and casts", "forward", 0.0625),
        ("fc", "linear", "forward", 0.125),
        ("", "optimiser", "update", 0.125),
        ("", UNKNOWN, "", 0.0625),
    )
    assert found.ops_s == 1.375 and (found.step_s, found.plain_s) == (2.0, 1.5)
    assert found.sums(lambda part: part.node)["conv1"] == 1.0625
    assert found.sums(lambda part: part.kind, "backward") == {"convolution": 0.5}


def test_every_op_and_container_has_a_kind() -> None:
    for name in ("resnet50", "resnet20_cifar", "seresnet50", "resnet50d"):
        plan = lower(load_spec(name))
        nodes = [node.name for node in walk(plan.root) if node.name]
        answer = answer_of(Profile([Timing(node, 1.0) for node in nodes]), plan, 1)
        kinds = {node: kind for node, kind, _, _ in answer["parts"]}
        assert len(kinds) == len(nodes) and set(kinds.values()) <= set(KINDS)
        convs = {op.name for op in plan.ops if type(op).__name__ == "Conv"}
        assert {node for node, kind in kinds.items() if kind == "convolution"} == convs


@pytest.mark.parametrize(
    ("timing", "rule"),
    [
        (Timing("cnv1", 1.0), "names 'cnv1', no node of the plan; did you mean 'conv1'?"),
        (Timing("conv1", float("nan")), "whose seconds are no time"),
        (Timing("conv1", -1.0), "whose seconds are no time"),
        (Timing("conv1", 1.0, "sideways"), "whose kind or direction is none"),  # type: ignore[arg-type]
        (Timing("", 1.0, "", "lunch"), "whose kind or direction is none"),  # type: ignore[arg-type]
    ],
)
def test_what_a_backend_tells_is_held_against_the_plan(timing: Timing, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("?", r"\?")):
        answer_of(Profile([timing]), PLAN, 1)


def test_nodes_are_of_their_block_or_of_stem_and_head() -> None:
    plan = lower(load_spec("resnet50"))
    groups = groups_of(plan)
    assert groups["conv1"] == groups["maxpool"] == "stem" and groups["fc"] == "head"
    assert groups["layer1.0.downsample.0"] == groups["layer1.0"] == "layer1.0"
    blocks = [block.name for block in plan.blocks]
    assert {groups[n.name] for n in walk(plan.root) if isinstance(n, BaseOp)} == {
        *("stem", "head"),
        *blocks,
    }


def profiled_result(*timings: Timing, **changes: Any) -> Any:
    of = result(measured(OURS, 1.0, 2.0, 4.0), profiles=(profiled(*timings),), **changes)
    object.__setattr__(of, "asked", asked(mode="train", profile=True))
    return of


def _rows(told: list[str], head: str) -> dict[str, list[str]]:
    start = next(i for i, line in enumerate(told) if line.startswith(head))
    end = told.index("", start)
    return {row.split("  ")[0]: row.split("  ")[1:] for row in told[start:end]}


def test_tables_have_rows_by_node_and_kind_and_always_what_is_not_attributed() -> None:
    told = lines(profiled_result(*TIMINGS[:-1], not_profiled={"flax": "it broke"}), None)
    nodes, kinds = _rows(told, "node "), _rows(told, "kind of op")
    assert [*nodes][1:4] == ["conv1", "fc", "optimiser"] and UNKNOWN in nodes and UNKNOWN in kinds
    text = "\n".join(told)
    assert "conv1" in text and "flax: no profile: it broke" in text and "torch: a note" in text
    row = next(line.split() for line in told if line.startswith("conv1"))
    assert row == ["conv1", "1062", "562.50", "500.00", "81.0%"]
    assert next(line for line in told if line.startswith("all ops")).split()[2] == "1312"
    ends = [line.split()[-1] for line in told if line.startswith("step, ")]
    assert ends[:2] == ["2000", "1500"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_fit_where_they_are_printed(width: int) -> None:
    assert all(len(line) <= width for line in lines(profiled_result(*TIMINGS), width))


def test_blocks_are_rows_where_nodes_are_too_many(tmp_path: Path) -> None:
    plan = lower(load_spec("resnet50"))
    answer = answer_of(Profile([Timing(op.name, 1.0) for op in plan.ops]), plan, 1)
    found = profiled_of("torch", {**answer, "seconds": 1.0}, 1, 1.0)
    of = result(measured(OURS, 1.0), profiles=(found,))
    question = asked(profile=True)
    object.__setattr__(question, "spec", load_spec("resnet50"))
    object.__setattr__(of, "asked", question)
    rows = _rows(lines(of, None), "node ")
    assert [*rows][1:4] == ["stem", "layer1.0", "layer1.1"] and "head" in rows and len(rows) == 23
    write_files(tmp_path, of)
    listed = list(csv.DictReader((tmp_path / "profile.csv").read_text().splitlines()))
    assert [row["node"] for row in listed] == [op.name for op in plan.ops]
    assert listed[0]["group"] == "stem" and float(listed[0]["ms_per_step"]) == 1000.0
    text = (tmp_path / "profile.md").read_text()
    assert all(f"| {op.name} |" in text for op in plan.ops)
    told = json.loads((tmp_path / "profile.json").read_text())
    assert len(told["profiles"][0]["parts"]) == len(plan.ops)
    for file in tmp_path.glob("bench*"):
        file.unlink()
    check_files(tmp_path, overwrite=False)
    with pytest.raises(OutputError, match=r"profile.json"):
        check_files(tmp_path, overwrite=False, profile=True)


def test_json_has_every_part_only_where_it_was_asked_for() -> None:
    told = profiled_result(*TIMINGS).to_dict()
    assert told["profiles"][0]["parts"][0]["node"] == "conv1" and told["not_profiled"] == {}
    assert sum(part["seconds"] for part in told["profiles"][0]["parts"]) == 1.375
    assert "profiles" not in result(measured(OURS, 1.0)).to_dict()


def test_kinds_stand_in_their_order() -> None:
    assert kinds_of([profiled(*TIMINGS)]) == [
        *("convolution", "linear", "optimiser", "copies and casts"),
        UNKNOWN,
    ]


ANSWER = {**answer_of(Profile(TIMINGS), PLAN, 3), "seconds": 6.0}


def measured_with(profiles: dict[Entry, Any], fails: bool = False, **changes: Any) -> Any:
    made: dict[Entry, Line] = {}

    class Lost(Line):
        def ask(self, told: dict[str, Any]) -> dict[str, Any]:
            if "profile" in told or (self.steps and self.steps[-1] < 0):
                self.steps.append(-1)
                raise FailedError("out of memory")
            return super().ask(told)

    def open_line(entry: Entry) -> Line:
        made[entry] = (Lost if fails and entry == OURS else Line)([], entry.name, 0.5)
        made[entry].profile = profiles[entry]
        return made[entry]

    return measure(asked(profile=True, **changes), list(profiles), open_line=open_line), made


def test_backends_are_profiled_after_the_rounds_for_a_few_steps() -> None:
    found, made = measured_with({OURS: ANSWER, PEER: ANSWER, OTHER: None})
    (one,) = found.profiles
    assert (one.name, one.steps, one.step_s, one.plain_s) == ("torch", 3, 2.0, 0.5)
    assert made[OURS].steps[-1] == 3 and made[PEER].steps[-1] == 2, "peers are not profiled"
    assert found.not_profiled == {"flax": "its backend brings no function for it (bench.profile)"}
    assert len(found.measured) == 3 and found.is_sound


def test_who_is_lost_in_a_profile_keeps_its_turns() -> None:
    found, _ = measured_with({OURS: ANSWER, OTHER: {"not_profiled": "no such thing"}}, fails=True)
    assert found.not_profiled == {"torch": "out of memory", "flax": "no such thing"}
    assert [len(one.turns) for one in found.measured] == [3, 3] and not found.failed
    assert not found.is_sound, "nothing was profiled"


def test_a_worker_tells_why_there_is_no_profile_and_goes_on() -> None:
    def broken(steps: int) -> dict[str, Any]:
        raise BackendError(f"no profile of {steps} steps")

    worker = Worker(Made(Contestant(lambda steps: None), None, lambda: None, broken))
    assert worker.answer({"profile": 2})["not_profiled"] == "no profile of 2 steps"
    assert "seconds" in worker.answer({"turn": 1})
    with pytest.raises(ValueError, match="nothing that a worker does"):
        Worker(Made(Contestant(lambda steps: None), None, lambda: None)).answer({"profile": 2})


def test_nobody_to_profile_is_told_at_once(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert (
        main(["bench", "tiny.toml", "--input-size", "8", "--backends", "numpy", "--profile"]) == 2
    )
    line = "--profile = numpy: brings no profile (peers never do); installed backends that do: "
    told = capsys.readouterr()
    assert line in told.err and told.err.count("\n") == 1 and told.out == ""
    with pytest.raises(BackendError, match=r"^--profile = timm: brings no profile"):
        check_profiled([PEER])
