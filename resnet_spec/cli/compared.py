"""What `parity` and `bisect` have in common: the network, the sides, and their data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resnet_spec.cli.arguments import add_spec, spec_of
from resnet_spec.errors import BackendError, SpecError, problem

if TYPE_CHECKING:
    from resnet_spec.contract import Precision
    from resnet_spec.parity.compare import Tick
    from resnet_spec.parity.setup import Setup
    from resnet_spec.parity.side import Side

_RATE = 3e-4
"""Below the suite's: a deep network turns rounding into chaos sooner (see docs/parity.md)."""


class Compared(NamedTuple):
    """The float64 reference, and who is compared with it."""

    expected: Side
    sides: list[Side]


def add_compared(parser: argparse.ArgumentParser) -> None:
    """Declare SPEC or CHECKPOINT, who is compared, and on what."""
    add_spec(parser, checkpoint=True)
    parser.add_argument(
        "--backends",
        type=names,
        metavar="A,B,...",
        help="backends to compare with the reference (default: all installed)",
    )
    parser.add_argument(
        "--against",
        metavar="MODULE:FACTORY",
        help="compare your own network instead: what this function returns, or a .onnx file",
    )
    parser.add_argument(
        "--names", default="timm", metavar="SCHEME", help="how its tensors are called (timm)"
    )
    parser.add_argument("--data", metavar="D", help="take real images (default: drawn ones)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images (default: 4)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps (default: 20)")
    parser.add_argument("--images", type=int, default=256, metavar="N", help=_IMAGES)
    parser.add_argument("--precision", default="float32", help="float32 (default) or float64")


_IMAGES = "test images of --data whose predictions are compared (default: 256)"


def compared_of(args: argparse.Namespace) -> Compared:
    """Return what the arguments of `add_compared` describe. Raises for what cannot be had."""
    from resnet_spec.parity.settle import reference_of
    from resnet_spec.parity.side import Side

    for option in ("batch", "steps", "images"):
        if getattr(args, option) < 1:
            raise SpecError(problem(f"--{option}", getattr(args, option), "must be >= 1"))
    if args.against is not None:
        side = _own(args, _expected(args).setup)
        return Compared(reference_of(side.setup), [side])
    backends = _backends(args.backends, args.precision)
    expected = _expected(args)
    return Compared(expected, [Side(name, expected.setup, args.precision) for name in backends])


def _backends(asked: Sequence[str] | None, precision: Precision) -> Sequence[str]:
    """Return the backends asked for, or all that work; a warning names those that do not."""
    from resnet_spec.loader import installed_backends
    from resnet_spec.parity.compare import check_precision

    if asked:
        for name in asked:
            check_precision(name, precision)
        return asked
    working: list[str] = []
    for name in installed_backends():
        try:
            check_precision(name, precision)
            working.append(name)
        except BackendError as error:
            print(f"resnet-spec: warning: {error}; left out", file=sys.stderr)
    return [name for name in working if name != "numpy"] or working


def _expected(args: argparse.Namespace) -> Side:
    from resnet_spec.checkpoint import load_checkpoint
    from resnet_spec.data import load_data
    from resnet_spec.lowering import lower
    from resnet_spec.parity.calibrate import within_range
    from resnet_spec.parity.settle import reference_of
    from resnet_spec.parity.setup import make_recipe, make_setup, with_data

    state = None
    if args.spec.endswith(".safetensors"):
        if args.settings or args.input_size or args.classes:
            raise SpecError(f"{args.spec}: a checkpoint holds its spec; leave --set and sizes out")
        checkpoint = load_checkpoint(Path(args.spec)).evaluated()
        spec, state = checkpoint.spec, checkpoint.state
    else:
        spec = spec_of(args)
    plan = lower(spec)
    setup = make_setup(plan, make_recipe(args.steps, args.batch, _RATE), state=state)
    if args.data is not None:
        setup = with_data(setup, load_data(args.data, size=spec.input.size), args.images)
    expected = reference_of(setup)
    return within_range(expected) if state is None else expected


def _own(args: argparse.Namespace, setup: Setup) -> Side:
    from resnet_spec.parity.own import own_side

    if args.backends:
        raise BackendError("--against: compares with the reference alone; leave --backends out")
    return own_side(args.against, setup, args.names, args.precision)


@contextmanager
def progress(total: int) -> Generator[Tick]:
    """Yield a tick that moves a progress bar on a terminal's error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=total)

        def tick(what: str) -> None:
            bar.update(task, description=what, advance=1)

        yield tick


def names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name for name in text.split(",") if name]
