"""Where a picture goes: a file of each kind, one file, or the terminal as text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from resnet_spec.errors import DataError, problem

_ENDINGS = (".png", ".svg")


class Picture(NamedTuple):
    """One of the pictures: what it is in a few words, its arguments, and what it does."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Output:
    """files: what is written; () for the text form. missing: whether only matplotlib is lacking."""

    files: tuple[Path, ...]
    missing: bool = False


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --out and --text."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture, .png or .svg; both without an ending (default: named after its subject)",
    )
    parser.add_argument("--text", action="store_true", help="print it as text and draw nothing")


def check_output(args: argparse.Namespace) -> None:
    """Refuse what the arguments of `add_output` cannot mean, before any work is done."""
    from resnet_spec.reporting.plots import INSTALL, can_draw

    out: Path | None = args.out
    if out is None:
        return
    if args.text:
        raise DataError("--text, --out: the text is printed and nothing drawn; leave one out")
    if not can_draw():
        raise DataError(f"--out = {out}: needs matplotlib, not installed; run: {INSTALL}")
    if not out.name or out.suffix.lower() not in ("", *_ENDINGS):
        raise DataError(problem("--out", out, "must end in .png or .svg, or have no ending"))
    for file in (out, *_files(out)):
        if file.is_dir():
            raise DataError(problem("--out", file, "is a folder; name a file"))


def output_of(args: argparse.Namespace, subject: str) -> Output:
    """Return what the arguments of `add_output` ask for.

    subject: what is shown, for the name of the files where none is given.
    """
    from resnet_spec.reporting.plots import can_draw

    if args.text:
        return Output(())
    if not can_draw():
        return Output((), missing=True)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", subject).strip("-")
    return Output(tuple(_files(args.out or Path(f"{args.what}-{name}"))))


def _files(out: Path) -> list[Path]:
    from resnet_spec.reporting.plots import both_files

    return [out] if out.suffix else both_files(out)


def put(
    output: Output, heading: str, lines: Callable[[], Sequence[str]], draw: Callable[[], Any]
) -> int:
    """Print the heading and the text form, or draw and say on the last line where it is left."""
    from resnet_spec.reporting.plots import INSTALL, write_figure

    print(heading)
    if output.files:
        write_figure(draw(), output.files)
        print(f"left in {' and '.join(map(str, output.files))}")
        return 0
    print()
    for line in lines():
        print(line)
    if output.missing:
        print(f"\nno picture: needs matplotlib, not installed; run: {INSTALL}")
    return 0


def counted(args: argparse.Namespace, most: int) -> int:
    """Return --count. Raises DataError where it is not 1..most."""
    if not 1 <= args.count <= most:
        raise DataError(problem("--count", args.count, f"must be 1..{most}"))
    return args.count
