"""What a comparison says of times, of processes that ended, and of who holds its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resnet_spec.comparing import tables
from resnet_spec.comparing.grid_lock import locked
from resnet_spec.comparing.number_text import duration
from resnet_spec.comparing.statistics import Difference, Key, Sample
from resnet_spec.comparing.tables import _difference_notes
from resnet_spec.errors import GridError
from resnet_spec.running.child_processes import signal_name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (119.94, "119.9 s"),
        (120.0, "2.0 min"),
        (7199.0, "120.0 min"),
        (7200.0, "2.00 h"),
    ],
)
def test_a_time_is_in_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_signals_are_called_by_their_names_where_they_have_one() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(9) == "SIGKILL (out of memory?)"
    assert signal_name(250) == "signal 250"


def test_who_holds_the_folder_is_named(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(GridError, match=rf" \(process {os.getpid()} .*\); wait for them"),
        locked(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("values", "p", "says_why"),
    [((0.01, 0.02), 0.3, False), ((0.01, 0.01), None, True), ((0.01,), None, False)],
)
def test_why_there_is_no_p_is_said_where_seeds_should_give_one(
    values: tuple[float, ...], p: float | None, says_why: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "has_scipy", lambda: True)
    one = Key(*"abcd"[: len(Key._fields)])
    notes = " ".join(_difference_notes([Difference(one, one, Sample(values), p)]))
    assert ("p is not defined where all seeds" in notes) == says_why
