"""Processes meet once, and stay met: from one run to the next, until this one ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from several import run_several

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError, LostError
from resnet_spec.group import ALONE, Group
from resnet_spec.loader import installed_backends
from resnet_spec.running import meeting

GROUP = Group(1, 2, "localhost:1")
TWICE = """
import json, sys
import resnet_spec

spec = {
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
settings = ["steps=2", "batch=360"]
for seed in (0, 1):
    found = resnet_spec.train(
        spec, backend=sys.argv[1], input_size=8, out=f"{sys.argv[2]}/{seed}",
        settings=[*settings, f"seed={seed}"], say=lambda line: None,
    )
    print("complete", found.complete)
"""


# --- In a process ---------------------------------------------------------------------------------


class Groups:
    """Backends whose `join` and `leave` are written down."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def load(self, backend: str) -> Any:
        more: dict[str, Any] = {"is_met": lambda group: True} if backend == "c" else {}
        if backend == "d":
            more["prepare"] = lambda group: self.said.append(f"prepare d {group.rank}")
        return SimpleNamespace(join=lambda group: self._join(backend, group), **more)

    def call_roll(self, group: Group, things: Mapping[str, str], seconds: float) -> None:
        self.said.append(f"meet {things['backend']} {group.rank}")

    def _join(self, backend: str, group: Group) -> Any:
        self.said.append(f"join {backend} {group.rank}")
        return SimpleNamespace(
            gather=self._gathered,
            leave=lambda: self.said.append(f"leave {backend}"),
            stumbles=backend == "a",
            end=lambda: self.said.append(f"end {backend}"),
        )

    @staticmethod
    def _gathered(values: Array) -> Array:
        return np.stack([values, values])


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    made = Groups()
    monkeypatch.setattr(meeting, "load_backend", made.load)
    monkeypatch.setattr(meeting, "meet", made.call_roll)
    monkeypatch.setattr(meeting, "_called", set())
    monkeypatch.setattr(meeting, "_failures", [])
    monkeypatch.setattr(meeting, "_met", {})
    monkeypatch.setattr(meeting, "_stumbling", [])
    monkeypatch.setattr(meeting.atexit, "register", lambda action: None)
    yield made


def test_a_group_is_joined_once_and_left_once(groups: Groups) -> None:
    for _ in range(2):
        with meeting.joined("a", GROUP) as together:
            assert together.any(True) and together.group is GROUP
    meeting.leave()
    meeting.leave()
    assert groups.said == ["meet a 1", "join a 1", "leave a"]


def test_nobody_is_met_by_a_process_that_is_alone(groups: Groups) -> None:
    with meeting.joined("a", ALONE) as together:
        assert together.is_first
    meeting.leave()
    assert groups.said == []


@pytest.mark.parametrize(
    ("backend", "group", "words"),
    [
        ("b", GROUP, ["meet b 1", "join b 1"]),
        ("a", Group(0, 2, "localhost:1"), ["meet a 0", "join a 0"]),
        ("d", GROUP, ["prepare d 1", "meet d 1", "join d 1"]),
        # Where all are together already, or another listens, there is no other meeting.
        ("c", GROUP, ["join c 1"]),
        ("a", Group(1, 2, "localhost:1", served_by="torchrun"), ["join a 1"]),
    ],
)
def test_another_group_is_joined_when_the_first_is_left(
    backend: str, group: Group, words: list[str], groups: Groups
) -> None:
    for each in (("a", GROUP), (backend, group)):
        with meeting.joined(*each):
            pass
    assert groups.said == ["meet a 1", "join a 1", "leave a", *words]


def test_things_are_said_in_short_words(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[Mapping[str, str]]()
    monkeypatch.setattr(meeting, "meet", lambda group, things, seconds: heard.append(things))
    for network in ({"widths": [4] * 99}, {"widths": [4] * 99}, {"widths": [5]}):
        with meeting.joined("a", GROUP, {"network": network, "backend": "a"}):
            pass
        meeting.leave()
    one, two, other = heard
    assert list(one) == ["version", "backend", "network"] and one["backend"] == "a"
    assert one == two and one["network"] != other["network"]
    assert all(len(word) < 20 for word in one.values())


def test_a_process_that_fails_says_no_goodbye(groups: Groups) -> None:
    with pytest.raises(BackendError), meeting.joined("a", GROUP):
        raise BackendError("x")
    meeting.leave()
    assert groups.said == ["meet a 1", "join a 1"]


def test_one_that_went_on_after_an_error_of_all_does(groups: Groups) -> None:
    with pytest.raises(BackendError), meeting.joined("a", GROUP):
        raise BackendError("a rule that all of them broke")
    with meeting.joined("a", GROUP):
        pass
    meeting.leave()
    assert groups.said == ["meet a 1", "join a 1", "leave a"]


def test_a_program_with_an_error_says_no_goodbye(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a prompt, or printed by a framework as it is loaded: what came after it went well.
    monkeypatch.setattr(sys, "last_value", before := ValueError(), raising=False)
    with meeting.joined("a", GROUP):
        pass
    monkeypatch.setattr(sys, "last_value", ValueError())
    meeting._leave_at_the_end()
    assert groups.said == ["meet a 1", "join a 1"]
    monkeypatch.setattr(sys, "last_value", before)
    meeting._leave_at_the_end()
    assert groups.said == ["meet a 1", "join a 1", "leave a"]


def test_who_is_gone_at_the_end_is_not_told_of(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise LostError("rank 0: is gone")

    with meeting.joined("a", GROUP):
        meeting._met["a"].members.leave = gone  # type: ignore[method-assign]
    meeting._leave_at_the_end()
    assert groups.said == ["meet a 1", "join a 1"]


@pytest.mark.parametrize(("backend", "ends"), [("a", [3]), ("b", [])])
def test_a_command_ends_at_once_where_a_framework_stumbles(
    backend: str, ends: list[int], groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = list[int]()
    monkeypatch.setattr(meeting.os, "_exit", ended.append)
    meeting.end_of_command(3)
    with meeting.joined(backend, GROUP):
        pass
    meeting.end_of_command(3)
    assert ended == []
    meeting.leave()
    meeting.end_of_command(3)
    said = [f"meet {backend} 1", f"join {backend} 1", f"leave {backend}"]
    assert ended == ends and groups.said == said + ([f"end {backend}"] if ends else [])


# --- In several -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[] if name == "torch" else pytest.mark.thorough)
        for name in ("torch", "flax", "mindspore")
        if name in installed_backends()
    ],
)
def test_two_runs_in_one_program(backend: str, tmp_path: Path) -> None:
    program = tmp_path / "twice.py"
    program.write_text(TWICE)
    for status, text in run_several(2, [str(program), backend, str(tmp_path)], seconds=240):
        assert status == 0, text
        assert text.splitlines() == ["complete True"] * 2
    found = [json.loads((tmp_path / str(seed) / "summary.json").read_text()) for seed in (0, 1)]
    assert found[0]["final_test_loss"] != found[1]["final_test_loss"]
