#!/usr/bin/env python3
"""Change one thing in each module, and see whether a test notices: which ones none does are listed.

    python scripts/mutation.py [--seed 1] [--per-module 1] [--only PATH] [--out FILE.json]

A mutation is a changed number, a flipped comparison, a negated condition, `and` for `or`, `+` for
`-`, or a dropped statement (a call, a `raise`, an assignment to what has a value already); a module
that has a place for none, such as one that only passes names on, is left out. Which ones a module
gets is drawn from the seed, its path and its text, so a seed means the same on every machine.

Works on copies of the tree in a temporary folder; the tree itself is only read. First the tests run
once under coverage, which says what lines each runs and how long it takes (`--tests`, the last
option: files and options for pytest; all but the parity matrix unless told). `--map FILE` keeps
that for the next time and takes it from there while the tree is the same. Then each mutant is given
at most `--most` of the tests that run its line, the quickest of each test file first and those of
its own room in front. So:

- noticed: a test failed, or the tests could not be collected;
- timed out: the tests took several times as long as without the mutation, which ends it;
- not noticed: all passed, or no test runs the line. Of these the exit status is 1.

What a fixture of a whole module runs counts for the first of its tests alone, so before a mutant is
judged, the whole files of its tests are worth a run.

Each is printed as `file:line: before -> after`; `--out` has them all as JSON. What is not noticed
is for a person to judge: a test is missing, or the line is not needed, or the mutant means the
same. Takes a few seconds per mutant and process (`--jobs`), so no workflow runs it. Needs the
`test` extra and `pip install 'coverage>=7.10'`.
"""

from __future__ import annotations

import argparse
import collections
import compileall
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parent))

from mutating.sites import Mutation, chosen  # pyright: ignore[reportMissingImports]
from mutating.tests_of_lines import Tests, recorded, users  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("resnet_spec", "backends")
COPIED = (*FOLDERS, "parity_tests", "scripts", "docs")
LEFT_OUT = ("against", "out_of_tree", "known_deviations")
"""Folders of parity_tests/ whose tests want other packages, or that have none."""
Verdict = Literal["noticed", "timed out", "not noticed", "not run"]


@dataclass(frozen=True)
class Result:
    """What the tests said of one mutation; `not run`: no test of the map runs its line."""

    module: str
    mutation: Mutation
    verdict: Verdict
    tests: int
    seconds: float

    def __str__(self) -> str:
        change = self.mutation
        before, after = (" ".join(text.split()) for text in (change.before, change.after))
        return f"{self.module}:{change.line}: {before} -> {after}"

    def as_dict(self) -> dict[str, object]:
        return {
            "place": f"{self.module}:{self.mutation.line}",
            "kind": self.mutation.kind,
            "before": self.mutation.before,
            "after": self.mutation.after,
            "verdict": self.verdict,
            "tests": self.tests,
            "seconds": round(self.seconds, 1),
        }


class Tree:
    """A copy of the tree, in which one mutation at a time is tried."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.root = folder / "tree"
        self._scratch = folder
        hidden = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info")
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.root / name, ignore=hidden)
        for file in root.iterdir():
            if file.is_file():
                shutil.copy(file, self.root / file.name)
        if (root.parent / "shared").exists():  # Files that some tests look for beside the tree.
            (folder / "shared").symlink_to((root.parent / "shared").resolve())
        # Once and for all: tests that limit the size of files would leave half of theirs.
        compileall.compile_dir(self.root, quiet=2)

    @property
    def environment(self) -> dict[str, str]:
        path = [str(self.root), str(self.root / "backends"), str(self.root / "scripts")]
        path += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        kept = {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
        return os.environ | kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def verdict(
        self, module: str, mutation: Mutation, tests: Sequence[str], limit: float
    ) -> Verdict:
        """Run tests on the mutated module; the module is as it was afterwards."""
        if not tests:
            return "not run"
        path = self.root / module
        source, times = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(mutation.applied(source), encoding="utf-8")
        try:
            return self._run(tests, limit)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _run(self, tests: Sequence[str], limit: float) -> Verdict:
        wanted, said = self._scratch / "wanted.json", self._scratch / "said.txt"
        wanted.write_text(json.dumps(list(tests)), encoding="utf-8")
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        command = ["-x", "-q", "-m", "", "-p", "no:cacheprovider", "-p", "mutating.plugin"]
        # The server has imported what pytest would instrument: not what a mutant can change.
        command += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        command += [f"--basetemp={self._scratch / 'tests'}", *files]
        request = {"command": command, "said": str(said), "seconds": limit}
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        text = said.read_text(encoding="utf-8", errors="replace")
        if status == -1:
            return "timed out"
        if status == 0:
            return "not noticed"
        if status in (1, 2) or "Error while loading conftest" in text:
            return "noticed"
        raise RuntimeError(f"pytest ended with {status}:\n{text[-2000:]}")

    @cached_property
    def _server(self) -> subprocess.Popen[str]:
        """The process whose forks run the tests; it ends with this one, which holds its input."""
        return subprocess.Popen(
            [sys.executable, "-m", "mutating.server"],
            cwd=self.root,
            env=self.environment | {"MUTATION_SELECT": str(self._scratch / "wanted.json")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        if "_server" in self.__dict__:
            self._server.communicate()


def modules(root: Path, only: Iterable[str]) -> dict[str, str]:
    """Return path -> text of the modules, or of those at or below the paths named."""
    wanted = [root / name for name in only]
    paths = sorted(path for name in FOLDERS for path in (root / name).rglob("*.py"))
    if wanted:
        paths = [p for p in paths if any(p == w or w in p.parents for w in wanted)]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def rooms_of_tests(root: Path) -> list[str]:
    """Return the folders of tests; the files beside them are the parity matrix, and slow."""
    folders = sorted((root / "parity_tests").glob("[a-z]*/"))
    return [f"parity_tests/{path.name}" for path in folders if path.name not in LEFT_OUT]


def _is_table(module: str) -> bool:
    """Whether a module's numbers are what others measured: no test could know them better."""
    return "/weights/published/" in module


def room(module: str) -> str:
    """Return the folder that a module stands in, two deep at most."""
    parts = Path(module).parts[:-1]
    return "/".join(parts[:2])


def tests_of(tree: Tree, arguments: list[str], kept: Path | None) -> Tests:
    """Record what the tests run, or take it from the file that kept it for this very tree."""
    every = modules(tree.root, ())
    text = "".join(f"{name}\0{source}\0" for name, source in every.items()) + "\0".join(arguments)
    mark = hashlib.sha256(text.encode()).hexdigest()
    if kept and kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["tree"] == mark:
            lines = {m: {int(n): t for n, t in at.items()} for m, at in found["lines"].items()}
            return Tests(found["seconds"], lines, users(every))
        print(f"{kept} is of another tree: recorded anew")
    scratch = tree.root.parent / "recorded"
    seconds, lines = recorded(tree.root, scratch, tree.environment, arguments)
    if kept:
        content = {"tree": mark, "seconds": seconds, "lines": lines}
        kept.write_text(json.dumps(content), encoding="utf-8")
    return Tests(seconds, lines, users(every))


def tried(
    trees: queue.Queue[Tree], module: str, mutation: Mutation, tests: Tests, most: int
) -> Result:
    """Try one mutation in a copy that is free."""
    names = tests.of(module, mutation)[:most]
    limit = 30 + 5 * sum(tests.seconds[name] for name in names)
    tree = trees.get()
    started = time.monotonic()
    try:
        verdict = tree.verdict(module, mutation, names, limit)
    finally:
        trees.put(tree)
    return Result(module, mutation, verdict, len(names), time.monotonic() - started)


def print_summary(results: Sequence[Result]) -> None:
    """Print what was noticed by room, and then what was not, one a line."""
    rooms: dict[str, collections.Counter[str]] = {}
    for result in results:
        rooms.setdefault(room(result.module), collections.Counter())[result.verdict] += 1
    total = sum(rooms.values(), collections.Counter[str]())
    print()
    for name, counts in [*sorted(rooms.items()), ("all", total)]:
        timed_out = f", {counts['timed out']} timed out" if counts["timed out"] else ""
        print(f"{name:<34} {counts['noticed']:>4} of {counts.total():>4} noticed{timed_out}")
    for verdict in ("not noticed", "not run"):
        found = sorted(str(result) for result in results if result.verdict == verdict)
        print(f"\n{verdict}: {len(found)}")
        for line in found:
            print(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutate each module, and see which tests notice.")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-module", type=int, default=1, metavar="N")
    parser.add_argument("--only", action="append", default=[], metavar="PATH")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, help="all that follows is for pytest")
    parser.add_argument("--most", type=int, default=60, metavar="N", help="tests of a mutant")
    parser.add_argument("--map", type=Path, metavar="FILE", help="kept from run to run")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    arguments = args.tests or rooms_of_tests(ROOT)
    sources = modules(ROOT, args.only)
    work = [
        (module, mutation)
        for module, source in sources.items()
        for mutation in chosen(source, args.per_module, f"{args.seed} {module}", _is_table(module))
    ]
    without = len(sources) - len({module for module, _ in work})
    print(f"{len(work)} mutations of {len(sources)} modules; {without} have no place for one")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(args.jobs):
            trees.put(Tree(Path(scratch) / str(number)))
        tests = tests_of(trees.queue[0], arguments, args.map)
        print(f"{len(tests.seconds)} tests recorded")
        with ThreadPoolExecutor(args.jobs) as pool:
            futures = [pool.submit(tried, trees, *each, tests, args.most) for each in work]
            for done, future in enumerate(as_completed(futures), 1):
                results.append(future.result())
                result = results[-1]
                print(f"[{done}/{len(work)}] {result.verdict:<11} {result}", flush=True)
        for tree in trees.queue:
            tree.close()
    print_summary(results)
    if args.out:
        ordered = sorted(results, key=lambda result: (result.module, result.mutation.start))
        content = {"seed": args.seed, "results": [result.as_dict() for result in ordered]}
        args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(result.verdict in ("not noticed", "not run") for result in results))


if __name__ == "__main__":
    sys.exit(main())
