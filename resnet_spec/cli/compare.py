"""`resnet-spec compare`: a grid of networks, backends and seeds, run side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.arguments import add_settings
from resnet_spec.cli.saying import say, tell
from resnet_spec.cli.sides import names
from resnet_spec.errors import GridError, problem

if TYPE_CHECKING:
    from resnet_spec.comparing.cells import Cell
    from resnet_spec.comparing.grid import Grid
    from resnet_spec.comparing.processes import Share
    from resnet_spec.comparing.results import Result
    from resnet_spec.comparing.runner import Progress
    from resnet_spec.comparing.standing import Standing

_FAILED, _INTERRUPTED = 1, 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    what = "a .toml or .json file, or a study's name (see --list)"
    parser.add_argument("grid", nargs="?", metavar="GRID", help=what)
    parser.add_argument("--list", action="store_true", help="list the studies and end")
    parser.add_argument("--scaled", action="store_true", help="take the grid's smaller version")
    parser.add_argument("--specs", type=names, metavar="A,B,...", help="presets or files")
    parser.add_argument("--backends", type=names, metavar="X,Y,...")
    parser.add_argument("--seeds", type=names, metavar="0,1,...", help="(default: 0)")
    parser.add_argument("--data", metavar="D", help="dataset or path (default: digits)")
    parser.add_argument("--recipe", metavar="R", help="name or file (default: demo)")
    add_settings(parser, "change a field of every recipe or spec")
    held_out = "hold out this part of the training images, as in train"
    parser.add_argument("--validation", type=float, metavar="F", help=held_out)
    parser.add_argument("--input-size", type=int, metavar="N", help="image size in pixels")
    parser.add_argument("--device", metavar="DEVICE", help="as in train (default: auto)")
    baseline = "what differences are taken against: a network, a backend, NETWORK/BACKEND"
    parser.add_argument("--baseline", metavar="NAME", help=baseline)
    parser.add_argument(
        "--target-accuracy", type=float, metavar="F", help="tell the time to this accuracy"
    )
    parser.add_argument(
        "--show", choices=("accuracy", "error"), help="what curves show (default: accuracy)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: compared/NAME)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time")
    threads = "of each run (default: the processors divided by N, or $OMP_NUM_THREADS if less)"
    parser.add_argument("--threads", type=int, metavar="T", help=threads)
    parser.add_argument("--dry-run", action="store_true", help="check all, run nothing")


def run(args: argparse.Namespace) -> int:
    """Run what is not complete, and show what all came to.

    1 when a run failed, 130 after Ctrl-C.
    """
    from resnet_spec.comparing.cells import cells_of
    from resnet_spec.comparing.devices import check_device
    from resnet_spec.comparing.grid_lock import locked
    from resnet_spec.comparing.processes import Share
    from resnet_spec.comparing.sources import load_grid
    from resnet_spec.comparing.standing import standing
    from resnet_spec.files.writing import check_folder
    from resnet_spec.running.run_folder import RunFolder

    if args.list:
        return _list()
    for option in ("jobs", "threads"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise GridError(problem(f"--{option}", value, "must be >= 1"))
    grid = load_grid(args.grid, _changes(args), scaled=args.scaled)
    out = args.out or Path("compared") / _folder_name(grid.name)
    check_folder(out, "a comparison")
    if RunFolder(out).holds_run:
        raise GridError(problem("--out", out, "holds a run", "name a folder for the comparison"))
    cells = cells_of(grid, out)
    standings: list[Standing] = [standing(cell) for cell in cells]
    to_run = [c.backend for c, at in zip(cells, standings, strict=True) if at != "complete"]
    check_device(grid.device, to_run)
    share = Share.of(args.jobs, args.threads)
    say(_opening_lines(grid, cells, standings.count("complete"), share, out))
    if args.dry_run:
        print("\n".join(_listed(cells, standings)))
        return 0
    with locked(out, lambda line: tell([line])) as kept_open:
        return _run(grid, cells, share, out, kept_open)


def _list() -> int:
    from resnet_spec.printing.columns import GAP, hanging, padded
    from resnet_spec.printing.consoles import table_width

    rows = [("study", "about"), *_studies()]
    start, width = max(len(name) for name, _ in rows), table_width()
    for name, about in rows:
        print("\n".join(hanging(padded(name, start) + GAP, about, width)))
    return 0


def _studies() -> list[tuple[str, str]]:
    from resnet_spec.comparing.sources import list_studies, load_grid

    grids = (load_grid(name, {}) for name in list_studies())
    return [(grid.name, grid.about) for grid in grids]


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the grid that options give."""
    given = {
        "networks": args.specs,
        "backends": args.backends,
        "seeds": None if args.seeds is None else [_seed(text) for text in args.seeds],
        "data": args.data,
        "recipe": args.recipe,
        "set": args.settings or None,
        "input_size": args.input_size,
        "device": args.device,
        "validation": args.validation,
        "baseline": args.baseline,
        "target_accuracy": args.target_accuracy,
        "show": args.show,
    }
    return {key: value for key, value in given.items() if value is not None}


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise GridError(problem("--seeds", text, "must be integers >= 0, as in 0,1,2"))
    return int(text)


def _folder_name(name: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", name)


def _opening_lines(
    grid: Grid, cells: Sequence[Cell], complete: int, share: Share, out: Path
) -> str:
    first = cells[0].run
    held = "" if first.held_out is None else f"{first.held_out.count} validation, "
    lines = [
        f"{grid.name}: {len(cells)} runs ({_counted(len(grid.networks), 'network')}, "
        f"{_counted(len(grid.backends), 'backend')}, {_counted(len(grid.seeds), 'seed')}), "
        f"{complete} complete; {share.jobs} at a time, {_counted(share.threads, 'thread')} each; "
        f"in {out}",
        f"on {first.data.name} ({len(first.data.train)} train, {held}{len(first.data.test)} test "
        f"images, {first.data.size} px), recipe {first.recipe.name}",
        *(f"note: {note}" for note in (*grid.notes, *first.data.notes)),
    ]
    return "\n".join(lines)


def _listed(cells: Sequence[Cell], standings: Sequence[Standing]) -> list[str]:
    """Return a table of the runs, where they stand, and how long they are."""
    from resnet_spec.printing.columns import Column, fitted
    from resnet_spec.printing.consoles import table_width

    columns = [
        Column("network", least=10),
        Column("backend"),
        Column("seed", right=True),
        Column("standing"),
        Column("epochs", right=True, drop=1),
        Column("steps", right=True, drop=2),
    ]
    rows = [
        (c.network, c.backend, str(c.seed), at, str(c.epochs), f"{c.run.total_steps:,}")
        for c, at in zip(cells, standings, strict=True)
    ]
    return fitted(columns, rows, table_width())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _run(grid: Grid, cells: Sequence[Cell], share: Share, out: Path, kept_open: int) -> int:
    from resnet_spec.cli.compare_progress import GridView
    from resnet_spec.cli.report import places, told
    from resnet_spec.comparing.comparison import GRID, of_grid
    from resnet_spec.comparing.results import write_results
    from resnet_spec.comparing.runner import run_cells
    from resnet_spec.comparing.writing import write_report
    from resnet_spec.files.writing import write_json

    write_json(out / GRID, grid.to_dict())
    started: set[Path] = set()

    def tell(progress: Progress) -> None:
        view.changed(progress)
        if progress.state == "running":
            started.add(progress.cell.folder)
        elif progress.cell.folder in started:
            write_results(out, _results(cells), grid.target_accuracy, grid.notes)

    with GridView(cells) as view:
        ended = run_cells(cells, share, tell, kept_open)
    states = [progress.state for progress in ended]
    if "stopped" in states or "waiting" in states:
        print(f"stopped; the same command goes on: {states.count('complete')} runs are complete")
        return _INTERRUPTED
    comparison = of_grid(grid, _results(cells))
    written = write_report(out, comparison)
    print(f"\n{told(comparison)}\n{places(written)}")
    return _FAILED if "failed" in states else 0


def _results(cells: Sequence[Cell]) -> list[Result]:
    from resnet_spec.comparing.results import read_result

    return [read_result(cell.folder, cell.to_dict()) for cell in cells]
