"""The range test of the learning rate: what it suggests, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.data.batches import train_batches
from resnet_spec.errors import RecipeError
from resnet_spec.loader import installed_backends
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.reporting.plots import rate_figure
from resnet_spec.running.job import job_of
from resnet_spec.running.opening import open_session
from resnet_spec.running.rate_range import Range, RateCurve, Values, curve_of, try_rates
from resnet_spec.running.request import Request

RATES = Range(1e-6, 10.0, 100).rates


def curve(losses: Any, rates: Values = RATES) -> RateCurve:
    found = curve_of(rates, np.asarray(losses, np.float64))
    assert found is not None
    return found


def falling(rates: Values, middle: float = 0.01) -> Values:
    """Return a loss that falls from 2.3 to 0.3, fastest at `middle`, and rises from 0.3 on."""
    steepness = 1.0 / (1.0 + (rates / middle) ** 1.5)
    return 0.3 + 2.0 * steepness + (rates / 0.3) ** 4 * 0.05


# --- The curve ------------------------------------------------------------------------------------


def test_rates_are_each_the_same_times_the_one_before() -> None:
    assert Range(1e-4, 1.0, 5 + 8).rates[[0, 3, 6, 9, 12]] == pytest.approx(
        [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    )


@pytest.mark.parametrize("middle", [1e-3, 1e-2, 5e-2])
def test_the_rate_is_where_the_loss_falls_fastest(middle: float) -> None:
    found = curve(falling(RATES, middle))
    assert found.suggested == pytest.approx(middle, rel=0.2)  # A step is a factor of 1.18.
    assert found.diverged is not None and 0.3 < found.diverged < 3.0
    assert found.rates[-1] == found.diverged


def test_a_tenth_is_of_the_rate_with_the_lowest_smoothed_loss() -> None:
    found = curve(falling(RATES))
    assert found.lowest is not None
    assert found.tenth == found.rates[found.smoothed.argmin()] / 10.0
    assert found.tenth is not None and found.suggested is not None
    assert found.steepest is not None and found.steepest < found.lowest


def test_noise_moves_the_rate_little() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.1, len(RATES))
    found = curve(falling(RATES) + noise)
    assert found.suggested == pytest.approx(0.01, rel=0.5)


def test_smoothing_shifts_nothing_and_keeps_a_constant() -> None:
    assert curve(np.full(100, 2.0)).smoothed == pytest.approx(np.full(100, 2.0), rel=1e-12)
    peak = np.full(100, 2.0)
    peak[50] = 1.0
    smoothed = curve(peak).smoothed
    assert smoothed.argmin() == 50
    assert smoothed[40:50] == pytest.approx(smoothed[60:50:-1], rel=1e-12)
    # A Gaussian of width 4 steps has 1 / (4 sqrt(2 pi)) in its middle.
    assert 2.0 - smoothed[50] == pytest.approx(1 / (4 * math.sqrt(2 * math.pi)), rel=1e-3)


def test_what_was_high_before_the_fall_is_not_cut() -> None:
    losses = np.r_[np.full(50, 2.3), np.full(45, 0.1), np.full(5, 5.0)]
    smoothed = curve(losses).smoothed
    assert smoothed[:30] == pytest.approx(np.full(30, 2.3), rel=1e-9)
    assert 0.1 < smoothed[-1] <= 2.3


@pytest.mark.parametrize("losses", [np.full(100, 2.0), np.linspace(2.0, 3.0, 100)])
def test_no_fall_no_rate(losses: Values) -> None:
    found = curve(losses)
    assert (found.suggested, found.tenth, found.still_falls) == (None, None, False)


def test_noise_alone_suggests_nothing() -> None:
    for seed in range(20):
        losses = 2.3 + np.random.default_rng(seed).normal(0.0, 0.2, 100)
        assert curve(losses).suggested is None, seed


def test_a_loss_that_falls_to_the_end_says_so() -> None:
    found = curve(np.linspace(2.0, 1.0, 100))
    assert found.still_falls and found.diverged is None
    assert not curve(falling(RATES)).still_falls


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_divergence_ends_it_and_is_no_part_of_the_curve_where_it_is_no_number(bad: float) -> None:
    losses = falling(RATES)[:60]
    losses[55] = bad
    found = curve(losses)
    assert found.diverged == RATES[55]
    assert len(found.losses) == (56 if math.isfinite(bad) else 55)
    assert np.isfinite(found.losses).all() and np.isfinite(found.smoothed).all()
    assert found.smoothed.max() < 10.0


def test_it_ends_when_all_rates_are_tried() -> None:
    assert curve_of(RATES, np.full(99, 2.0)) is None
    assert curve_of(RATES, np.full(100, 2.0)) is not None


@pytest.mark.parametrize(
    ("numbers", "lines"),
    [
        ((1.0, 0.1, 100), ["--low = 1: must be below --high = 0.1"]),
        ((0.1, 0.1, 100), ["--low = 0.1: must be below --high = 0.1"]),
        ((0.1, 1.0, 9), ["--steps = 9: must be from 10 to 10,000"]),
        ((0.0, 1.0, 10), ["--low = 0: must be a positive, finite number"]),
        ((math.nan, math.inf, 10), ["--low = nan: must be", "--high = inf: must be"]),
    ],
)
def test_ranges_that_are_none(numbers: tuple[float, float, int], lines: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        Range(*numbers)
    assert len(caught.value.problems) == len(lines)
    assert all(b.startswith(a) for a, b in zip(lines, caught.value.problems, strict=True))


# --- The command ----------------------------------------------------------------------------------

TO = ["--low", "1e-4", "--high", "1", "--steps", "24"]


def find(*more: str, backend: str = "numpy", out: str = "found") -> int:
    start = ["find-rate", "tiny.toml", "--backend", backend, "--input-size", "8", "--out", out]
    return main([*start, *TO, *more])


def record(out: str = "found") -> dict[str, Any]:
    return json.loads((Path(out) / "rates.json").read_text())


def test_it_trains_at_those_rates_and_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    status = find()
    shown = capsys.readouterr().out
    found = record()
    assert found["rate"] == Range(1e-4, 1.0, 24).rates.tolist()[: len(found["rate"])]
    assert sorted(path.name for path in (here / "found").iterdir()) == [
        "rates.json",
        "rates.png",
        "rates.svg",
    ]
    request = Request(spec="tiny.toml", backend="numpy", input_size=8, out="run")
    job = job_of(request, lambda line: None)
    run = job.run
    session = open_session("numpy", run.plan, run.recipe)
    session.load(initial_state(run.plan, run.recipe.seed))
    batches = train_batches(run.plan.noises, run.data.train, run.recipe, 0, 24)
    log = session.train(batches, Range(1e-4, 1.0, 24).rates)
    assert found["loss"] == log.loss.tolist()[: len(found["loss"])]
    assert status == (1 if found["suggested"] is None else 0)
    assert "24 rates from 0.0001 to 1, a step of 64 each" in shown
    assert shown.splitlines()[-1].endswith("left in found")


def test_the_figure_has_room_for_the_lowest_loss_and_none_for_one_that_has_diverged() -> None:
    pytest.importorskip("matplotlib")
    losses = falling(RATES)
    losses[40:42] = 0.01, 1e6
    found = curve(losses)
    low, high = rate_figure(found).axes[0].get_ylim()
    assert low < 0.01 and 2.3 < high < 10.0
    flat = rate_figure(curve(np.full(100, 2.0))).axes[0].get_ylim()
    assert flat[0] < 2.0 < flat[1]


def test_without_matplotlib_the_numbers_are_left_alone(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("rate_files", "plots"):  # The first one loads the other, and keeps its function.
        monkeypatch.setattr(f"resnet_spec.reporting.{module}.can_draw", lambda: False)
    assert find() in (0, 1)
    assert [path.name for path in (here / "found").iterdir()] == ["rates.json"]
    assert "note: no figure: matplotlib is not installed" in capsys.readouterr().out


def test_it_is_the_same_each_time_and_another_by_another_seed(here: Path) -> None:
    pytest.importorskip("matplotlib")
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert find("--set", f"seed={seed}", out=out) in (0, 1)
    for name in ("rates.json", "rates.png", "rates.svg"):
        assert (here / "a" / name).read_bytes() == (here / "b" / name).read_bytes()
    assert record("a")["loss"] != record("c")["loss"]


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_torch_finds_what_the_reference_finds(here: Path) -> None:
    more = ["--high", "0.1", "--steps", "16"]
    assert find(*more, out="a") == find(*more, backend="torch", out="b")
    a, b = record("a"), record("b")
    assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)
    assert b["suggested"] == a["suggested"]


def test_the_line_says_which_rate_is_which(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(job: Any, asked: Range, *more: Any) -> RateCurve:
        return curve(falling(asked.rates), asked.rates)

    monkeypatch.setattr("resnet_spec.running.rate_range.try_rates", tried)
    assert find("--low", "1e-6", "--high", "10", "--steps", "100") == 0
    found = record()
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"suggested rate {found['suggested']:.3g}, where the loss falls fastest; a tenth of that "
        f"where it is lowest: {found['tenth_of_lowest']:.3g}; diverged at {found['diverged']:.3g}; "
        "left in found"
    )
    assert found["suggested"] == pytest.approx(0.01, rel=0.2)


def test_a_range_without_effect_is_a_negative_finding(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find("--low", "1e-12", "--high", "1e-10") == 1
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown == (
        "no rate to suggest: the loss does not fall between 1e-12 and 1e-10; left in found"
    )
    assert record()["suggested"] is None


def test_a_loss_that_is_no_number_at_first_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"fc.bias": np.full(10, np.nan, np.float32)}

    def state(plan: Any, seed: int) -> Any:
        return {**initial_state(plan, seed), **broken}

    monkeypatch.setattr("resnet_spec.running.rate_range.initial_state", state)
    assert find() == 2
    assert "find-rate: the loss of the first batch is nan" in capsys.readouterr().err
    assert not (here / "found").exists()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--low", "1", "--high", "0.1"], "--low = 1: must be below --high = 0.1"),
        (["--steps", "9"], "--steps = 9: must be from 10 to 10,000"),
        (["--low", "x"], "--low"),
        (["--backend", "troch"], "did you mean 'torch'?"),
        (["--set", "schedule.rat=1"], "did you mean 'rate'?"),
        (["--data", "digist"], "did you mean 'digits'?"),
        (["--set", "batch=5000"], "batch"),
        (["--device", "cuda:7"], "cuda:7"),
        (["--out", "tiny.toml"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    here: Path, more: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find(*more) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and line in told[0], told
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


def test_what_is_there_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", "tiny.toml", "--backend", "numpy", "--input-size", "8", "--set", "steps=1"]
    assert main([*run, "--out", "run"]) == 0
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    for more in ([], ["--overwrite"]):
        assert find(*more, out="run") == 2
        assert "--out = run: holds a run, which stays as it is" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    Path("found").mkdir()
    Path("found/rates.png").write_text("mine")
    assert find() == 2
    assert "found/rates.png: cannot be written: exists already" in capsys.readouterr().err
    assert [path.name for path in Path("found").iterdir()] == ["rates.png"]
    pytest.importorskip("matplotlib")
    assert find("--overwrite") in (0, 1)
    assert Path("found/rates.png").read_bytes()[:4] == b"\x89PNG"
    assert (here / "tiny.toml").read_text() == TINY


def test_no_figure_of_an_earlier_test_stays_beside_another(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("found").mkdir()
    for name in ("rates.json", "rates.png", "rates.svg"):
        Path("found", name).write_text("of an earlier test")
    monkeypatch.setattr("resnet_spec.reporting.rate_files.can_draw", lambda: False)
    assert find("--overwrite") in (0, 1)
    assert [path.name for path in Path("found").iterdir()] == ["rates.json"]


def test_one_of_several_processes_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert find() == 2
    assert "find-rate: is one process, and this is one of 2" in capsys.readouterr().err


def test_it_begins_as_the_job_does(here: Path) -> None:
    """From the recipe's seed, with what is held out for validation left out."""
    given = {"spec": "tiny.toml", "backend": "numpy", "input_size": 8, "validation": 0.5}
    job = job_of(Request(**given, out="run"), lambda line: None)
    heard: list[int] = []
    found = try_rates(job, Range(1e-5, 1e-4, 10), heard.append)
    assert sum(heard) == 10 == len(found.losses)
    assert find("--validation", "0.5", "--low", "1e-5", "--high", "1e-4", "--steps", "10") == 1
    assert record()["loss"] == found.losses.tolist()


@pytest.mark.parametrize(
    "schedule",
    [
        ["schedule.warmup=500"],
        ["schedule.cooldown=500"],
        ["schedule.period=0.001", "schedule.kind=step"],
        ["steps=60000000"],
    ],
)
def test_the_recipe_s_own_schedule_is_not_judged(here: Path, schedule: list[str]) -> None:
    """It is not looked at; nor is the length of a run that is not begun."""
    short = ("--low", "1e-5", "--high", "1e-4", "--steps", "10")
    assert find(*short) == 1
    plain = record()["loss"]
    settings = [text for setting in schedule for text in ("--set", setting)]
    assert find(*short, *settings, "--overwrite") == 1
    assert record()["loss"] == plain
    given = {"spec": "tiny.toml", "backend": "numpy", "input_size": 8, "settings": schedule}
    with pytest.raises(RecipeError):
        job_of(Request(**given, out="run"), lambda line: None)
