"""The process of a contestant: what it answers, how it ends, that it takes nothing meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bench_cases import SLEEP_S, asked, broken, late, number, sleeper

from resnet_spec.bench import Case, Contestant, Product
from resnet_spec.benchmarking import making
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.making import Made
from resnet_spec.benchmarking.process import FailedError, WorkerProcess
from resnet_spec.benchmarking.worker import Clock, Worker, quiet, serve

HERE = Path(__file__).parent


class Time:
    """Time that only what is asked of it moves: wall and processors."""

    def __init__(self) -> None:
        self.wall = self.processors = 0.0
        self.busy = 0.0

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.processors += self.busy * seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.processors, self.sleep)

    def made(self, step_s: float = 2.0) -> Made:
        def turn(steps: int) -> None:
            self.wall += step_s * steps
            self.processors += 2 * step_s * steps

        return Made(Contestant(turn), Product(10, turn), lambda: 3_000_000)


def test_a_turn_is_timed_and_what_was_taken_meanwhile_is_told() -> None:
    now = Time()
    worker = Worker(now.made(), now.clock())
    now.wall, now.processors = 5.0, 0.5
    found = worker.answer({"turn": 3})
    assert found["seconds"] == 6.0 and found["processor_s"] == 12.0
    assert (found["waited_s"], found["idle_s"]) == (5.0, 0.5)
    assert found["device_mb"] == 3.0 and found["is_quiet"]
    answered = now.wall
    now.wall += 4.0
    found = worker.answer({"product": 2})
    assert found["seconds"] == 4.0 and found["waited_s"] == 4.0 and found["idle_s"] == 0.0
    assert answered == 5.0 + 6.0 + 0.02, "it looked once whether its threads are quiet"


def test_an_answer_waits_until_threads_are_quiet_but_not_for_ever() -> None:
    now = Time()
    now.busy = 1.0
    assert not quiet(now.clock()) and now.wall == pytest.approx(1.0, abs=0.05)
    now.busy = 0.01
    assert quiet(now.clock())


def said(*lines: str, made: Any = None) -> tuple[int, list[dict[str, Any]]]:
    """Return the status and the answers of a worker in this process."""
    answers: list[dict[str, Any]] = []
    give = made or (lambda told: Made(Contestant(lambda steps: None), None, lambda: None))
    return serve(lines, answers.append, give), answers


def test_lines_are_answered_one_by_one_to_the_end() -> None:
    status, answers = said("{}", '{"turn": 2}', '{"end": true}', '{"turn": 1}')
    assert status == 0 and len(answers) == 3
    assert answers[0] == {"info": {}, "product": None, "can_profile": False}
    assert set(answers[2]) == {"waited_s", "idle_s"}
    assert said()[0] == 0, "who is told nothing ends, too"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", "JSONDecodeError: Expecting value"),
        ("[1]", "ValueError: [1]: is no table"),
        ('{"turn": 0}', 'ValueError: {"turn": 0}: is nothing that a worker does'),
        ('{"turn": "3"}', "is nothing that a worker does"),
        ('{"trun": 3}', "is nothing that a worker does"),
        ('{"product": 3}', "is nothing that a worker does"),
    ],
)
def test_what_cannot_be_understood_is_a_failure_in_one_line(line: str, told: str) -> None:
    status, answers = said("{}", line, '{"turn": 1}')
    assert status == 1 and len(answers) == 2
    assert told in answers[1]["failed"] and "\n" not in answers[1]["failed"]


def test_what_came_of_something_else_is_told_by_that() -> None:
    def made(told: object) -> Made:
        try:
            raise RuntimeError("the first reason")
        except RuntimeError as error:
            raise ImportError("see elsewhere") from error

    assert said("{}", made=made)[1] == [{"failed": "RuntimeError: the first reason"}]


async def in_a_while(steps: int) -> None:
    """Take a turn that has only begun when it returns."""


def by_steps(steps: int) -> Iterator[int]:
    yield from range(steps)


@pytest.mark.parametrize(
    ("turn", "kind"),
    [(in_a_while, "coroutine"), (by_steps, "generator")],
    ids=["coroutine", "generator"],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_turn_that_has_not_begun_is_no_turn(turn: Any, kind: str) -> None:
    status, answers = said(
        "{}", '{"turn": 3}', made=lambda told: Made(Contestant(turn), None, lambda: None)
    )
    rule = f"ValueError: turn(3) gave a {kind}: has to take the steps, and be done"
    assert (status, answers[1:]) == (1, [{"failed": rule}])


def test_what_a_peer_says_is_a_line_that_moves_no_terminal() -> None:
    def loud(steps: int) -> None:
        raise RuntimeError("\x1b[31mred\nand\x07 more")

    info = {"de\nvice": "c\x1bpu"}
    made = Made(Contestant(loud, info=info), None, lambda: None)
    _, answers = said("{}", '{"turn": 1}', made=lambda told: made)
    assert answers[0]["info"] == {"de vice": "cpu"}
    assert answers[1] == {"failed": "RuntimeError: [31mred and more"}


def task(factory: str) -> dict[str, Any]:
    entry = Entry(f"bench_cases:{factory}", make=f"bench_cases:{factory}")
    return {"asked": asked().to_dict(), "entry": asdict(entry)}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    paths = [str(HERE), str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    with WorkerProcess(threads=1) as process:
        yield process
    assert not is_there(process.pid)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_takes_the_turns_that_it_is_told_to(worker: WorkerProcess) -> None:
    assert worker.ask(task("sleeper")) == {"info": {}, "product": None, "can_profile": False}
    found = worker.ask({"turn": 5})
    assert found["seconds"] >= 5 * SLEEP_S, "it cannot have slept for less"
    assert found["processor_s"] < found["seconds"] and found["memory_mb"] > 1
    time.sleep(1.0)
    ended = worker.ask({"end": True})
    assert ended["waited_s"] >= 1.0 and ended["idle_s"] < 0.02, "a waiting one does nothing"


def test_threads_that_go_on_are_seen(worker: WorkerProcess) -> None:
    worker.ask(task("spinner"))
    assert not worker.ask({"turn": 1})["is_quiet"]
    time.sleep(0.5)
    ended = worker.ask({"end": True})
    assert ended["idle_s"] > 0.1 * ended["waited_s"]


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("broken", "ValueError: has no such network"),
        ("number", "--against = bench_cases:number: gives a int, and must give a function"),
        ("nothing", "--against = bench_cases:nothing: bench_cases has no nothing"),
    ],
)
def test_who_cannot_be_made_says_so_in_a_line(
    worker: WorkerProcess, factory: str, line: str
) -> None:
    with pytest.raises(FailedError, match="^" + line):
        worker.ask(task(factory))


def test_a_turn_that_fails_says_so_in_a_line(worker: WorkerProcess) -> None:
    worker.ask(task("late"))
    worker.ask({"turn": 1})
    with pytest.raises(FailedError, match=r"^MemoryError: out of memory$"):
        worker.ask({"turn": 1})


def test_a_process_that_is_killed_is_told_of(worker: WorkerProcess) -> None:
    worker.ask(task("sleeper"))
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(FailedError, match=r"ended by SIGKILL \(out of memory\?\)"):
        worker.ask({"turn": 1})


def test_a_process_that_ends_by_itself_is_told_of_by_its_last_word() -> None:
    told = pytest.raises(FailedError, match=r"ended with status 1: .*No module named")
    with WorkerProcess(threads=1, module="no_such_module") as process, told:
        process.ask({"turn": 1})


def test_another_network_than_the_plan_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(case: Case) -> Contestant:
        return Contestant(sleeper(case), params=case.plan.classes)

    monkeypatch.setattr(making, "load_function", lambda target: factory)
    rule = r"has 2 trainable values, and tiny \d+: it is another network"
    with pytest.raises(Exception, match=rule):
        making.make(asked(), Entry("a:b", make="a:b"))


def test_all_are_given_the_same_images_and_weights() -> None:
    case, again = asked().case(), asked().case()
    assert (case.images() == again.images()).all() and case.images().dtype == "uint8"
    normalised = case.normalised()
    assert normalised.dtype == "float32" and normalised.shape == case.images().shape == (4, 8, 8, 3)
    given = case.plan.input
    by_hand = (case.images()[0, 0, 0] / 255 - given.mean) / given.std
    assert normalised[0, 0, 0] == pytest.approx(by_hand, rel=1e-5)
    assert set(case.labels()) <= {0, 1} and len(case.labels()) == 4


def test_the_factories_here_are_what_the_tests_say() -> None:
    case = asked().case()
    with pytest.raises(ValueError):
        broken(case)
    assert number(case) == 3 and callable(late(case))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_who_is_ended_leaves_no_process(number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent is gone")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from bench_cases import asked, OWN\n"
        "from resnet_spec.benchmarking.entries import Entry\n"
        "from resnet_spec.benchmarking import rounds\n"
        "opened = rounds._opened\n"
        "def told(asked):\n"
        "    def open_line(entry):\n"
        "        line = opened(asked)(entry); print(line.pid, flush=True); return line\n"
        "    return open_line\n"
        "rounds._opened = told\n"
        "from resnet_spec.running.interruption import tidy_on_sigterm\n"
        "entry = Entry('s', make='bench_cases:endless')\n"
        "with tidy_on_sigterm():\n"
        "    rounds.measure(asked(rounds=100000), [entry], (), lambda what: None)\n"
    )
    paths = [str(HERE), str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(1.0)
        process.send_signal(number)
        assert process.wait(30) == -number
    end = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < end:  # Whoever adopts it has to see it go.
        time.sleep(0.05)
    assert not is_there(pid)


def test_answers_are_all_that_is_on_the_standard_output(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import os, sys\ndef make(case):\n    print('hello')\n    os.system('echo there; cat')\n"
        "    return lambda steps: print('turn', sys.stdin.read(), 'read')\n"
    )
    entry = asdict(Entry("loud:make", make="loud:make"))
    told = [{"asked": asked().to_dict(), "entry": entry}, {"turn": 1}, {"end": True}]
    command = [sys.executable, "-m", "resnet_spec.benchmarking.worker"]
    text = "\n".join(map(json.dumps, told))
    done = subprocess.run(command, input=text, cwd=tmp_path, capture_output=True, text=True)
    assert [set(json.loads(line)) >= {"failed"} for line in done.stdout.splitlines()] == [False] * 3
    assert "hello" in done.stderr and "there" in done.stderr
    assert "turn  read" in done.stderr, "there is nothing to be read but the end"
