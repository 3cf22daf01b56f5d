"""Words that one process cannot read, and a launcher's, are told to the other processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from several import free_port

from resnet_spec.cli import main as cli
from resnet_spec.cli import saying
from resnet_spec.errors import BackendError, DataError, SpecError, UsageError
from resnet_spec.group import Group
from resnet_spec.running import meeting
from resnet_spec.running.roll_call import Failure, meet
from resnet_spec.running.under_launcher import speaks_for_machine

LONG = 20.0
"""Seconds that nobody waits here who is told."""


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def first(address: str) -> Iterator[Future[str]]:
    """The first line that rank 0 of two is told, which waits for the other."""

    def told() -> str:
        with pytest.raises(BackendError) as caught:
            meet(Group(0, 2, address), {}, LONG)
        return caught.value.problems[0]

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(told)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long this process tells, as it ends, what it has to; here it does not end."""
    seconds = list[float]()
    monkeypatch.setattr(meeting, "_called", set())
    monkeypatch.setattr(meeting, "_failures", list[Failure]())
    monkeypatch.setattr(meeting.atexit, "register", lambda action, told: seconds.append(told))
    for name in ("_rank", "_quiet"):
        monkeypatch.setattr(saying, name, getattr(saying, name))
    monkeypatch.setattr(cli, "_OTHERS_SPEAK_S", 0.1)
    return seconds


@pytest.mark.parametrize("words", [["train", "--sed", "3"], ["evaluate", "--batch", "x"]])
def test_words_that_cannot_be_read_are_told(
    words: list[str],
    waits: list[float],
    address: str,
    first: Future[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, _, port = address.rpartition(":")
    named = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": host, "MASTER_PORT": port}
    monkeypatch.setattr(os, "environ", {**os.environ, **named})
    assert cli.main(words) == 2
    meeting.tell_others(LONG)
    assert waits == [20.0] and meeting._failures == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"resnet-spec: error: {first.result(5)}"
    assert first.result().startswith("rank 1: ") and words[1] in first.result()


def test_words_of_a_process_that_is_alone_are_told_to_nobody(
    waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--sed", "3"]) == 2
    assert waits == [] and meeting._failures == []
    assert capsys.readouterr().err.startswith("resnet-spec: error: --sed: unknown option")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--", "train", "--sed", "3"], "--sed: unknown option; did you mean '--set'?; see: "),
        (["--", "trian"], "launch = trian: is no command; did you mean 'train'?"),
        ([], "launch: is given no command; end with: -- train SPEC ..."),
    ],
)
def test_a_launcher_tells_the_other_machine(
    words: list[str], line: str, waits: list[float], address: str, first: Future[str]
) -> None:
    where = ["--processes", "1", "--nodes", "2", "--rank", "1", "--address", address]
    assert cli.main(["launch", *where, *words]) == 2
    meeting.tell_others(LONG)
    assert waits == [1.0] and meeting._failures == []
    assert first.result(5).startswith(f"rank 1: {line}")


def test_a_launcher_of_one_machine_has_nobody_to_tell(waits: list[float]) -> None:
    assert cli.main(["launch", "--processes", "2", "--", "train", "--sed", "3"]) == 2
    assert waits == []


@pytest.mark.parametrize(
    ("error", "environment", "seconds"),
    [
        (SpecError("x"), {"RESNET_SPEC_LAUNCHER": "1"}, 1.0),
        (SpecError("x"), {}, 20.0),
        # It may be so on this machine alone, and the others are on their way.
        (DataError("x"), {"RESNET_SPEC_LAUNCHER": "1"}, 20.0),
    ],
)
def test_what_a_launcher_gives_to_all_is_told_at_once(
    error: Exception,
    environment: dict[str, str],
    seconds: float,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", environment)
    with pytest.raises(type(error)), meeting.expected(Group(0, 2, "localhost:1")):
        raise error
    assert waits == [seconds]


def test_a_launcher_s_own_words_are_told_at_once(waits: list[float]) -> None:
    with pytest.raises(UsageError), meeting.expected(Group(1, 2, "localhost:1"), launches=True):
        raise UsageError("x")
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({"LOCAL_RANK": "0"}, False),  # Who started it shows what rank 0 says.
        ({"LOCAL_RANK": "0", "RESNET_SPEC_LAUNCHER": "1"}, True),
        ({"LOCAL_RANK": "1", "RESNET_SPEC_LAUNCHER": "1"}, False),
    ],
)
def test_the_first_process_of_a_launcher_speaks_for_its_machine(
    environment: dict[str, str], speaks: bool
) -> None:
    assert speaks_for_machine(environment) == speaks
