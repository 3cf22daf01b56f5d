"""Speeds and times: what they are of, and the records that are read back."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_spec.running import memory
from resnet_spec.running.progress import NotebookView
from resnet_spec.running.speed import Speed, speed_text
from resnet_spec.running.tracking.forwarding import Mark, _mark


def test_compiling_is_the_first_step_less_a_later_one() -> None:
    speed = Speed()
    assert (speed.compile_s, speed.images_per_second) == (None, 0.0)
    speed.add(64, 1, 5.0)
    assert (speed.compile_s, speed.images_per_second) == (None, 0.0)
    speed.add(64, 1, 2.0)
    speed.add(192, 3, 2.0)
    assert speed.compile_s == 5.0 - 4.0 / 4
    assert speed.images_per_second == 256 / 4.0


def test_compiling_never_takes_less_than_nothing() -> None:
    speed = Speed()
    speed.add(64, 1, 0.5)
    speed.add(64, 1, 2.0)
    assert speed.compile_s == 0.0


def test_what_is_left_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = SimpleNamespace(update=lambda *_, **__: None)
    shown: Any = SimpleNamespace(display=lambda *_, **__: handle)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    view = NotebookView(total_steps=130, epochs=1, start=10, first="first step")
    now += 40.0
    assert view._left(30) == "3:20"  # 20 of 120 steps took 40 s.


def test_a_mark_of_a_tracker_begins_at_nothing() -> None:
    assert _mark({"id": "a", "newer": 1}) == Mark("a", 0, False)


@pytest.mark.parametrize(("system", "megabytes"), [("linux", 3.072), ("darwin", 0.003)])
def test_the_system_says_its_peak_in_its_own_unit(
    system: str, megabytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=3000))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(sys, "platform", system)
    assert memory._by_rusage() == pytest.approx(megabytes)


def test_a_speed_that_nobody_measured_is_not_told() -> None:
    assert speed_text(1070.4, ", ") == ", 1070 images/s" and speed_text(0.0, ", ") == ""
