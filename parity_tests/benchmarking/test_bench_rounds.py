"""Turns are taken in rounds: their order, their steps, and who is out."""

from __future__ import annotations

import pytest
from bench_cases import OTHER, OURS, PEER, Line, asked

from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.exported import exported
from resnet_spec.benchmarking.process import FailedError
from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.rounds import measure, ticks
from resnet_spec.errors import BackendError

Log = list[tuple[str, str]]


def played(
    step_s: dict[Entry, float], fails: dict[Entry, int] | None = None, **changes: float
) -> tuple[Result, Log, dict[Entry, Line]]:
    """Return the result of contestants whose steps take these seconds, and what they heard."""
    log: Log = []
    made: dict[Entry, Line] = {}

    def open_line(entry: Entry) -> Line:
        made[entry] = Line(log, entry.name, step_s[entry], (fails or {}).get(entry, 0))
        return made[entry]

    found = measure(asked(**changes), list(step_s), open_line=open_line)
    return found, log, made


def test_each_is_started_to_its_first_step_before_the_next_is() -> None:
    _, log, _ = played({OURS: 0.1, OTHER: 0.1, PEER: 0.1})
    first = [("torch", "start"), ("torch", "turn"), ("flax", "start"), ("flax", "turn")]
    assert log[:5] == [*first, ("timm", "start")]


def test_every_round_begins_with_another_contestant() -> None:
    names = ["torch", "flax", "timm"]
    _, log, _ = played({OURS: 0.5, OTHER: 0.5, PEER: 0.5}, rounds=4)
    rounds = [name for name, what in log if what == "turn"][-12:]
    assert rounds == [*names, *names[1:], *names[:1], *names[2:], *names[:2], *names]


def test_all_take_the_same_steps_which_fill_the_seconds_of_the_middle_one() -> None:
    found, _, made = played({OURS: 0.01, OTHER: 0.02, PEER: 0.16})
    assert found.steps == 50
    for line in made.values():
        assert line.steps[-3:] == [50, 50, 50]


def test_a_turn_has_the_steps_that_are_asked_for() -> None:
    line = Line([], "torch", 0.01)
    found = measure(asked(), [OURS], open_line=lambda entry: line, steps=7)
    assert found.steps == 7 and line.steps == [1, 1, 1, 2, 4, 8, 16, 7, 7, 7]
    assert found.measured[0].turns == pytest.approx((0.07, 0.07, 0.07))


def test_a_turn_has_one_step_at_least() -> None:
    assert played({OURS: 3.0})[0].steps == 1


def test_turns_before_the_rounds_do_not_count() -> None:
    found, _, made = played({OURS: 0.01})
    (one,) = found.measured
    assert one.turns == pytest.approx((1.0, 1.0, 1.0)) and len(made[OURS].steps) > 3
    assert one.first_step_s == 0.01


def test_doubled_steps_are_timed_until_they_say_something() -> None:
    _, _, made = played({OURS: 0.001})
    assert made[OURS].steps[:9] == [1, 1, 1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("seconds", [1e-9, 0.05, 1.0])
def test_who_takes_no_steps_is_out(seconds: float) -> None:
    """Its turns of a microsecond would have everyone else take millions of steps."""
    found, _, made = played({OURS: 0.01, PEER: 1e-10}, seconds=seconds)
    assert [one.name for one in found.measured] == ["torch"]
    assert "warming up: a turn of" in found.failed[PEER]
    assert "its turn has to take the steps, and to wait for the last" in found.failed[PEER]
    assert max(made[OURS].steps) <= 128


def test_products_are_measured_in_every_round_by_what_they_count() -> None:
    (one,) = played({OURS: 0.01})[0].measured
    assert one.products == pytest.approx((2e6, 2e6, 2e6)) and one.product_size == 10


def test_what_was_taken_while_waiting_is_a_share_of_the_wait() -> None:
    (one,) = played({OURS: 0.01})[0].measured
    assert one.idle == 0.25 and one.memory_mb == 7.0 and one.device_mb is None


@pytest.mark.parametrize(
    ("line", "what"), [(1, "starting"), (2, "starting"), (4, "warming up"), (9, "round 2 of 3")]
)
def test_who_fails_is_out_with_a_line_and_the_others_go_on(line: int, what: str) -> None:
    found, _, made = played({OURS: 0.5, PEER: 0.5}, {PEER: line})
    assert [one.name for one in found.measured] == ["torch"]
    assert found.failed == {PEER: f"{what}: out of memory"}
    assert len(found.measured[0].turns) == 3 and found.is_sound
    assert made[PEER].is_closed and made[OURS].is_closed


def test_where_all_fail_there_is_a_result_and_it_is_not_sound() -> None:
    found, _, _ = played({OURS: 0.5}, {OURS: 1})
    assert found.measured == () and not found.is_sound


def test_an_interruption_closes_every_line() -> None:
    made: list[Line] = []

    class Interrupted(Line):
        def ask(self, told):  # type: ignore[no-untyped-def]
            if self.steps:
                raise KeyboardInterrupt
            return super().ask(told)

    def open_line(entry: Entry) -> Line:
        made.append(Interrupted([], entry.name, 0.1))
        return made[-1]

    with pytest.raises(KeyboardInterrupt):
        measure(asked(), [OURS, PEER], open_line=open_line)
    assert len(made) == 2 and all(line.is_closed for line in made)


def test_a_bar_moves_as_often_as_it_is_long() -> None:
    told: list[str] = []
    entries = [OURS, PEER]
    measure(asked(), entries, (), told.append, lambda entry: Line([], entry.name, 0.1))
    assert len(told) == ticks(asked(), entries)


def test_what_a_runtime_cannot_be_given_is_a_failure_before_it_is_written() -> None:
    rule = "^precision = bfloat16: onnx is written in float32$"
    with pytest.raises(FailedError, match=rule), exported(asked(precision="bfloat16"), "onnx"):
        raise AssertionError("nothing is written")


@pytest.mark.parametrize("seconds", [-1.0, 3601.0, 1e300, float("inf"), float("nan")])
def test_nobody_is_warmed_up_for_ever(seconds: float) -> None:
    with pytest.raises(BackendError, match=r"^--seconds = .*: must be a positive number"):
        asked(seconds=seconds)
    assert asked(seconds=3600.0).seconds == 3600.0


def test_numbers_that_break_a_rule_are_all_named() -> None:
    with pytest.raises(BackendError) as raised:
        asked(
            batch=0, rounds=-1, threads=0, starts=0, seconds=0.0, mode="trian", precision="float33"
        )
    assert list(raised.value.problems) == [
        "--mode = trian: must be train or predict; did you mean 'train'?",
        "--precision = float33: must be float32, float64, bfloat16 or float16; "
        "did you mean 'float32'?",
        "--batch = 0: must be >= 1",
        "--threads = 0: must be >= 1",
        "--rounds = -1: must be >= 1",
        "--starts = 0: must be >= 1",
        "--seconds = 0: must be a positive number of at most 3600",
    ]


def test_everyone_is_started_a_few_times_at_the_most() -> None:
    assert asked().starts == 1 and asked(starts=20).starts == 20
    with pytest.raises(BackendError, match=r"^--starts = 21: must be <= 20$"):
        asked(starts=21)


def test_a_batch_that_no_recipe_can_have_is_refused_before_anything_is_started() -> None:
    assert asked(batch=10**9).batch == 10**9
    with pytest.raises(BackendError, match=r"^--batch = 1000000001: must be <= 1000000000$"):
        asked(batch=10**9 + 1)
