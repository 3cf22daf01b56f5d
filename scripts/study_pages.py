#!/usr/bin/env python3
"""Put the results of finished studies into their pages, docs/studies/NAME.md.

    python scripts/study_pages.py DIR [DIR ...]

DIR is what `resnet-spec compare NAME --out DIR` has left, or docs/studies/records/NAME itself.
What its runs noted, their settings, their epochs and their summaries, goes to
docs/studies/records/NAME. `resnet-spec report` makes tables and figures of that; the tables go
between the page's two markers, and the figures beside the page. What people wrote around the
markers stays, and a page that is not there yet is begun.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resnet_spec.cli.main import main as resnet_spec
from resnet_spec.files.writing import write_json

PAGES = Path(__file__).resolve().parents[1] / "docs" / "studies"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FIGURES = {"curves": "Loss and accuracy over epochs", "accuracy": "Final test accuracy"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Put results of studies into their pages.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    for folder in parser.parse_args().folders:
        grid = json.loads((folder / "grid.json").read_text("utf-8"))
        page = PAGES / f"{grid['name']}.md"
        text = page.read_text("utf-8") if page.is_file() else begun(grid["name"], grid["about"])
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            print(f"{page}: must have {BEGIN} and {END}, once each", file=sys.stderr)
            return 1
        records = PAGES / "records" / page.stem
        if folder.resolve() != records:
            keep_records(folder, records)
        with TemporaryDirectory() as made:
            if status := resnet_spec(["report", str(records), "--out", made]):
                return status
            write(page, text, Path(made))
        print(page)
    return 0


def write(page: Path, text: str, report: Path) -> None:
    """Write `page`, `text` with the tables of a report between its markers, and the figures."""
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n\n{results(report, page.stem)}\n{END}{tail}", "utf-8")
    for name in FIGURES:
        shutil.copyfile(report / f"{name}.png", PAGES / f"{page.stem}_{name}.png")


def begun(name: str, about: str) -> str:
    """Return a page without results."""
    command = f"    resnet-spec compare {name} --scaled"
    return f"# {name}\n\n{about}.\n\n{command}\n\n{BEGIN}\n{END}\n"


def results(folder: Path, name: str) -> str:
    """Return the notes, figures and tables of a report, without what it begins with."""
    head, _, tables = (folder / "report.md").read_text("utf-8").partition("\n## ")
    notes = "\n".join(re.findall(r"^- .*", head, flags=re.MULTILINE))
    pictures = "\n\n".join(f"![{words}]({name}_{file}.png)" for file, words in FIGURES.items())
    return f"{notes}\n\n{pictures}\n\n## {tables}\n"


def keep_records(folder: Path, records: Path) -> None:
    """Copy the text files of the finished runs in `folder` to `records`; no weights, no paths."""
    shutil.rmtree(records, ignore_errors=True)
    records.mkdir(parents=True)
    grid = without_path(folder / "grid.json")
    # Where the data was, on that machine, is nobody's business.
    grid["notes"] = [note for note in grid["notes"] if not note.startswith("data = ")]
    write_json(records / "grid.json", grid)
    for source in sorted(folder.glob("runs/*/summary.json")):
        summary = without_path(source)
        if summary["complete"]:
            run = records / "runs" / source.parent.name
            run.mkdir(parents=True)
            shutil.copyfile(source.with_name("metrics.jsonl"), run / "metrics.jsonl")
            write_json(run / "summary.json", summary)
            write_json(run / "cell.json", without_path(source.with_name("cell.json")))


def without_path(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file; of `data`, which may be a folder, only the name."""
    fields = json.loads(path.read_text("utf-8"))
    return {**fields, "data": Path(fields["data"]).name}


if __name__ == "__main__":
    sys.exit(main())
