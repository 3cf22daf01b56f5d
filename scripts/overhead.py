#!/usr/bin/env python3
"""Measure what this project itself costs, on a CPU: its sessions, its command, its data path.

    python scripts/overhead.py [--backends torch,flax,mindspore] [--rounds N] [--only PART]
                               [--json FILE] [--batch N] [--threads N] [--seconds N]

Three parts, each with its own tables; every contestant is a process of its own, and they take turns
in rounds. Numbers are medians over rounds of what is compared within each, with their quartiles.
Each backend's are printed, and written, when they are there.

session   `Session.train` beside the same native module in a hand-written loop (bench's peers
          BACKEND-by-hand), turns of --steps steps.
command   `resnet-spec train` as a whole, beside `Session.train` alone on as many images: what its
          time went into as shares of the latter (see `costing/commands.py`).
data      batches made without a model, beside the fastest backend's steps.

Freed memory is kept by all, as glibc's variables say: who gives it back, and gets it again as pages
of zeros, would be slower for that alone. An idle machine is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from costing import by_hand, commands, data_path
from costing.asking import Setting

from resnet_spec.benchmarking.entries import entries_of
from resnet_spec.benchmarking.machine import this_machine
from resnet_spec.errors import ResnetSpecError
from resnet_spec.files.writing import write_json
from resnet_spec.running.child_processes import usable_processors

FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_ARENA_MAX": "1",
}
"""Read by glibc when a process starts. Without them sessions would keep what is freed by themselves
(`freed_memory`), and a loop by hand would not: that is no part of what is compared."""

PARTS = ("session", "command", "data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    args = parsed(arguments)
    setting = setting_of(args)
    os.environ.update(FREED_MEMORY)
    scripts = str(Path(__file__).resolve().parent)
    paths = [scripts, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    machine, found = this_machine(), dict[str, Any]()
    kept = f"all have {', '.join(f'{name}={text}' for name, text in FREED_MEMORY.items())}"
    print(heading(setting), kept, *machine.doubts, sep="\n", flush=True)
    told = {"setting": asdict(setting), "machine": machine.to_dict()}
    try:
        asked = setting.asked()
        entries_of(setting.backends, (), asked.mode, asked.precision)  # Refused before anything.
        for part in args.only or PARTS:
            for piece in pieces(part, setting):
                found.setdefault(part, {}).update(PART_OF[part](piece))
                if args.json is not None:  # What is stopped has told what it had.
                    write_json(args.json, {**told, **found})
    except ResnetSpecError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 1
    return 0


def pieces(part: str, setting: Setting) -> list[Setting]:
    """Return what is measured at once: one backend, or all where they are held against another."""
    if part == "data":
        return [setting]
    return [replace(setting, backends=(name,)) for name in setting.backends]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--backends", default="torch,flax,mindspore")
    parser.add_argument("--rounds", type=int, default=Setting.rounds)
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's seconds")
    parser.add_argument("--network", default=Setting.network)
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument("--threads", type=int, default=usable_processors())
    parser.add_argument("--steps", type=int, default=Setting.steps, help="of a turn of a session")
    parser.add_argument("--images", type=int, default=Setting.images, help="of a command's epoch")
    parser.add_argument("--tested", type=int, default=Setting.tested, help="of its evaluation")
    parser.add_argument("--seconds", type=float, default=Setting.seconds, help="of a command's run")
    return parser.parse_args(arguments)


def setting_of(args: argparse.Namespace) -> Setting:
    names = ("network", "batch", "threads", "rounds", "steps", "images", "tested", "seconds")
    return Setting(tuple(args.backends.split(",")), **{name: getattr(args, name) for name in names})


def heading(setting: Setting) -> str:
    fixed = f"train {setting.network}, 32 px, batch {setting.batch}, float32"
    return f"{fixed}, {setting.threads} threads, {setting.rounds} rounds"


def sessions(setting: Setting) -> dict[str, Any]:
    found = by_hand.measured(setting)
    say_table(f"Sessions: turns of {setting.steps} steps", by_hand.HEADS, by_hand.rows(found))
    say_notes([line for result in found.values() for line in by_hand.doubts(result)])
    say_notes([versions(one.name, one.info) for it in found.values() for one in it.measured])
    return by_hand.plain(found)


def whole_commands(setting: Setting) -> dict[str, Any]:
    found = commands.measured(setting)
    data = f"epochs of {setting.images} images, {setting.tested} to evaluate"
    say_table(f"The command: {data}", commands.HEADS, commands.rows(found))
    say_notes([f"{name}: {it.epochs} epochs of {it.steps} steps" for name, it in found.items()])
    say_notes([versions(name, it.info) for name, it in found.items()])
    return commands.plain(found)


def data_paths(setting: Setting) -> dict[str, Any]:
    found = data_path.measured(setting)
    say_table("The data path, without a model", data_path.HEADS, data_path.rows(found))
    say_notes(by_hand.doubts(found))
    return data_path.plain(found)


PART_OF: dict[str, Callable[[Setting], dict[str, Any]]] = dict(
    zip(PARTS, (sessions, whole_commands, data_paths), strict=True)
)


def say_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    print(*(f"| {' | '.join(row)} |" for row in rows), sep="\n", flush=True)


def say_notes(lines: Sequence[str]) -> None:
    if lines:
        print("", *(f"- {line}" for line in dict.fromkeys(lines)), sep="\n", flush=True)


def versions(name: str, info: Any) -> str:
    return f"{name}: {', '.join(f'{key} {text}' for key, text in info.items())}"


if __name__ == "__main__":
    sys.exit(main())
