"""What the project costs is measured by a script: its sums are right, and its parts run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_cases import OURS, asked, measured, result
from tiny_run import NETWORK

from resnet_spec.benchmarking.entries import Entry

SCRIPTS = Path(__file__).parents[2] / "scripts"
HAND = Entry("torch-by-hand", "torch", "a.b:c")


@pytest.fixture
def costing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script's package, by the names of its modules."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import overhead  # pyright: ignore[reportMissingImports]
    from costing import spans, timed_command  # pyright: ignore[reportMissingImports]

    overhead.spans, overhead.timed_command = spans, timed_command
    for name in (*overhead.FREED_MEMORY, "PYTHONPATH"):  # They are as before when a test is over.
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return overhead


def spans_of(costing: Any) -> list[Any]:
    """Two chunks of the first epoch, two epochs with an evaluation and a checkpoint after each."""
    rows = [
        ("wait", 0.0, 0.5), ("train", 0.0, 2.0, 3), ("train", 2.5, 4.0, 2),
        ("read", 4.0, 4.25), ("predict", 4.0, 5.0), ("evaluate", 4.0, 5.5), ("save", 5.5, 5.75),
        ("metrics", 5.75, 6.0), ("wait", 6.0, 6.25), ("train", 6.0, 9.0, 5),
        ("predict", 9.0, 10.0), ("evaluate", 9.0, 10.0), ("train", 11.0, 13.0, 5),
    ]  # fmt: skip
    return [costing.spans.Span(*row) for row in rows]


def test_time_goes_into_what_was_done_between_the_ends_of_two_epochs(costing: Any) -> None:
    found = costing.spans.went(spans_of(costing), 5, 10, seconds=5.0)
    assert found == (2.75, 0.25, 0.75, 0.75, 0.5, 0.0) and found.whole == 5.0
    later = costing.spans.went(spans_of(costing), 5, 15, seconds=9.0)
    assert later == (4.75, 0.25, 1.75, 0.75, 0.5, 1.0)


def test_a_step_within_a_chunk_is_no_end(costing: Any) -> None:
    with pytest.raises(ValueError, match="step 4 ends no call"):
        costing.spans.went(spans_of(costing), 4, 10, seconds=5.0)


def test_shares_are_of_the_session_alone(costing: Any) -> None:
    rounds = [
        costing.commands.Round(4.0, costing.spans.Went(3.98, 0.1, 0.2, 0.05, 0.02, 0.01)),
        costing.commands.Round(2.0, costing.spans.Went(2.0, 0.0, 0.1, 0.0, 0.0, 0.0)),
    ]
    one = costing.commands.Commands(10, 2, {}, tuple(rounds))
    assert one.spread(with_forward=True).median == pytest.approx((0.09 + 0.05) / 2)
    assert one.spread(with_forward=False).median == pytest.approx((0.04 + 0.0) / 2)
    assert one.shares() == pytest.approx([-0.0025, 0.0125, 0.05, 0.00625, 0.0025, 0.00125])
    (row,) = costing.commands.rows({"torch": one})
    assert row[:3] == ("torch", "+7.0 % (+6.0 to +8.0)", "+2.0 % (+1.0 to +3.0)")
    assert len(row) == len(costing.commands.HEADS)


def test_a_session_s_cost_is_that_of_each_round(costing: Any) -> None:
    found = result(measured(OURS, 1.1, 2.04, 3.0), measured(HAND, 1.0, 2.0, 3.0))
    (row,) = costing.by_hand.rows({"torch": found})
    assert row == ("torch", "10", "10", "+2.0 % (+1.0 to +6.0)")
    assert costing.by_hand.rows({"torch": result(measured(OURS, 1.0))}) == []


def test_batches_are_held_against_the_fastest_session(costing: Any) -> None:
    path = Entry("crop, flip", make="costing.data_path:crop_flip")
    slow = measured(Entry("flax", "flax"), 9.0, 9.0, 9.0)
    found = result(slow, measured(OURS, 1.0, 2.0, 3.0), measured(path, 0.1, 0.1, 0.1))
    (row,) = costing.data_path.rows(found)
    assert row == ("crop, flip", "200", "torch", "10", "20.0 (15.0 to 25.0)")


def test_a_turn_of_the_data_path_makes_as_many_batches_as_are_asked_for(costing: Any) -> None:
    case = asked(mode="train").case()
    for make in costing.data_path.MAKES.values():
        turn = make(case)
        turn(3)
        turn(60)  # Into another epoch.
    assert len(costing.data_path.MAKES) == 3


def test_a_watched_session_does_the_same_and_is_noted(costing: Any) -> None:
    class Session:
        def train(self, batches: Any, rates: Any, keeps: Any = None) -> Any:
            return [next(batches) for _ in rates], keeps

        def predict(self, batches: Any) -> Any:
            yield from (2 * batch for batch in batches)

    spans = costing.spans.Spans()
    session = costing.timed_command.watched(Session(), spans)
    assert session.train(iter([5, 6, 7]), np.ones(2), 3) == ([5, 6], 3)
    assert list(session.predict([1, 2])) == [2, 4]
    names = [span.name for span in spans.noted]
    assert names[:3] == ["wait", "wait", "train"] and spans.noted[2].steps == 2
    assert names.count("predict") == names.count("read") == 3  # The last finds that it is the end.


def test_the_smallest_form_tells_what_a_command_s_time_went_into(
    costing: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, told = tmp_path / "tiny.json", tmp_path / "told.json"
    network.write_text(json.dumps(NETWORK | {"input": {"size": 32}}), encoding="utf-8")
    sizes = ["--batch", "4", "--images", "20", "--tested", "8", "--seconds", "0.001"]
    given = ["--only", "command", "--backends", "numpy", "--network", str(network), *sizes]
    assert costing.main([*given, "--rounds", "1", "--threads", "1", "--json", str(told)]) == 0
    found = json.loads(told.read_text(encoding="utf-8"))
    one = found["command"]["numpy"]
    assert (one["epochs"], one["steps"], len(one["rounds"])) == (1, 5, 1)
    for seconds in one["rounds"]:
        parts = [seconds[name] for name in ("alone", "steps", "forward", "evaluation", "saving")]
        assert min(parts) > 0.0, seconds
    assert found["machine"]["settings"].items() >= costing.FREED_MEMORY.items()
    assert "| numpy | " in capsys.readouterr().out


def test_who_is_unknown_is_refused_before_anybody_is_measured(
    costing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert costing.main(["--only", "command", "--backends", "numpy,nunpy"]) == 1
    told = capsys.readouterr()
    assert "numpy" in told.err and "Traceback" not in told.err
    assert "overhead: numpy" not in told.err and "| numpy" not in told.out


def test_what_is_stopped_has_told_whose_numbers_are_there(
    costing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(setting: Any) -> dict[str, Any]:
        if setting.backends == ("torch",):
            raise KeyboardInterrupt
        return {setting.backends[0]: 1.5}

    monkeypatch.setitem(costing.PART_OF, "session", part)
    monkeypatch.setattr(costing, "entries_of", lambda *given: None)
    told = tmp_path / "told.json"
    given = ["--only", "session", "--backends", "numpy,torch", "--json", str(told)]
    with pytest.raises(KeyboardInterrupt):
        costing.main(given)
    assert json.loads(told.read_text(encoding="utf-8"))["session"] == {"numpy": 1.5}
