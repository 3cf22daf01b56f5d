#!/usr/bin/env python3
"""Measure a training step in two processes of one thread against one process of two threads.

    python scripts/steps_of_two.py [--backends A,B] [--batches 64,128] [--rounds N] [--json FILE]

Three ways to take steps with one global batch, on the first two processors:

    one     one process with two threads has the whole batch
    group   two processes, a thread and a processor each, share it: `resnet-spec launch`
    apart   two such processes at the same time, with half of it each, know nothing of one another

Processes live through all rounds, compile before the first, and take turns: in every round each way
takes the same number of steps, while the others wait. Prints for each way the median over rounds of
milliseconds a step and of images per second, with the range, and two ratios of medians: what a
step of the group takes over one of `one`; and the share of the group's step that `apart` does not
need, which is what it costs to be together: messages of gradients and, as `norm.sync` is "global",
of statistics, the waiting for each other, and norms that can send them. Beside it stand the bytes
of a step's gradients. An idle machine is needed; it takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from resnet_spec.contract import Batch
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.files.writing import write_json
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.running.child_processes import environment_with
from resnet_spec.running.launching import Launch
from resnet_spec.running.meeting import joined
from resnet_spec.running.opening import open_session

RATE = 1e-3  # Of noise with labels drawn at random: it must go nowhere in particular.
BATCHES_KEPT = 4
MOST_STEPS = 40


class Way(NamedTuple):
    """How steps are taken. processes: in all; threads: of each; is_group: whether they are one."""

    processes: int
    threads: int
    is_group: bool


WAYS = {"one": Way(1, 2, False), "group": Way(2, 1, True), "apart": Way(2, 1, False)}


# --- A process that takes steps -------------------------------------------------------------------


@dataclass
class Worker:
    """What a process takes steps with: a session for each batch size."""

    spec: str
    backend: str
    way: Way
    group: Group

    def answers(self, orders: IO[str]) -> Iterator[dict[str, float]]:
        """Yield the seconds of each order of steps."""
        plan = lower(load_spec(self.spec))
        with joined(self.backend, self.group):
            sessions: dict[int, Any] = {}
            yield {"seconds": 0.0}
            for line in orders:
                order = json.loads(line)
                whole, steps = order["batch"], order["steps"]
                share = whole // self.way.processes
                if whole not in sessions:
                    # Of one that knows of no others, its share is the whole batch.
                    size = whole if self.way.is_group else share
                    sessions[whole] = self.session(plan, size), batches_of(plan, share)
                session, batches = sessions[whole]
                given = [batches[i % len(batches)] for i in range(steps)]
                clock = time.perf_counter()
                session.train(iter(given), np.full(steps, RATE))
                yield {"seconds": time.perf_counter() - clock}

    def session(self, plan: Plan, batch: int) -> Any:
        recipe = Recipe(steps=1_000_000, batch=batch)
        made = open_session(self.backend, plan, recipe, group=self.group)
        made.load(initial_state(plan, 0))
        return made


def batches_of(plan: Plan, count: int) -> list[Batch]:
    draw, image = np.random.default_rng(os.getpid()), plan.input
    shape = (count, image.height, image.width, image.channels)
    return [
        Batch(
            draw.integers(0, 256, shape, dtype=np.uint8),
            draw.integers(0, plan.classes, count),
            np.arange(count),
        )
        for _ in range(BATCHES_KEPT)
    ]


def work(text: str) -> int:
    """Be a process: `text` says which. Orders come on standard input, answers go to the output."""
    told = json.loads(text)
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a framework prints is no answer.
    group = Group(**told["group"]) if told["group"] else ALONE
    for answer in Worker(told["spec"], told["backend"], WAYS[told["way"]], group).answers(
        sys.stdin
    ):
        print(json.dumps(answer), file=answer_to, flush=True)
    return 0


# --- All of them ----------------------------------------------------------------------------------


class Team:
    """The processes of one way."""

    def __init__(
        self, spec: str, backend: str, name: str, place: Path, processors: Sequence[int]
    ) -> None:
        self.spec, self.name, self.way = spec, name, WAYS[name]
        port = next(Launch(self.way.processes).environments())["MASTER_PORT"]
        self.log = place / f"{backend}-{name}.log"
        self.members = [
            self.start(backend, rank, f"127.0.0.1:{port}", processors)
            for rank in range(self.way.processes)
        ]

    def start(
        self, backend: str, rank: int, address: str, processors: Sequence[int]
    ) -> subprocess.Popen[str]:
        size = self.way.processes
        group = {"rank": rank, "size": size, "address": address, "local_rank": rank}
        told = {"spec": self.spec, "backend": backend, "way": self.name}
        told |= {"group": group if self.way.is_group else {}}
        own = [processors[rank]] if size > 1 else processors
        # So that threads are not moved about; where it is not there, the system decides.
        pinned = ["taskset", "-c", ",".join(map(str, own))] if sys.platform == "linux" else []
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*pinned, sys.executable, "-P", __file__, "--worker", json.dumps(told)],
                env=environment_with(self.way.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, batch: int, steps: int) -> None:
        """Have all of them take steps."""
        for one in self.members:
            assert one.stdin is not None
            one.stdin.write(json.dumps({"batch": batch, "steps": steps}) + "\n")
            one.stdin.flush()

    def answered(self) -> float:
        """Return the seconds of the slowest."""
        return max(self.answer_of(one) for one in self.members)

    def answer_of(self, one: subprocess.Popen[str]) -> float:
        assert one.stdout is not None
        line = one.stdout.readline()
        if not line:
            last = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            why = " / ".join(last) or "silently, or took longer than --limit"
            raise RuntimeError(f"a process of {self.name} ended: {why}")
        return float(json.loads(line)["seconds"])

    def seconds(self, batch: int, steps: int) -> float:
        """Return how long they take for so many steps, while nobody else does anything."""
        self.ask(batch, steps)
        return self.answered()

    def end(self) -> None:
        for one in self.members:
            one.kill()
            one.communicate()


@contextmanager
def teams_of(
    spec: str, backend: str, processors: Sequence[int], limit_s: float
) -> Generator[list[Team]]:
    """Give the processes of every way, met; all are gone at the end, and after `limit_s`."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        teams: list[Team] = []
        for name in WAYS:
            teams.append(Team(spec, backend, name, place, processors))
            stack.callback(teams[-1].end)
        kill = [one.kill for team in teams for one in team.members]
        guard = threading.Timer(limit_s, lambda: [each() for each in kill])
        guard.start()
        stack.callback(guard.cancel)
        for team in teams:
            team.answered()
        yield teams


Rounds = dict[str, list[float]]
"""Milliseconds of a step, by way, round by round."""


def measure(teams: Sequence[Team], batch: int, rounds: int, turn_s: float) -> Rounds:
    for team in teams:  # Compile, all at once.
        team.ask(batch, 2)
    for team in teams:
        team.answered()
    steps = 1 + max(1, min(MOST_STEPS, round(turn_s / teams[0].seconds(batch, 1))))
    found: Rounds = {team.name: [] for team in teams}
    for number in range(rounds):
        for team in teams if number % 2 else reversed(teams):
            found[team.name].append(1000 * team.seconds(batch, steps) / steps)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--spec", default="resnet20_cifar", help="(resnet20_cifar)")
    parser.add_argument("--backends", default="torch,flax,mindspore")
    parser.add_argument("--batches", default="64,128")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=1.0, metavar="SECONDS", help="of each (1)")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="a backend's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        return work(args.worker)
    processors = usable_two()
    plan = lower(load_spec(args.spec))
    sent = 4 * sum(int(np.prod(t.shape)) for t in plan.tensors if t.trainable)
    where = f"processors {processors[0]} and {processors[1]}"
    about = f"{args.spec}, {plan.input.height} px, float32, {where}, {args.rounds} rounds"
    print(f"{about}; gradients of a step: {sent / 1e6:.2f} MB")
    print("Milliseconds a step and images/s: median (least-most)\n")
    print("| backend | batch | one | group | apart | group by one | cost of being together |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    kept: dict[str, dict[int, Rounds]] = {}
    status = 0
    for backend in args.backends.split(","):
        try:
            with teams_of(args.spec, backend, processors, args.limit) as teams:
                for batch in map(int, args.batches.split(",")):
                    found = measure(teams, batch, args.rounds, args.turn)
                    kept.setdefault(backend, {})[batch] = found
                    print(row(backend, batch, found), flush=True)
        except (RuntimeError, OSError) as error:
            print(f"steps_of_two: {backend}: {error}", file=sys.stderr)
            status = 1
    if args.json is not None:
        write_json(args.json, {"gradient_bytes": sent, "milliseconds": kept})
    return status


def usable_two() -> list[int]:
    """Return the first two processors that this process may use."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    if len(there) < 2:
        sys.exit("steps_of_two: two processors are needed, and there is one")
    return there[:2]


def row(backend: str, batch: int, found: Mapping[str, Sequence[float]]) -> str:
    middle = {name: statistics.median(times) for name, times in found.items()}
    cells = [shown(times, batch) for times in found.values()]
    slower = middle["group"] / middle["one"]
    share = 1 - middle["apart"] / middle["group"]
    return f"| {backend} | {batch} | {' | '.join(cells)} | {slower:.2f} | {share:.0%} |"


def shown(times: Sequence[float], batch: int) -> str:
    middle = statistics.median(times)
    return f"{middle:.0f} ({min(times):.0f}-{max(times):.0f}), {1000 * batch / middle:.0f}"


if __name__ == "__main__":
    sys.exit(main())
