"""All contestants started several times: what is of a set, and how far starts are apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from bench_cases import LINEN, OTHER, OURS, PEER, Line, asked, result, started
from test_bench_results import SCHEMA

from resnet_spec.benchmarking import rounds
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.results import Measured, Result
from resnet_spec.benchmarking.rounds import measure, ticks
from resnet_spec.benchmarking.tables import lines, markdown, notes
from resnet_spec.benchmarking.under_way import Running

Log = list[tuple[str, str]]
STEP_S = {OURS: (0.01, 0.02, 0.04), PEER: (0.02, 0.04, 0.08)}
"""Of each start: another process of the same program is slower; twice as slow as ours are all."""


class Played:
    """A benchmark of lines whose steps take so long in each start.

    fails: for a contestant, in which of its starts, and at which line of that.
    """

    def __init__(
        self,
        step_s: Mapping[Entry, tuple[float, ...]],
        fails: Mapping[Entry, tuple[int, int]] | None = None,
        **changes: Any,
    ) -> None:
        self.log: Log = []
        self.made: dict[Entry, list[Line]] = {entry: [] for entry in step_s}
        self.told: list[str] = []
        self._step_s, self._fails = step_s, dict(fails or {})
        self.asked = asked(**{"starts": 3, **changes})
        self.result: Result = measure(
            self.asked, list(step_s), (), self.told.append, open_line=self._opened
        )

    def _opened(self, entry: Entry) -> Line:
        lines, number = self.made[entry], len(self.made[entry])
        others = [one for of in self.made.values() if of is not lines for one in of[:number]]
        assert all(one.is_closed for one in lines + others), "of the set before"
        failing, at = self._fails.get(entry, (0, 0))
        step_s = self._step_s[entry][number]
        lines.append(Line(self.log, entry.name, step_s, at if number + 1 == failing else 0))
        lines[-1].profile = {"parts": [], "notes": [], "seconds": 1.0}
        return lines[-1]

    def of(self, entry: Entry) -> Measured:
        """Return the numbers of a contestant."""
        (found,) = [one for one in self.result.measured if one.entry == entry]
        return found


def test_every_set_starts_everyone_anew_when_the_one_before_is_over() -> None:
    played = Played(STEP_S)
    assert [len(made) for made in played.made.values()] == [3, 3]
    assert all(line.is_closed for made in played.made.values() for line in made)
    starts = [name for name, what in played.log if what == "start"]
    assert starts == ["torch", "timm"] * 3
    assert [len(start.turns) for start in played.of(PEER).starts] == [3, 3, 3]


def test_the_steps_of_a_turn_are_those_of_the_first_set() -> None:
    played = Played(STEP_S)
    assert played.result.steps == 71, "1 s by the geometric middle of 0.01 and 0.02"
    turns = [line.steps[-3:] for made in played.made.values() for line in made]
    assert turns == [[71, 71, 71]] * 6


def test_numbers_are_over_all_rounds_of_all_starts() -> None:
    played = Played(STEP_S)
    ours = played.of(OURS)
    assert ours.turns == pytest.approx((0.71,) * 3 + (1.42,) * 3 + (2.84,) * 3)
    assert played.result.speed(ours) == pytest.approx((200.0, 100.0, 400.0))
    assert ours.first_step_s == 0.02, "the median over starts"
    assert len(ours.products) == 9 and ours.product_size == 10


def test_memory_and_waiting_are_the_most_of_a_start_and_times_their_median() -> None:
    one = started(OURS, [1.0], [1.0], [1.0])
    numbers = zip(one.starts, (5.0, 9.0, None), (0.1, 0.3, 0.2), (1.0, 2.0, 6.0), strict=True)
    starts = [
        replace(start, memory_mb=held, idle=idle, start_s=seconds, first_step_s=10 * seconds)
        for start, held, idle, seconds in numbers
    ]
    one = replace(one, starts=tuple(starts))
    assert (one.memory_mb, one.device_mb, one.idle) == (9.0, None, 0.3)
    assert (one.start_s, one.first_step_s) == (2.0, 20.0)


def test_who_is_alone_in_a_later_set_disturbs_nobody_there() -> None:
    ours, peer = started(OURS, [1.0], [1.0], [1.0]), started(PEER, [1.0], [1.0])
    starts = zip(ours.starts, (0.1, 0.2, 0.9), strict=True)
    ours = replace(ours, starts=tuple(replace(start, idle=idle) for start, idle in starts))
    assert result(ours, peer).disturbing(ours) == 0.2 and result(ours).disturbing(ours) == 0.0
    assert any(line.startswith("torch took 0.20 of") for line in notes(result(ours, peer)))


def _ratio_is_of_each_set(result: Result) -> None:
    (one,) = [one for one in result.measured if one.entry == PEER]
    assert result.ratio(one) == pytest.approx((2.0, 2.0, 2.0))


def _shifted(original: Callable[[Any], Measured]) -> Callable[[Any], Measured]:
    """Return an `original` that takes a peer's sets in another order."""

    def measured(runs: list[Running]) -> Measured:
        return original(runs if runs[0].entry.is_ours else [*runs[1:], runs[0]])

    return measured


def test_a_ratio_is_within_its_own_round_of_its_own_set(monkeypatch: pytest.MonkeyPatch) -> None:
    _ratio_is_of_each_set(Played(STEP_S).result)
    monkeypatch.setattr(rounds, "_measured", _shifted(rounds._measured))
    with pytest.raises(AssertionError):
        _ratio_is_of_each_set(Played(STEP_S).result)


def test_rounds_within_a_set_are_not_mixed_either() -> None:
    ours, peer = started(OURS, [1.0, 2.0], [4.0, 8.0]), started(PEER, [3.0, 6.0], [12.0, 24.0])
    assert result(ours, peer).ratio(peer) == (3.0, 3.0, 3.0)
    mixed = started(PEER, [3.0, 12.0], [6.0, 24.0])
    assert result(ours, mixed).ratio(mixed) != (3.0, 3.0, 3.0)


def test_a_ratio_is_over_all_sets_that_both_have() -> None:
    ours, peer = started(OURS, [1.0], [1.0]), started(PEER, [2.0], [3.0], [9.0])
    assert result(ours, peer).ratio(peer) == (2.5, 2.25, 2.75)


def test_starts_are_apart_by_their_medians_beside_that_of_all_rounds() -> None:
    one = started(OURS, [1.0, 1.0, 9.0], [2.0, 2.0, 0.1], [4.0, 4.0, 4.0])
    found = result(one)
    assert found.speed(one).median == 10.0
    assert found.between_starts(one) == (0.5, 2.0)
    alike = started(OURS, [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    assert result(alike).between_starts(alike) == (1.0, 1.0), "though rounds differ"
    alone = started(OURS, [1.0, 2.0])
    assert result(alone).between_starts(alone) is None


def test_every_round_begins_with_another_contestant_over_all_sets() -> None:
    played = Played({OURS: (0.5, 0.5), PEER: (0.5, 0.5)}, rounds=1, starts=2)
    turns = [name for name, what in played.log if what == "turn"]
    half = len(turns) // 2
    assert turns[half - 2 : half] == ["torch", "timm"] and turns[-2:] == ["timm", "torch"]


@pytest.mark.parametrize(
    ("line", "what"), [(1, "starting"), (2, "starting"), (4, "warming up"), (11, "round 2 of 3")]
)
def test_who_fails_in_a_later_set_keeps_the_sets_before_and_is_out(line: int, what: str) -> None:
    played = Played(STEP_S, {PEER: (2, line)})
    found, peer = played.result, played.of(PEER)
    assert found.failed == {PEER: f"start 2 of 3, {what}: out of memory"}
    assert len(peer.starts) == 1 and len(played.of(OURS).starts) == 3
    assert len(played.made[PEER]) == 2, "it is not started again"
    assert found.ratio(peer) == pytest.approx((2.0, 2.0, 2.0)), "of the set that both have"
    assert found.between_starts(peer) is None and found.is_sound
    line_below = f"failed: timm: start 2 of 3, {what}: out of memory; its row is of 1 start"
    assert notes(found)[0] == line_below
    assert line_below in markdown(found)


def test_who_fails_in_the_first_set_has_no_row_and_is_not_started_again() -> None:
    played = Played(STEP_S, {PEER: (1, 1)})
    assert [one.name for one in played.result.measured] == ["torch"]
    assert len(played.made[PEER]) == 1
    assert notes(played.result)[0] == "failed: timm: start 1 of 3, starting: out of memory"


def test_a_backend_that_fails_in_a_later_set_is_a_failure_of_ours_and_still_a_base() -> None:
    played = Played(STEP_S, {OURS: (3, 1)})
    assert not played.result.is_sound
    assert [len(one.starts) for one in played.result.measured] == [2, 3]
    assert played.result.base(played.of(PEER)) == played.of(OURS)
    assert played.result.ratio(played.of(PEER)) == pytest.approx((2.0, 2.0, 2.0))


def test_where_all_fail_in_a_later_set_there_is_the_first() -> None:
    found = Played(STEP_S, {OURS: (2, 1), PEER: (2, 1)}).result
    assert [len(one.starts) for one in found.measured] == [1, 1] and not found.is_sound


def test_profiles_are_taken_once_in_the_last_set() -> None:
    played = Played(STEP_S, profile=True)
    (one,) = played.result.profiles
    assert one.name == "torch" and one.plain_s == pytest.approx(0.04), "of the same process"
    assert [line.steps[-1] for line in played.made[OURS]] == [71, 71, 10]
    assert len(played.told) == ticks(played.asked, [OURS, PEER])


def test_a_bar_says_which_start_it_is() -> None:
    played = Played(STEP_S)
    assert len(played.told) == ticks(played.asked, [OURS, PEER]) == 36
    assert played.told[0] == "torch: start 1 of 3, starting"
    assert played.told[-1] == "timm: start 3 of 3, ending"
    assert "torch: start 2 of 3, round 3 of 3" in played.told
    assert "torch: round 3 of 3" in Played(STEP_S, starts=1).told


def test_starts_and_not_exports_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported is held against the reference, which takes its time, and is the same."""
    made: list[str] = []

    class Exported:
        def __init__(self, asked: Any, format: str) -> None:
            made.append(format)

        def __enter__(self) -> str:
            return "network.onnx"

        def __exit__(self, *_: object) -> None:
            made.append("gone")

    monkeypatch.setattr(rounds, "exported", Exported)
    engine = Entry("onnxruntime", "", "a.b:c", "onnx")
    played = Played({engine: (0.1, 0.1, 0.1)})
    assert len(played.of(engine).starts) == 3 and made == ["onnx", "gone"]


def several() -> Result:
    ours = started(OURS, [1.0, 1.0, 1.0], [1.25, 1.25, 1.25], [1.0, 1.0, 1.0])
    peer, linen = started(PEER, *[[2.0, 2.0, 2.0]] * 3), started(LINEN, [2.0, 2.0, 2.0])
    failed = {LINEN: "start 2 of 3, starting: no", OTHER: "start 1 of 3, starting: no"}
    found = result(ours, peer, linen, failed=failed)
    return replace(found, asked=asked(starts=3))


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_a_table_says_how_far_starts_are_apart(width: int | None) -> None:
    told = lines(several(), width)
    assert width is None or max(map(len, told)) <= width
    text = " ".join(" ".join(told).split())
    assert text.startswith("predict tiny, 8 px, batch 4, float32: 3 starts of 3 rounds of 5 steps")
    (row,) = [line for line in told if line.startswith("torch  ")]
    assert "-20.0% to +0.0%" in row
    heads = next(line for line in told if line.startswith("contestant"))
    assert "between starts" in heads
    assert "3 starts of 3 rounds each, with new processes; between starts: " in text
    assert "first step, start: the median over starts; memory: the most of one" in text
    assert "failed: linen: start 2 of 3, starting: no; its row is of 1 start" in text
    assert "failed: flax: start 1 of 3, starting: no" in notes(several()), "it has no row"


def test_one_start_is_told_as_before() -> None:
    text = "\n".join([*lines(replace(several(), asked=asked()), None), markdown(result())])
    assert "between starts" not in text and "starts of" not in text


def test_markdown_is_one_table() -> None:
    rows = [line for line in markdown(several()).splitlines() if line.startswith("|")]
    assert len(rows) == 5 and len({line.count("|") for line in rows}) == 1
    assert "| between starts |" in rows[0] and "| -20.0% to +0.0% |" in rows[2]


def test_json_has_every_turn_with_its_start() -> None:
    found = json.loads(json.dumps(several().to_dict()))
    jsonschema.validate(found, SCHEMA)
    ours, peer, linen = found["contestants"]
    assert found["asked"]["starts"] == 3
    assert [start["turns_s"] for start in ours["starts"]] == [[1.0] * 3, [1.25] * 3, [1.0] * 3]
    assert ours["turns_s"] == [1.0] * 3 + [1.25] * 3 + [1.0] * 3
    assert ours["between_starts"] == pytest.approx({"lowest": 0.8, "highest": 1.0})
    assert peer["between_starts"] == {"lowest": 1.0, "highest": 1.0}
    assert len(linen["starts"]) == 1 and linen["between_starts"] is None
    assert ours["starts"][1]["images_per_second"]["median"] == 16.0
