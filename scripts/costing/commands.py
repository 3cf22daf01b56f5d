"""What `resnet-spec train` costs as a whole beside `Session.train` alone, on as many images.

The command trains on made-up CIFAR-10 files, with the recipe's crops and flips, an evaluation, a
checkpoint and a line of metrics for each epoch. Its time is the one from the end of the steps of
epoch 2 to those of the last epoch, as its metrics.jsonl has it: start, reading the data and what
is compiled for the first step and for the first evaluation come before. In it are all of these
epochs' steps, and as many evaluations and checkpoints as epochs. Beside it stands a session as
`bench` has it, with the same optimiser: as many steps in one call of `Session.train`, of one batch
again and again.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from costing.asking import CLASSES, RECIPE, Setting, percent, say, share
from costing.spans import Went, read_spans, went
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.process import WorkerProcess
from resnet_spec.benchmarking.results import Spread
from resnet_spec.benchmarking.under_way import Running
from resnet_spec.running.child_processes import command_of, environment_with
from resnet_spec.running.metrics import read_metrics

HEADS = (
    *("backend", "the command takes more by", "without its forward passes"),
    *("slower steps", "waiting for data", "forward passes", "rest of evaluation"),
    *("saving", "other"),
)
_BEFORE = 2
"""Epochs before the measured ones."""


class Round(NamedTuple):
    """Seconds of a round: of `Session.train` alone, and of what went into the command's."""

    alone: float
    went: Went

    def more(self, seconds: float) -> float:
        """Return seconds of the command as a share of those of `Session.train` alone."""
        return seconds / self.alone


@dataclass(frozen=True)
class Commands:
    """A backend's rounds. epochs: those that are measured, of `steps`. info: the session's."""

    steps: int
    epochs: int
    info: dict[str, str]
    rounds: tuple[Round, ...]

    def spread(self, *, with_forward: bool) -> Spread:
        """Return by what share the command takes more, round by round."""
        forward = [0.0 if with_forward else one.went.forward for one in self.rounds]
        pairs = zip(self.rounds, forward, strict=True)
        return Spread.of([one.more(one.went.whole - less) - 1.0 for one, less in pairs])

    def shares(self) -> list[float]:
        """Return the median over rounds of each share of `Went`; they sum to about the whole."""
        rounds = [
            (one.more(one.went[0]) - 1.0, *map(one.more, one.went[1:])) for one in self.rounds
        ]
        return [Spread.of(of).median for of in zip(*rounds, strict=True)]


def measured(setting: Setting) -> dict[str, Commands]:
    """Return the rounds of each backend."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        write_cifar(data, setting.images, setting.tested)
        return {one: _of_backend(one, setting, data, Path(name)) for one in setting.backends}


def _of_backend(backend: str, setting: Setting, data: Path, folder: Path) -> Commands:
    entry, asked = Entry(backend, backend), setting.asked()
    of_epoch = 5 * (setting.images // 5) // setting.batch
    with closing(WorkerProcess(setting.threads)) as line:
        alone = Running(entry, line)
        say(f"{backend}: starting")
        alone.begin({"asked": asked.to_dict(), "entry": asdict(entry), "file": None})
        epochs = max(1, round(setting.seconds / (alone.step_s(asked.seconds) * of_epoch)))
        turn, rounds = partial(alone.turn, epochs * of_epoch), list[Round]()
        for number in range(setting.rounds):
            say(f"{backend}: round {number + 1} of {setting.rounds}, {epochs} epochs")
            out = folder / f"{backend}-{number}"
            run = partial(command_once, backend, setting, data, out, epochs, of_epoch)
            if number % 2:  # The other one begins.
                found = run()
                rounds.append(Round(turn(), found))
            else:
                rounds.append(Round(turn(), run()))
        alone.end()
    return Commands(of_epoch, epochs, dict(alone.info), tuple(rounds))


def command_once(
    backend: str, setting: Setting, data: Path, out: Path, epochs: int, of_epoch: int
) -> Went:
    """Run the command, and return what the time of its last `epochs` epochs went into.

    Exits where the command fails.
    """
    spans = out.with_suffix(".json")
    settings = [f"batch={setting.batch}", f"epochs={_BEFORE + epochs}"]
    told = ["train", setting.network, "--backend", backend, "--data", str(data)]
    told += ["--recipe", RECIPE, "--out", str(out), "--device", "cpu"]
    told += [word for text in settings for word in ("--set", text)]
    done = subprocess.run(
        command_of("costing.timed_command", [str(spans), *told]),
        env=environment_with(setting.threads), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"overhead: {backend} ended with {done.returncode}: {done.stderr.strip()}")
    lines = read_metrics(out)
    seconds = lines[-1].wall_s - lines[_BEFORE - 1].wall_s
    return went(read_spans(spans), _BEFORE * of_epoch, (_BEFORE + epochs) * of_epoch, seconds)


def write_cifar(folder: Path, images: int, tested: int) -> None:
    """Write CIFAR-10's binary files with noise for images, a fifth of the training's in each."""
    inner, draws = folder / "cifar-10-batches-bin", np.random.default_rng(0)
    inner.mkdir(parents=True)
    files = {f"data_batch_{i}.bin": images // 5 for i in range(1, 6)} | {"test_batch.bin": tested}
    for name, count in files.items():
        rows = draws.integers(0, 256, (count, 1 + 3 * 32 * 32), dtype=np.uint8)
        rows[:, 0] %= CLASSES
        (inner / name).write_bytes(rows.tobytes())


def rows(found: dict[str, Commands]) -> list[tuple[str, ...]]:
    """Return a row for each backend."""
    made: list[tuple[str, ...]] = []
    for name, one in found.items():
        wholes = [percent(one.spread(with_forward=asked)) for asked in (True, False)]
        made.append((name, *wholes, *map(share, one.shares())))
    return made


def plain(found: dict[str, Commands]) -> dict[str, Any]:
    """Return plain JSON types, with every round's seconds."""
    return {name: _plain(one) for name, one in found.items()}


def _plain(one: Commands) -> dict[str, Any]:
    rounds = [{"alone": it.alone, **it.went._asdict()} for it in one.rounds]
    return {"epochs": one.epochs, "steps": one.steps, "info": one.info, "rounds": rounds}
