"""Long work is never silent: a line every half minute, with a clock that tests move."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress

from resnet_spec.cli import saying
from resnet_spec.cli.main import COMMANDS, main, parser_of
from resnet_spec.cli.progress import TrainingBar, training_columns
from resnet_spec.printing.activity import Pulse, doing, heard
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.progress import first_step_text
from resnet_spec.running.runs import Position


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_half_minute_of_silence() -> None:
    clock, said = Clock(), list[str]()
    pulse = Pulse(said.append, clock=clock)
    with doing("compiling"):
        for clock.now in range(0, 41, 10):
            pulse.beat()
    assert said == ["compiling, 30 s"]
    with doing("decoding images", 60_000) as activity:
        activity.advance(12_000)
        clock.now = 60
        pulse.beat()
        with doing("inner"):
            clock.now = 90
            pulse.beat()
        clock.now = 130
        pulse.beat()
    clock.now = 4000
    pulse.beat()
    assert said[1:] == [
        "decoding images, 12,000 of 60,000, 1 min 0 s",
        "inner, 1 min 30 s",
        "decoding images, 12,000 of 60,000, 2 min 10 s",
        "at work, 1 h 6 min",
    ]


def test_what_is_printed_elsewhere_breaks_the_silence() -> None:
    clock, said = Clock(), list[str]()
    pulse = Pulse(said.append, clock=clock)
    with pulse.running():
        clock.now = 29
        heard()
        clock.now = 58
        assert pulse.beat() == pytest.approx(1)
    assert said == []


def test_what_a_screen_shows_needs_no_line() -> None:
    clock, said = Clock(), list[str]()
    pulse = Pulse(said.append, clock=clock)
    with doing("training", is_shown=True):
        clock.now = 31
        pulse.beat()
    assert said == []


def test_the_thread_beats_and_ends() -> None:
    beaten = threading.Event()
    with Pulse(lambda line: beaten.set(), every=0.01).running():
        assert beaten.wait(10)
    assert "pulse" not in [thread.name for thread in threading.enumerate()]


EPOCH = Epoch(1, 10, 0.1, 2.0, 0.25, None, None, 100.0, 1.0)


def test_training_says_that_it_compiles_then_where_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, said = Clock(), list[str]()
    pulse = Pulse(said.append, clock=clock)
    with TrainingBar(total_steps=1000, epochs=10, start=0) as bar:
        clock.now = 40
        pulse.beat()
        bar.chunk(Position(step=10, loss_sum=20.0, correct=3, count=10), speed=123.4)
        clock.now = 70
        pulse.beat()
        bar.epoch(EPOCH)
    assert said == [
        "compiling, 40 s",
        "training, step 10 of 1,000, loss 2.0000, accuracy 0.3000, 123 images/s, 1 min 10 s",
    ]
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == "epoch  1/10  train loss 2.0000, accuracy 0.2500  100 images/s\n"


@pytest.mark.parametrize(
    ("backend", "compile", "text"),
    [
        ("flax", False, "compiling"),
        ("mindspore", False, "compiling"),
        ("torch", True, "compiling"),
        ("torch", False, "first step"),
        ("numpy", True, "first step"),
    ],
)
def test_a_first_step_is_called_compiling_where_it_is(
    backend: str, compile: bool, text: str
) -> None:
    assert first_step_text(backend, compile=compile) == text


def test_the_bar_moves_until_the_first_step_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("resnet_spec.cli.progress.progress_console", lambda: console)
    with TrainingBar(1000, 10, 120, "first step") as bar:
        (column,) = [c for c in bar._progress.columns if isinstance(c, BarColumn)]
        (task,) = bar._progress.tasks
        assert column.render(task).pulse
        assert task.fields["numbers"] == "first step" and task.completed == 120
        bar.chunk(Position(step=121, loss_sum=20.0, correct=3, count=10), speed=0.0)
        assert not column.render(task).pulse
        assert task.fields["numbers"] == "loss 2.0000  accuracy 0.3000" and task.completed == 121


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_keeps_loss_accuracy_and_time(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    with Progress(*training_columns(width), console=console, auto_refresh=False) as bar:
        numbers = "loss 2.3012  accuracy 0.1234" + "  12345 images/s" * (width >= 110)
        bar.add_task("x", total=64_000, completed=12_000, numbers=numbers)
        bar.refresh()
    line = [line for line in screen.getvalue().splitlines() if "loss" in line][-1]
    assert numbers in line and "0:00:00 left" in line and "…" not in line
    assert ("12000/64000" in line) == (width >= 80)


@pytest.mark.parametrize("width", [109, 110])
def test_the_bar_tells_the_speed_from_the_width_that_has_room(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr("resnet_spec.cli.progress.progress_console", lambda: console)
    with TrainingBar(total_steps=1000, epochs=10, start=0) as bar:
        bar.chunk(Position(step=10, loss_sum=20.0, correct=3, count=10), speed=123.4)
    assert ("123 images/s" in screen.getvalue()) == (width == 110)


def test_what_breaks_a_silence_goes_to_the_error_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with saying.listen(False):
        saying._pulse("at work, 30 s")
    assert capsys.readouterr() == ("", "at work, 30 s\n")


def test_quiet_keeps_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        with saying.listen(True):
            saying.say("progress")
            saying.tell(["assumed"])
            with TrainingBar(10, 1, 0) as bar:
                bar.epoch(EPOCH)
        assert capsys.readouterr() == ("", "")
        with saying.listen(False):
            saying.tell(["assumed"])
            saying.tell(["found"], errors=True)
        assert capsys.readouterr() == ("note: assumed\n", "note: found\n")
    finally:
        saying.listen(False)


def test_a_quiet_run_prints_its_result_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    argv = ["train", "resnet20_cifar", "--backend", "numpy", "--input-size", "8"]
    small = ["--set", "stages[0].blocks=1", "--set", "stages[1].blocks=1", "--set", "steps=1"]
    more = ["--set", "stages[2].blocks=1", "--set", "batch=2", "--data", "digits"]
    assert main([*argv, *small, *more, "--out", f"{tmp_path}/run", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith("best of the test images ")
    assert shown.out.count("\n") == 1


def test_every_command_that_says_more_can_be_quiet() -> None:
    for name in COMMANDS:
        parser = parser_of(name)
        for one in parser.inner().values() or [parser]:
            has = any("--quiet" in action.option_strings for action in one._actions)
            assert has == (name not in ("list", "describe", "schema", "completion")), one.prog
