#!/usr/bin/env python3
"""Let runs in several processes fail in every way at random moments, and see that nothing is lost.

    python scripts/faults.py [--backends torch,flax,mindspore] [--moments N] [--kinds kill,stop,...]
                             [--processes N] [--chain N] [--seed S] [--out FILE.json]

A small run under `resnet-spec launch` (16 epochs of 6 steps, with an evaluation and a checkpoint
after each) is started, struck at a moment that is drawn from its length, and gone on with; one that
goes on is struck again, up to --chain times. What is asked of each: it ends within 15 s, with one
line of error that says which process and why; no process and no half file is left behind; the last
checkpoint is sound and no older than before; the run ends, gone on with for the last time, with the
bits and the metrics of one that was never struck.

`--moments` are those of each kind, and of each process where the process itself is what fails.
Prints a row for each kind and backend; with --out, leaves every moment as JSON, too. Exit status 1
where anything is asked in vain. Linux; a full disk takes root (else files alone cannot grow).
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fault_kinds import (  # pyright: ignore[reportMissingImports]
    BATCH,
    EPOCHS,
    IMAGES,
    KINDS,
    LIMIT_S,
    Disk,
    Kind,
    Missed,
    Moment,
    Place,
    clear,
    half_files,
    line_of,
    seen_on_disk,
    step_of,
)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resnet_spec.digests import digest
from resnet_spec.files.writing import write_json
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.weights.checkpoint import load_checkpoint
from resnet_spec.weights.last_two import LAST, PREVIOUS, is_sound

_GO_ON_S = 300.0
_TRIES = 8
"""How often a moment is drawn anew whose run was over first."""
_BEAT = re.compile(r".+, \d+ (s|min)( \d+ s)?")
"""How a run says, where it takes long, that it is at work."""


class End(NamedTuple):
    """What a run came to: the digest of its last state, and its metrics without times."""

    digest: str
    epochs: tuple[Epoch, ...]

    @classmethod
    def of(cls, run: Path) -> End:
        state = load_checkpoint(run / LAST).state
        epochs = (replace(it, images_per_second=0, wall_s=0) for it in read_metrics(run))
        return cls(digest(state), tuple(epochs))


@dataclass(frozen=True)
class Trial:
    """What came of one moment. where: what the run was at. said: the lines of error.

    goes_on: whether the run had been struck before. differs: what is wrong with the end of the run,
    "" for nothing. The flags are what is asked of it; see the module.
    """

    backend: str
    kind: str
    rank: int
    where: str
    seconds: float
    said: tuple[str, ...]
    in_time: bool
    one_line: bool
    nothing_left: bool
    lost_nothing: bool
    goes_on: bool = False
    same_bits: bool = False
    differs: str = ""

    @property
    def is_good(self) -> bool:
        return all(getattr(self, name) for name in ASKED)


ASKED = {
    "in_time": f"over in {LIMIT_S:.0f} s",
    "one_line": "one line",
    "nothing_left": "nothing left",
    "lost_nothing": "nothing lost",
    "same_bits": "same bits",
}


# --- One moment -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """The run that nothing happened to. seconds: from the first sign in its folder to its end."""

    end: End
    seconds: float


def whole(place: Place) -> Whole:
    """Return what comes of the run where it is left alone."""
    clear(place.run)
    with place.begin() as running:
        began = running.wait_for_folder()
        status, _, errors, _ = running.ended(_GO_ON_S)
    if status != 0:
        raise SystemExit(f"{place.backend}: an untroubled run failed: {errors}")
    return Whole(End.of(place.run), time.monotonic() - running.started - began)


def chain(
    place: Place, name: str, ranks: Iterator[int], draw: random.Random, sound: Whole, most: int
) -> list[Trial]:
    """Let one run fail up to `most` times, gone on with each time, and compare its end.

    ranks: of the process that is struck, time after time. Raises Missed where it was over first.
    """
    place = place if name == "full" else replace(place, disk=None)
    clear(place.run)
    found = list[Trial]()
    with suppress(Missed):  # It came to its end before the next moment did.
        while len(found) < most:
            # So that the moments of a chain lie all over the run.
            within = sound.seconds * min(1.0, 2 / most)
            found.append(struck(place, name, next(ranks), draw, within, bool(found)))
    if not found:
        raise Missed
    differs = _gone_on(place, sound, KINDS[name])
    return [replace(it, same_bits=not differs, differs=differs) for it in found]


def struck(
    place: Place, name: str, rank: int, draw: random.Random, within_s: float, goes_on: bool
) -> Trial:
    """Let a run fail, at most `within_s` after it has begun. Raises Missed where it was over first.

    goes_on: it has failed before.
    """
    kind, run = KINDS[name], place.run
    an_epoch = IMAGES // BATCH  # In the first one a step may wait for its compilation.
    poison = f"{rank}:{draw.randrange(an_epoch, EPOCHS * an_epoch)}" if name == "nan" else ""
    with place.go_on() if (run / LAST).exists() else place.begin(poison) as running:
        moment = Moment(place, running, rank, draw.random(), within_s, draw)
        try:
            kind.strike(moment)
            at = time.monotonic()
            where, saved = seen_on_disk(run), step_of(run / LAST)
            status, _, errors, left = running.ended(LIMIT_S)
            seconds, halves = time.monotonic() - at, half_files(run)
        finally:
            for undo in moment.undo:
                undo()
    if status == 0:  # What it was struck with came too late.
        raise Missed
    said = [line for line in errors if not _BEAT.fullmatch(line)]
    return Trial(
        backend=place.backend,
        kind=name,
        rank=rank,
        where=where,
        seconds=round(seconds, 2),
        said=tuple(said),
        in_time=status is not None and seconds <= LIMIT_S,
        one_line=len(said) == 1 and line_of(kind, rank).fullmatch(said[0]) is not None,
        nothing_left=left == 0 and (kind.halves or not halves),
        lost_nothing=_lost_nothing(run, saved, kind),
        goes_on=goes_on,
    )


def _lost_nothing(run: Path, saved: int, kind: Kind) -> bool:
    """Return whether there is a sound checkpoint that is no older than `saved`."""
    if kind.back:
        return is_sound(run / PREVIOUS)
    return step_of(run / LAST) >= saved and (not saved or is_sound(run / LAST))


def _gone_on(place: Place, sound: Whole, kind: Kind) -> str:
    """Go on with the run, or begin it anew where it has come to no checkpoint; compare its end.

    Returns what is wrong with it, "" for nothing.
    """
    before = step_of(place.run / PREVIOUS)
    has_any = (place.run / LAST).exists()
    with place.go_on() if has_any else place.begin() as running:
        status, said, errors, left = running.ended(_GO_ON_S)
    if status != 0 or left:
        return f"status {status}, {left} processes left, {errors}"
    if half_files(place.run):
        return "half files are left"
    notes = [line for line in said if f"at step {before}" in line and str(place.run / LAST) in line]
    if len(notes) != int(kind.back):
        return f"notes on the checkpoint: {notes}"
    end = End.of(place.run)
    if end.digest != sound.end.digest:
        return "another state"
    return "" if end == sound.end else "other metrics"


# --- All of them ----------------------------------------------------------------------------------


class Plan(NamedTuple):
    """A kind of fault, of a process: `moments` of it."""

    kind: str
    rank: int | None
    moments: int


def plans(kinds: Sequence[str], processes: int, moments: int) -> list[Plan]:
    """Return what is to be done with one backend. rank None: a process is drawn each time."""
    made = list[Plan]()
    for name in kinds:
        if KINDS[name].each_rank:
            made += [Plan(name, rank, moments) for rank in range(processes)]
        else:
            made.append(Plan(name, 0 if name in _OF_FIRST else None, moments))
    return made


_ONCE = ("nan", "corrupt")
"""Faults that a run has once: at a step that is fixed as it begins, or in what it goes on from."""
_OF_FIRST = ("write", "full", "readonly")
"""Faults of what rank 0 alone does: it writes."""


def trials(place: Place, planned: Sequence[Plan], seed: int, most: int) -> Iterator[list[Trial]]:
    """Yield what came of the moments of one run after another; none where they never came.

    most: how many one run has.
    """
    sound = whole(replace(place, disk=None))
    for plan in planned:
        draw = random.Random(f"{seed} {place.backend} {plan.kind} {plan.rank}")
        left = plan.moments
        while left > 0:
            found = _some(place, plan, draw, sound, min(left, most))
            yield found
            left -= max(1, len(found))


def _some(place: Place, plan: Plan, draw: random.Random, sound: Whole, most: int) -> list[Trial]:
    def ranks() -> Iterator[int]:
        while True:
            yield draw.randrange(place.processes) if plan.rank is None else plan.rank

    for _ in range(_TRIES):
        with suppress(Missed):
            at_once = 1 if plan.kind in _ONCE else most
            return chain(place, plan.kind, ranks(), draw, sound, at_once)
    return []


def of_backend(
    backend: str, planned: Sequence[Plan], args: argparse.Namespace
) -> Iterator[list[Trial]]:
    """Yield all trials of a backend, in a folder and on a disk of their own."""
    with tempfile.TemporaryDirectory(prefix="resnet-spec-faults-") as name:
        root = Path(name)
        with Disk(root / "disk") as disk:
            place = Place(root, backend, args.processes, disk)
            place.make()
            yield from trials(place, planned, args.seed, args.chain)


# --- What is printed ------------------------------------------------------------------------------


def rows(found: Sequence[Trial]) -> Iterator[list[str]]:
    """Yield a row for each backend and kind."""
    groups = dict.fromkeys((it.backend, it.kind) for it in found)
    for backend, kind in groups:
        some = [it for it in found if (it.backend, it.kind) == (backend, kind)]
        times = f"{max(it.seconds for it in some):.1f} s"
        flags = [f"{sum(getattr(it, name) for it in some)}" for name in ASKED]
        yield [backend, KINDS[kind].about, str(len(some)), times, *flags]


HEAD = ["backend", "what fails", "moments", "over in, at most", *ASKED.values()]


def markdown(found: Sequence[Trial]) -> str:
    """Return the table as a page has it."""
    lines = [HEAD, ["---", "---", *["---:"] * (len(HEAD) - 2)], *rows(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # What is mounted and started ends.
    planned = plans(args.kinds, args.processes, args.moments)
    count, found, missed = sum(plan.moments for plan in planned), list[Trial](), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        for backend in args.backends:
            task = bar.add_task(backend, total=count)
            for some in of_backend(backend, planned, args):
                bar.advance(task, max(1, len(some)))
                missed += not some
                found += some
                for bad in (it for it in some if not it.is_good):
                    bar.console.print(f"failed: {asdict(bad)}", markup=False, soft_wrap=True)
    if args.out is not None:
        write_json(args.out, {"environment": environment(args), "trials": list(map(asdict, found))})
    print(markdown(found))
    for backend in args.backends:
        met = Counter(it.where for it in found if it.backend == backend)
        print(f"\n{backend} was at: {', '.join(f'{n} {it}' for it, n in met.most_common())}")
    bad = sum(not it.is_good for it in found)
    print(f"\n{len(found)} moments, {bad} failed, {missed} never came")
    return 1 if bad or missed else 0


def environment(args: argparse.Namespace) -> dict[str, object]:
    """Return what a reader of the numbers should know."""
    return {
        "command": f"python scripts/faults.py {' '.join(sys.argv[1:])}",
        "processes": args.processes,
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def parse() -> argparse.Namespace:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description="Let runs in several processes fail.")
    parser.add_argument("--backends", type=listed, default=["torch", "flax", "mindspore"])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--kinds", type=listed, default=list(KINDS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--chain", type=int, default=5, help="moments of one run (5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    unknown = [name for name in args.kinds if name not in KINDS]
    if unknown:
        parser.error(f"--kinds: {', '.join(unknown)}: choose from {', '.join(KINDS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
