#!/usr/bin/env python3
"""Plant every fault on every backend, vary what must not matter, and print what parity says of it.

    python scripts/detection_table.py [--backends a,b] [--store FILE] [--out FILE.md]

A fault is found when its level is `different`, localised when the node at fault is named, and named
when the cause is. A variation is a false alarm when any level, or any search for a wrong node, is
not content with it. What is done is kept in the store, one JSON line each, and not done again.
Exit status 1 when a fault slips through or a variation does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "parity_tests"))

from fault_catalogue import FAULTS  # pyright: ignore[reportMissingImports]
from harmless import HARMLESS  # pyright: ignore[reportMissingImports]
from pairs import floors  # pyright: ignore[reportMissingImports]
from rich.progress import Progress
from store import Cell, append, read  # pyright: ignore[reportMissingImports]

from resnet_spec.files.writing import write_text
from resnet_spec.loader import installed_backends
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.localise import MODES, localise, search
from resnet_spec.parity.side import Side
from resnet_spec.parity.verdicts import judge

STAGES = ("found", "localised", "named")


def main() -> int:
    args = parse()
    backends = args.backends or installed_backends()
    cells = read(args.store)
    jobs = {
        f"{kind}/{name}/{backend}": (run, backend, name)
        for backend in backends
        for kind, catalogue, run in (("fault", FAULTS, plant), ("harmless", HARMLESS, vary))
        for name, entry in catalogue.items()
        if entry.suits(backend)
    }
    with Progress(transient=True) as bar:
        task = bar.add_task("starting", total=len(jobs))
        for key, (run, backend, name) in jobs.items():
            bar.update(task, description=f"{backend}: {name}")
            if key not in cells:
                cells[key] = run(backend, name)
                append(args.store, key, cells[key])
            bar.advance(task)
    text = "\n".join(page(cells, backends))
    print(text)
    if args.out is not None:
        write_text(args.out, text + "\n")
    failures = [key for key in jobs if is_failure(key, cells[key])]
    print(f"{len(jobs)} cells, {len(failures)} not as they should be: {', '.join(failures) or '-'}")
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print what parity finds, localises and names.")
    parser.add_argument("--backends", type=lambda text: text.split(","))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


# --- Doing it -------------------------------------------------------------------------------------


def plant(backend: str, name: str) -> Cell:
    """Return whether the fault is found, localised and named; None where there is nothing to say.

    `info` describes the sound session that the faulty one would have been.
    """
    fault = FAULTS[name]
    judged_by = floors(fault.case, "float32")
    side = fault.plant(backend, judged_by.expected.setup)
    row = judge(fault.level, side, judged_by)
    finding = next(iter(localise(side, judged_by, [fault.level])), None)
    node, cause = ("", "") if finding is None else (finding.node, finding.cause)
    return {
        "found": row.verdict == "different",
        "localised": node == fault.node if fault.node else None,
        "named": cause in fault.causes if fault.causes else None,
        "finding": str(finding or ""),
        "info": described(backend),
    }


def vary(backend: str, name: str) -> Cell:
    """Return the worst level of a variation, as a part of its limit, and what is called wrong."""
    variation = HARMLESS[name]
    judged_by = floors(variation.case, "float32")
    setup = judged_by.expected.setup
    obstacle = variation.obstacle(backend, setup)
    if obstacle:
        return {"skipped": obstacle}
    with variation.around():
        side = variation.side(backend, setup)
        rows = [judge(level, side, judged_by) for level in LEVELS if level != "accuracy"]
        searched = {mode: search(mode, side, judged_by) for mode in MODES}
    wrong = [row.level for row in rows if row.is_wrong]
    wrong += [str(finding) for finding in searched.values() if finding is not None]
    worst = max(rows, key=lambda row: row.worst.floor_multiples / row.limit if row.limit else 0.0)
    part = worst.worst.floor_multiples / worst.limit if worst.limit else 0.0
    return {"alarms": wrong, "level": worst.level, "part": round(part, 3)}


@cache
def described(backend: str) -> str:
    info = Side(backend, floors("plain", "float32").expected.setup).info
    text = f"{info['framework']} {info['version']} on {info['device']} in {info['precision']}"
    return f"{text}, threads: {info['threads']}" if "threads" in info else text


def is_failure(key: str, cell: Cell) -> bool:
    """Whether a fault slipped through, or a variation did not."""
    if key.startswith("fault/"):
        return any(cell[stage] is False for stage in STAGES)
    return bool(cell.get("alarms"))


# --- Printing it ----------------------------------------------------------------------------------


def page(cells: dict[str, Cell], backends: list[str]) -> Iterator[str]:
    """Yield the lines of both tables as markdown."""
    yield "# What parity detects"
    yield ""
    yield "Made by `python scripts/detection_table.py --out docs/detection.md` on small networks"
    yield "(parity_tests/cases.py) with:"
    yield ""
    for backend in backends:
        info = next((c["info"] for k, c in cells.items() if k.endswith(f"/{backend}")), "")
        yield f"- {info}"
    yield ""
    yield f"## {len(FAULTS)} planted faults"
    yield ""
    yield "**named**: the level is `different`, and the right node and cause are named."
    yield "**localised** and **found** stand where there is no cause, or no node, to name."
    yield "Anything less says so."
    yield "A dash: the reference has no native layers to be wrong."
    yield ""
    yield from table(
        "| fault | level | node | cause |",
        backends,
        cells,
        "fault",
        {
            name: f"| `{name}` | {f.level} | {code(f.node)} | {' or '.join(f.causes)} |"
            for name, f in FAULTS.items()
        },
        of_fault,
    )
    for stage in STAGES:
        yield f"| **{stage}** | | | | {' | '.join(total(cells, b, stage) for b in backends)} |"
    yield ""
    yield f"## {len(HARMLESS)} harmless variations"
    yield ""
    yield "All levels and all searches of the localiser. `=`: equal, bit by bit, at every level;"
    yield "a percentage: of the limit of what counts as rounding, at the level that comes nearest."
    yield ""
    lines = {name: f"| `{name}` | `{v.case}` |" for name, v in HARMLESS.items()}
    yield from table("| variation | network |", backends, cells, "harmless", lines, of_variation)
    yield f"| **false alarms** | | {' | '.join(alarms(cells, b) for b in backends)} |"


def table(
    head: str,
    backends: list[str],
    cells: dict[str, Cell],
    kind: str,
    lines: dict[str, str],
    text: Callable[[Cell], str],
) -> Iterator[str]:
    yield f"{head} {' | '.join(backends)} |"
    yield "|---" * (head.count("|") - 1 + len(backends)) + "|"
    for name, line in lines.items():
        found = [cells.get(f"{kind}/{name}/{backend}") for backend in backends]
        yield f"{line} {' | '.join('–' if c is None else text(c) for c in found)} |"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def of_fault(cell: Cell) -> str:
    asked = [stage for stage in STAGES if cell[stage] is not None]
    missed = [stage for stage in asked if not cell[stage]]
    return f"**not {missed[0]}**" if missed else asked[-1]


def of_variation(cell: Cell) -> str:
    if "skipped" in cell:
        return f"skipped: {cell['skipped']}"
    if cell["alarms"]:
        return f"**{'; '.join(cell['alarms'])}**"
    return f"{cell['part']:.0%} ({cell['level']})" if cell["part"] else "="


def total(cells: dict[str, Cell], backend: str, stage: str) -> str:
    keys = [f"fault/{name}/{backend}" for name in FAULTS]
    asked = [cells[key][stage] for key in keys if key in cells and cells[key][stage] is not None]
    return f"{sum(asked)} of {len(asked)}"


def alarms(cells: dict[str, Cell], backend: str) -> str:
    keys = [f"harmless/{name}/{backend}" for name in HARMLESS]
    done = [cells[key]["alarms"] for key in keys if key in cells and "alarms" in cells[key]]
    return f"{sum(map(bool, done))} of {len(done)}"


if __name__ == "__main__":
    sys.exit(main())
