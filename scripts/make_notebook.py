#!/usr/bin/env python3
"""Make a Jupyter notebook out of a page of the documentation, or run one.

    python scripts/make_notebook.py [docs/tutorial.md] [--check | --run FOLDER]

Blocks of `python` become cells, blocks of `console` become cells of a shell, and all between
them becomes text. The notebook is written beside the page, without outputs; the same page gives the
same bytes. `--check` writes nothing and fails when the notebook is not the page's. `--run` executes
it in FOLDER and leaves it there with its outputs; a cell that fails ends it with status 1.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a notebook out of a page.")
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs" / "tutorial.md")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--run", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    made, path = notebook_of(args.page.read_text("utf-8")), args.page.with_suffix(".ipynb")
    if args.run is not None:
        return run(made, args.run, path.name)
    text = nbformat.writes(made) + "\n"
    if not args.check:
        path.write_text(text, "utf-8")
        return 0
    if not path.is_file() or path.read_text("utf-8") != text:
        print(f"{path}: is not made from {args.page}; run: scripts/make_notebook.py {args.page}")
        return 1
    return 0


def notebook_of(page: str) -> Any:
    """Return the notebook of a page's text."""
    cells: list[Any] = []
    for number, (kind, text) in enumerate(parts(page)):
        cell = v4.new_markdown_cell(text) if kind == "text" else v4.new_code_cell(text)
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    return v4.new_notebook(cells=cells, metadata={"kernelspec": _KERNEL})


def parts(page: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text): "text", "python" or "console", in the order of the page."""
    at = 0
    for block in _BLOCK.finditer(page):
        if text := page[at : block.start()].strip():
            yield "text", text
        kind, body = block.groups()
        yield kind, body.strip() if kind == "python" else commands(body)
        at = block.end()
    if text := page[at:].strip():
        yield "text", text


def commands(body: str) -> str:
    """Return the commands of a console block as a cell of a shell; their output is dropped."""
    lines = (line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ "))
    return "\n".join(["%%bash -e", *lines])


def run(made: Any, folder: Path, name: str) -> int:
    """Execute in `folder`, and write the notebook with its outputs there."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    folder.mkdir(parents=True, exist_ok=True)
    # The commands of this environment, whether it is activated or not.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    client = NotebookClient(made, timeout=600, resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        nbformat.write(made, folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
