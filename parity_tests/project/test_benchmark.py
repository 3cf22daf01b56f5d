"""The benchmark's arithmetic: turns are interleaved, and ratios say who is faster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import benchmark  # pyright: ignore[reportMissingImports]
from peers.case import CASES, Case  # pyright: ignore[reportMissingImports]

CASE = Case("resnet18", 32, 4, 5, True)


class Clock:
    """A clock that contenders move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns: list[str] = []

    def contender(self, name: str, seconds: float) -> benchmark.Contender:
        def run() -> None:
            self.turns.append(name)
            self.now += seconds

        return run


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> tuple[benchmark.Timed, Clock]:
    clock = Clock()
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock.now)
    names = {benchmark.OURS: 2.0, "slower": 3.0, "faster": 1.0}
    contenders = {name: clock.contender(name, seconds) for name, seconds in names.items()}
    return benchmark.timed(CASE, contenders, 3, lambda: None), clock


def test_every_round_begins_with_another_contender(
    found: tuple[benchmark.Timed, Clock],
) -> None:
    names = [benchmark.OURS, "slower", "faster"]
    assert found[1].turns == [
        *names,
        *names,
        *names,
        *names[1:],
        *names[:1],
        *names[2:],
        *names[:2],
    ]


def test_a_ratio_above_one_means_that_ours_is_faster(
    found: tuple[benchmark.Timed, Clock],
) -> None:
    timed, _ = found
    assert timed.speed(benchmark.OURS) == 10.0, "5 steps of 4 images in 2 s"
    assert (timed.ratio("slower"), timed.ratio("faster")) == (1.5, 0.5)
    lines = benchmark.table([timed])
    assert lines[2:] == [
        "| train resnet18, 32 px, batch 4 | resnet-spec | 10 |  | 2.0 |",
        "| train resnet18, 32 px, batch 4 | slower | 6.67 | 1.50 | 3.0 |",
        "| train resnet18, 32 px, batch 4 | faster | 20 | 0.50 | 1.0 |",
    ]


def test_all_contenders_are_given_the_same_images() -> None:
    for case in CASES.values():
        images, labels = case.arrays()
        normalised, again = case.normalised()
        assert normalised.dtype == "float32" and normalised.shape == images.shape
        assert (labels == again).all() and len(labels) == case.batch
