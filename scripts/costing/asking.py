"""What is measured, of all parts: the network, the batch, the rounds; and numbers in words."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.results import Measured, Result, Spread
from resnet_spec.describing.spec_files import load_spec

RECIPE = "cifar-paper"
"""Its optimiser is bench's own: SGD, momentum 0.9, decay 1e-4."""
CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """What every part is measured with.

    steps: of a turn of sessions, and of a data path's epoch. images, tested: of the data that the
    command trains on. seconds: that a measured run should take, about.
    """

    backends: tuple[str, ...]
    network: str = "resnet20_cifar"
    batch: int = 128
    threads: int = 2
    rounds: int = 5
    steps: int = 50
    images: int = 10_240
    tested: int = 2_048
    seconds: float = 40.0

    def asked(self) -> Asked:
        """Return the question that `bench` is asked."""
        spec = load_spec(self.network, [f"classes={CLASSES}"])
        return Asked(spec, batch=self.batch, threads=self.threads, rounds=self.rounds)


def percent(spread: Spread) -> str:
    """Return a median with its quartiles, as "+1.2 % (+0.8 to +1.5)"."""
    median, low, high = (f"{100 * value:+.1f}" for value in spread)
    return f"{median} % ({low} to {high})"


def share(value: float) -> str:
    """Return a share without its quartiles."""
    return f"{100 * value:+.1f} %"


def excess(slower: list[float], than: list[float]) -> Spread:
    """Return by what share the seconds of each round are more than the other's: 0 for the same."""
    return Spread.of([a / b - 1.0 for a, b in zip(slower, than, strict=True)])


def one_of(result: Result, name: str) -> Measured | None:
    """Return the contestant of this name, None where it failed or was left out."""
    return next((one for one in result.measured if one.name == name), None)


def say(what: str) -> None:
    """Tell on the error stream what begins."""
    print(f"overhead: {what}", file=sys.stderr, flush=True)
