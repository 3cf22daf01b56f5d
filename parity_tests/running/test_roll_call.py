"""Processes meet before their framework's engine does, or say at once who does not fit."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from several import ended, environments, free_port
from tiny_run import TINY

from resnet_spec.cli import main as cli
from resnet_spec.errors import BackendError, DataError, LostError
from resnet_spec.group import Group
from resnet_spec.loader import installed_backends
from resnet_spec.running import hellos, meeting, roll_call
from resnet_spec.running.roll_call import Failure, NotTogetherError, meet, tell

SAME = {"version": "1.0", "backend": "torch", "recipe": "a"}
QUICK = 0.3
"""Seconds that those wait whom somebody does not meet."""
LONG = 20.0
"""Seconds that nobody waits here who is told."""


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def told(group: Group, things: Mapping[str, str] = SAME, seconds: float = LONG) -> list[str]:
    """Return the lines that a process hears as it meets the others, [] where all is well."""
    try:
        meet(group, things, seconds)
    except BackendError as error:
        return list(error.problems)
    return []


def met(
    groups: Sequence[Group], things: Sequence[Mapping[str, str]] = (), seconds: float = LONG
) -> list[list[str]]:
    """Return what each is told as they meet."""
    with ThreadPoolExecutor(len(groups)) as pool:
        return list(pool.map(told, groups, things or [SAME] * len(groups), [seconds] * len(groups)))


def ranks(size: int, address: str) -> list[Group]:
    return [Group(rank, size, address, rank) for rank in range(size)]


def connected(address: str) -> socket.socket:
    """Return a connection of somebody to rank 0, once it listens."""
    return hellos.reached(Group(1, 2, address), time.monotonic() + 10)


# --- Who is there ---------------------------------------------------------------------------------


def test_processes_meet_at_once(address: str) -> None:
    start = time.monotonic()
    assert met(ranks(3, address)) == [[]] * 3
    assert met(ranks(3, address)[::-1]) == [[]] * 3  # The port is free again.
    assert time.monotonic() - start < 1


def test_who_is_missing_is_named_to_all(address: str) -> None:
    one, two, three = ranks(3, address)
    start = f"cannot meet the other 2 processes at {address}: "
    said = met([one, three], seconds=QUICK)
    assert said == [[f"rank {rank}: {start}rank 1 did not come"] for rank in (0, 2)]
    (alone,) = met([one], seconds=QUICK)
    assert alone == [f"rank 0: {start}ranks 1, 2 did not come"]
    ((line,),) = met([two], seconds=QUICK)
    assert line.startswith(f"rank 1: {start}rank 0 is not there (")
    ((line,),) = met([Group(1, 2, "no.such.host.invalid:1")], seconds=QUICK)
    assert line.startswith("rank 1: cannot meet the other process at no.such.host.invalid:1: ")


def test_a_rank_that_comes_twice_is_told_to_all(address: str) -> None:
    one, two, _ = ranks(3, address)
    line = "rank 1: two processes say that they are it; give each a rank of its own"
    assert met([one, two, two]) == [[line]] * 3


def test_two_that_say_that_they_are_the_first_are_told(address: str) -> None:
    first, second, _ = ranks(3, address)
    line = "rank 0: two processes say that they are it; give each a rank of its own"
    assert met([first, first, second]) == [[line]] * 3
    assert met([first, first]) == [[line]] * 2


def test_a_port_that_somebody_else_has_is_told_with_the_reason(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(roll_call, "HELLO_S", 0.2)
            ((line,),) = met([Group(0, 2, address)], seconds=QUICK)
    assert "Address already in use" in line


def test_another_size_is_told_to_both(address: str) -> None:
    line = "rank 1: in a group of 2 processes, and rank 0 in one of 3; start all as one group"
    found = met([Group(0, 3, address), Group(1, 2, address), Group(2, 3, address)])
    assert found == [[line]] * 3


def test_one_that_ends_while_it_waits_is_lost(address: str, pool: ThreadPoolExecutor) -> None:
    one, two, three = ranks(3, address)
    waiting = [pool.submit(meet, one, SAME, LONG)]
    with connected(address) as gone:
        hellos.send(gone, {"rank": two.rank, "size": 3, "things": SAME})
    waiting.append(pool.submit(meet, three, SAME, LONG))
    for each in waiting:
        with pytest.raises(LostError, match=r"^rank 1: ended before all were there$"):
            each.result(5)


def test_whoever_says_nothing_keeps_nobody_waiting(address: str, pool: ThreadPoolExecutor) -> None:
    one, two = ranks(2, address)
    waiting = pool.submit(told, one)
    with connected(address):
        start = time.monotonic()
        assert told(two) == waiting.result() == []
        assert time.monotonic() - start < 2


def test_whoever_else_calls_is_not_counted(address: str, pool: ThreadPoolExecutor) -> None:
    one, two = ranks(2, address)
    first = pool.submit(told, one)
    hello = {"rank": 1, "size": 2, "things": SAME}
    wrong = [{**hello, "rank": -1}, {**hello, "rank": "1"}, {**hello, "things": []}, {}]
    said = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9, b"", hellos._SIGN + b"99999999{"]
    said += [
        hellos._SIGN + b"%08d" % 9 + text for text in (b"[[[[[[[[[", b"\xff" * 9, b"[1, 2, 3]")
    ]
    for each in said:
        with connected(address) as stranger:
            stranger.sendall(each)
    for each in wrong:
        with connected(address) as stranger:
            hellos.send(stranger, each)
    assert told(two) == [] and first.result(5) == []


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3])
def test_something_else_that_answers_is_not_waited_for(
    words: bytes, pool: ThreadPoolExecutor
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        one = Group(1, 2, f"127.0.0.1:{other.getsockname()[1]}")
        line = pool.submit(told, one)
        with closing(other.accept()[0]) as asked:
            asked.recv(1)
            asked.sendall(words)
        (found,) = line.result(5)
        assert found.endswith("rank 0 gave up, or something else answers there")


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "HELLO_S", 0.2)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = told(Group(0, 2, f"127.0.0.1:{port}"))
    assert "Address already in use" in line and "\n" not in line


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_they_meet_by_ipv6(address: str) -> None:
    port = address.rpartition(":")[2]
    assert met([replace(each, address=f"[::1]:{port}") for each in ranks(2, address)]) == [[], []]


# --- What differs, and what fails -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "lines"),
    [
        (
            [{"backend": "flax"}, {"backend": "flax", "recipe": "b"}, {}],
            ["ranks 1, 2: compute with flax, and rank 0 with torch; start all with one backend"],
        ),
        (
            [{"backend": "flax"}, {"backend": "x"}, {}],
            [
                f"rank {rank}: computes with {word}, and rank 0 with torch; start all with one "
                "backend"
                for rank, word in ((1, "flax"), (2, "x"))
            ],
        ),
        (
            [{"recipe": "b"}, {}, {"recipe": "c"}],
            ["ranks 1, 3: have another recipe than rank 0; give all processes the same"],
        ),
        (
            [{}, {}, {"version": "2.0", "backend": "flax"}],
            ["rank 3: is resnet-spec 2.0, and rank 0 is 1.0; install one version"],
        ),
    ],
)  # fmt: skip
def test_what_differs_is_told_to_all(
    others: list[dict[str, str]], lines: list[str], address: str
) -> None:
    start = time.monotonic()
    assert met(ranks(4, address), [SAME, *({**SAME, **it} for it in others)]) == [lines] * 4
    assert time.monotonic() - start < 2


def test_a_failure_is_told_to_those_that_wait(address: str, pool: ThreadPoolExecutor) -> None:
    one, two, three = ranks(3, address)
    waiting = [pool.submit(told, each) for each in (one, three)]
    failed = Failure.of(two, ["--data = /d: is not\x1b[1m there", "rank 1: and more"])
    assert tell(failed, LONG) is None
    lines = ["rank 1: --data = /d: is not [1m there", "rank 1: and more"]
    assert [each.result(5) for each in waiting] == [lines] * 2


def test_the_same_failure_of_many_is_one_line(address: str, pool: ThreadPoolExecutor) -> None:
    one, *others = ranks(4, address)
    waiting = pool.submit(told, one)
    assert list(pool.map(tell, [Failure.of(it, ["no data"]) for it in others], [LONG] * 3))
    assert waiting.result(5) == ["ranks 1, 2, 3: no data"]


def test_rank_0_tells_those_that_come_later(address: str, pool: ThreadPoolExecutor) -> None:
    one, two, three = ranks(3, address)
    failed = Failure.of(one, ["rank 0: no data"])
    telling: Future[Failure | None] = pool.submit(tell, failed, LONG)
    assert told(two) == ["rank 0: no data"]
    assert tell(Failure.of(three, ["none"]), LONG) is None  # It has failed, too.
    assert telling.result(5) is None
    assert tell(failed, QUICK) == failed
    assert tell(Failure.of(two, ["x"]), QUICK) == Failure(two, ("x",), frozenset({0}))


def test_who_has_not_come_yet_is_left_to_be_told(address: str, pool: ThreadPoolExecutor) -> None:
    one, two, _ = ranks(3, address)
    first = pool.submit(meet, one, SAME, LONG)
    assert told(two, {**SAME, "recipe": "b"}) != []
    with pytest.raises(NotTogetherError) as caught:
        first.result(5)
    assert caught.value.unaware == {2}


def test_where_another_listens_there_is_nobody_to_tell() -> None:
    with socket.create_server(("", 0)) as taken:
        one, two = ranks(2, f"127.0.0.1:{taken.getsockname()[1]}")
        assert tell(failed := Failure.of(one, ["x"]), LONG) == failed
        taken.close()
        assert tell(Failure.of(two, ["x"]), QUICK) is not None


# --- Kept until the end of a process --------------------------------------------------------------


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Failure]:
    """What this process has to tell."""
    monkeypatch.setattr(meeting, "_called", set())
    monkeypatch.setattr(meeting, "_failures", [])
    monkeypatch.setattr(meeting.atexit, "register", lambda action, seconds: None)
    return meeting._failures


def test_what_fails_before_they_meet_is_kept(kept: list[Failure], address: str) -> None:
    one, two = ranks(2, address)
    with pytest.raises(DataError), meeting.expected(two):
        raise DataError("no data", "and no more")
    assert kept == [Failure(two, ("no data", "and no more"), frozenset({0}))]
    with pytest.raises(ZeroDivisionError), meeting.expected(one):
        raise ZeroDivisionError
    assert kept == [Failure(one, ("rank 0: ZeroDivisionError",), frozenset({1}))]


def test_nothing_is_kept_where_nobody_is_to_be_told(kept: list[Failure], address: str) -> None:
    one, two = ranks(2, address)
    meeting._called.add(one)
    for each in (one, replace(two, served_by="torchrun"), Group()):
        with pytest.raises(DataError), meeting.expected(each):
            raise DataError("no data")
    assert kept == []


def test_it_is_told_once(kept: list[Failure], address: str, pool: ThreadPoolExecutor) -> None:
    one, two = ranks(2, address)
    kept.append(Failure.of(two, ["no data"]))
    meeting.tell_others(QUICK)
    assert len(kept) == 1
    first = pool.submit(told, one)
    meeting.tell_others(LONG)
    assert kept == [] and first.result(5) == ["rank 1: no data"]
    meeting.tell_others(LONG)


def test_lines_begin_with_ranks_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "speaker", lambda: 3)
    cli._print_errors(["ranks 1, 3: x", "rank 1: y", "z"])
    start = "resnet-spec: error: "
    lines = [f"{start}ranks 1, 3: x", f"{start}rank 1: y", f"{start}rank 3: z"]
    assert capsys.readouterr().err.splitlines() == lines


# --- In processes that nobody supervises ----------------------------------------------------------


def trained(folder: Path, *each: Sequence[str]) -> list[tuple[int, str]]:
    """Return how processes end that are told what to train, a process for each list of words."""
    (folder / "tiny.toml").write_text(TINY)
    common = ["-P", "-m", "resnet_spec", "train", "tiny.toml", "--set", "steps=2"]
    popens = [
        subprocess.Popen(
            [sys.executable, *common, "--set", "batch=8", *words],
            cwd=folder, env={**told, "RESNET_SPEC_MEET_S": "200"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for words, told in zip(each, environments(len(each)), strict=True)
    ]  # fmt: skip
    return ended(popens, 150)


needs = pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")


@needs
@pytest.mark.skipif("flax" not in installed_backends(), reason="flax is not installed")
def test_two_backends_as_one_group_say_so(tmp_path: Path) -> None:
    line = (
        "resnet-spec: error: rank 1: computes with flax, and rank 0 with torch; start all with one "
        "backend\n"
    )
    ends = trained(tmp_path, ["--backend", "torch"], ["--backend", "flax"])
    assert [(status, said.endswith(line)) for status, said in ends] == [(2, True)] * 2, ends
    assert not (tmp_path / "runs").exists()


@needs
@pytest.mark.parametrize("wrong", [pytest.param(0, marks=pytest.mark.thorough), 1])
def test_bad_input_in_one_process_ends_the_other(wrong: int, tmp_path: Path) -> None:
    words = [["--backend", "torch"] for _ in range(2)]
    words[wrong] += ["--data", "/no/such/place"]
    start = time.monotonic()
    ends = trained(tmp_path, *words)
    assert time.monotonic() - start < 100  # Of the 200 that they would wait.
    lines = [said.splitlines()[-1] for _, said in ends]
    assert [status for status, _ in ends] == [2, 2], ends
    sign = f"resnet-spec: error: rank {wrong}: "
    assert lines[1 - wrong].startswith(sign) and "/no/such/place" in lines[1 - wrong], ends
    assert "/no/such/place" in lines[wrong]
