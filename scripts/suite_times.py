#!/usr/bin/env python3
"""Measure what the tests of two commits cost, one suite after the other, and test by test.

    python scripts/suite_times.py d6ffae7 [HEAD] [--both] [--tests PATH ...] [--rounds N]

Each commit is cloned, and its own tests run on its own code in two processes, as `scripts/test`
runs them, in the environment of this script; in a second round the later one goes first. Prints,
for each: tests, failures, minutes, and seconds of processor time; then the time of the tests that
both have (by the name of the file and of the test: a file may have moved), of those only one has,
and the tests that grew most. What tests share, as imports and compiled steps, is paid by the first
of them that runs, which may be one that only one commit has: `--both` runs no others than those
that both have. An idle machine is needed. This file is the plugin of pytest that
notes the times, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTES = "SUITE_TIMES"  # the variable that names the folder of the notes
ONLY = "SUITE_TIMES_ONLY"  # that of a file with the names of the tests to run


class Suite(NamedTuple):
    """What one commit's tests cost."""

    commit: str
    minutes: float
    summary: str  # pytest's last line
    seconds: dict[str, float]  # processor time by test, children included


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument(
        "--tests", nargs="+", default=["parity_tests"], help="default: all of parity_tests"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=15)
    parser.add_argument("--both", action="store_true", help="only the tests that both have")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        commits = [args.before, args.after]
        found: dict[str, list[Suite]] = {commit: [] for commit in commits}
        if args.both:
            listed = [collected(commit, Path(name) / "listed", args.tests) for commit in commits]
            (Path(name) / "only").write_text("\n".join(listed[0] & listed[1]), encoding="utf-8")
            os.environ[ONLY] = str(Path(name) / "only")
        for number in range(args.rounds):
            for commit in commits if number % 2 == 0 else reversed(commits):
                found[commit].append(measured(commit, Path(name) / str(number), args.tests))
    report(*(mean_of(found[commit]) for commit in commits), slowest=args.slowest)
    return 0


def mean_of(rounds: Sequence[Suite]) -> Suite:
    """The mean of what several rounds of one suite cost, of the tests that ran in all of them."""
    tests = set[str].intersection(*(set(one.seconds) for one in rounds))
    seconds = {test: sum(one.seconds[test] for one in rounds) / len(rounds) for test in tests}
    minutes = sum(one.minutes for one in rounds) / len(rounds)
    return Suite(rounds[0].commit, minutes, rounds[0].summary, seconds)


def collected(commit: str, folder: Path, tests: Sequence[str]) -> set[str]:
    """The names of the tests of `commit`."""
    _, notes, done = _run(commit, folder, ["--collect-only", *tests])
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return {test for test, _ in noted(notes)}


def measured(commit: str, folder: Path, tests: Sequence[str]) -> Suite:
    """What the suite of `commit` costs."""
    start = time.perf_counter()
    commit, notes, done = _run(commit, folder, ["-n", "2", "--dist", "loadgroup", *tests])
    minutes = (time.perf_counter() - start) / 60
    summary = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1].strip("= ")
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    print(f"{commit}: {minutes:.1f} minutes; {summary}", *failures, sep="\n  ", flush=True)
    return Suite(commit, minutes, summary, dict(noted(notes)))


def _run(
    commit: str, folder: Path, options: Sequence[str]
) -> tuple[str, Path, subprocess.CompletedProcess[str]]:
    """Run pytest on `commit`, in a clone of its own with the cases and data beside it."""
    found = subprocess.check_output(["git", "rev-parse", "--short", commit], cwd=ROOT, text=True)
    commit = found.strip()
    tree, notes = folder / commit / "tree", folder / commit / "notes"
    notes.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", ROOT, tree], check=True)
    subprocess.run(["git", "checkout", "-q", commit], cwd=tree, check=True)
    if (shared := ROOT.parent / "shared").is_dir():
        (tree.parent / "shared").symlink_to(shared.resolve())
    paths = (tree, tree / "backends", ROOT / "scripts")
    environment = os.environ | {NOTES: str(notes), "CI": "true"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    fixed = ["-q", "-p", "suite_times", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *fixed, *options],
        cwd=tree, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return commit, notes, done


def noted(folder: Path) -> Iterator[tuple[str, float]]:
    """(test, seconds) of every note; a test is named by its file's last part and its own name."""
    for path in folder.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            seconds, test = line.split("\t", 1)
            yield named(test), float(seconds)


def named(test: str) -> str:
    """The name of a test by the last part of its file's, without its group as xdist writes it."""
    test = test.rpartition("@")[0] if test.rfind("@") > test.rfind("]") else test
    # A parametrised test's own values may hold slashes.
    plain, bracket, values = test.partition("[")
    return plain.rsplit("/", 1)[-1] + bracket + values


def report(before: Suite, after: Suite, slowest: int) -> None:
    both = before.seconds.keys() & after.seconds.keys()
    rows = [("all tests", before.seconds.keys(), after.seconds.keys()), ("in both", both, both)]
    rows.append(("in one only", before.seconds.keys() - both, after.seconds.keys() - both))
    print(f"{'processor seconds (tests)':28}{before.commit:>16}{after.commit:>16}   ratio")
    for label, first, second in rows:
        old, new = sum(map(before.seconds.get, first)), sum(map(after.seconds.get, second))  # type: ignore[arg-type]
        cells = (f"{old:.0f} ({len(first)})", f"{new:.0f} ({len(second)})")
        print(f"{label:28}{cells[0]:>16}{cells[1]:>16}{new / old if old else float('nan'):>8.2f}")
    by_file = {name: [0.0, 0.0] for name in map(_file, both)}
    for test in both:
        by_file[_file(test)][0] += before.seconds[test]
        by_file[_file(test)][1] += after.seconds[test]
    files = sorted(by_file.items(), key=lambda item: item[1][0] - item[1][1])
    print("Files that grew most, and least:")
    for name, (old, new) in [*files[:slowest], *files[-3:]]:
        print(f"  {old:6.1f} -> {new:6.1f} s  {name}")
    grown = sorted(both, key=lambda test: before.seconds[test] - after.seconds[test])[:slowest]
    print("Grew most:")
    for test in grown:
        print(f"  {before.seconds[test]:6.2f} -> {after.seconds[test]:6.2f} s  {test[:100]}")


def _file(test: str) -> str:
    return test.partition("::")[0]


def _spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.collectonly:
        with (Path(os.environ[NOTES]) / "collected").open("w", encoding="utf-8") as notes:
            notes.writelines(f"0\t{item.nodeid}\n" for item in items)
    if ONLY in os.environ:
        only = set(Path(os.environ[ONLY]).read_text(encoding="utf-8").splitlines())
        items[:] = [item for item in items if named(item.nodeid) in only]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    start = _spent()
    yield
    with (Path(os.environ[NOTES]) / str(os.getpid())).open("a", encoding="utf-8") as notes:
        notes.write(f"{_spent() - start:.3f}\t{item.nodeid}\n")


if __name__ == "__main__":
    raise SystemExit(main())
