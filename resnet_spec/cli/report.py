"""`resnet-spec report`: tables, figures and a page from finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from resnet_spec.comparing.comparison import Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    what = "folders of runs, as train leaves them, or of a comparison"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=what)
    place = "(default: the comparison's own folder, or report)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=place)
    parser.add_argument("--title", metavar="TEXT")
    baseline = "what differences are taken against: a network, a backend, NETWORK/BACKEND"
    parser.add_argument("--baseline", metavar="NAME", help=baseline)
    parser.add_argument(
        "--target-accuracy", type=float, metavar="F", help="tell the time to this test accuracy"
    )
    parser.add_argument("--show", choices=("accuracy", "error"), help="what curves show")


def run(args: argparse.Namespace) -> int:
    """Print the tables and where the files are."""
    from resnet_spec.comparing.comparison import GRID, asked, of_folders
    from resnet_spec.comparing.writing import write_report
    from resnet_spec.files.writing import check_folder

    for folder in args.runs:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder")
    is_grid = len(args.runs) == 1 and (args.runs[0] / GRID).is_file()
    out = args.out or (args.runs[0] if is_grid else Path("report"))
    check_folder(out, "a report")
    comparison = asked(
        of_folders(args.runs),
        title=args.title,
        baseline=args.baseline,
        target=args.target_accuracy,
        show=args.show,
    )
    written = write_report(out, comparison)
    print(told(comparison))
    print(places(written))
    return 0


def told(comparison: Comparison) -> str:
    """Return the title, the notes and the tables as one text."""
    from resnet_spec.comparing.tables import tables_of
    from resnet_spec.printing.consoles import table_width

    width = table_width()
    head = [comparison.title, *([comparison.about] if comparison.about else [])]
    head += [f"note: {note}" for note in comparison.notes]
    return "\n\n".join(["\n".join(head), *(table.text(width) for table in tables_of(comparison))])


def places(written: list[Path]) -> str:
    """Return where the files are, in a line, and what is missing."""
    from resnet_spec.reporting.plots import INSTALL, can_draw

    names = ", ".join(path.name for path in written)
    more = "" if can_draw() else f"; no figures: matplotlib is not installed; run: {INSTALL}"
    return f"\nleft in {written[0].parent}: {names}{more}"
