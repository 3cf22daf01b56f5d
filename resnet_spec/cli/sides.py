"""What `parity` and `bisect` have in common: the network, the sides, and their data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from resnet_spec.cli.arguments import add_part, add_spec, spec_of
from resnet_spec.cli.pretrained import add_ignore_classes, add_pretrained
from resnet_spec.cli.saying import tell
from resnet_spec.cli.side_settings import with_settings_sorted
from resnet_spec.describing.text_lists import once_each
from resnet_spec.errors import BackendError, SpecError, problem

if TYPE_CHECKING:
    from resnet_spec.contract import Precision, State
    from resnet_spec.describing.spec import Spec
    from resnet_spec.parity.compare import Tick
    from resnet_spec.parity.setup import Setup
    from resnet_spec.parity.side import Side
    from resnet_spec.recipe import Recipe

_RATE = 3e-4
"""Below the suite's: a deep network turns rounding into chaos sooner (see docs/parity.md)."""


class Sides(NamedTuple):
    """The float64 reference, and who is compared with it."""

    expected: Side
    sides: list[Side]


def add_sides(parser: argparse.ArgumentParser) -> None:
    """Declare SPEC or CHECKPOINT, who is compared, and on what."""
    changes = "change one field of the spec, or of --recipe, as in label_smoothing=0.1"
    add_spec(parser, checkpoint=True, settings=changes)
    add_pretrained(parser)
    add_part(parser)
    parser.add_argument(
        "--backends",
        type=names,
        metavar="A,B,...",
        help="backends to compare with the reference (default: all installed)",
    )
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="train as this recipe (a name or a file) does, but for length, batch, rates and what "
        "is done to single images",
    )
    parser.add_argument(
        "--against",
        metavar="MODULE:FACTORY",
        help="compare your own network instead: what this function returns, or a .onnx file",
    )
    parser.add_argument(
        "--names", metavar="SCHEME", help="how its tensors are called (default: timm)"
    )
    parser.add_argument("--data", metavar="D", help="take real images (default: drawn ones)")
    add_ignore_classes(parser)
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images (default: 4)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps (default: 20)")
    parser.add_argument("--images", type=int, default=256, metavar="N", help=_IMAGES)
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ... (default: the best)")
    parser.add_argument("--precision", help="float32 (default) or float64")


_IMAGES = "test images of --data whose predictions are compared (default: 256)"


def sides_of(args: argparse.Namespace) -> Sides:
    """Return what the arguments of `add_sides` describe. Raises for what cannot be had."""
    from resnet_spec.parity.floors import UNIT
    from resnet_spec.parity.side import Side
    from resnet_spec.parity.smooth_batch import reference_of

    _check_options(args)
    if precision_of(args) not in UNIT:
        remedy = f"use {' or '.join(UNIT)}"
        raise BackendError(problem("--precision", args.precision, "cannot be judged", remedy))
    args = with_settings_sorted(args)
    if args.against is not None:
        side = _own(args, _expected(args).setup)
        return Sides(reference_of(side.setup), [side])
    precision = precision_of(args)
    backends = _backends(args.backends, precision)
    expected = _expected(args)
    given = expected.setup, precision
    return Sides(expected, [Side(name, *given, device=args.device) for name in backends])


def precision_of(args: argparse.Namespace) -> Precision:
    """Return what is compared in where there is one process."""
    return args.precision or "float32"


class ForProcesses(NamedTuple):
    """What runs in several processes are given."""

    spec: Spec
    setup: Setup
    backends: Sequence[str]


def for_processes(args: argparse.Namespace, counts: Sequence[int]) -> ForProcesses:
    """Return what the arguments of `add_sides` describe for runs in `counts` processes."""
    from resnet_spec.loader import load_backend
    from resnet_spec.parity.processes import recipe_of

    _check_options(args)
    args = with_settings_sorted(args)
    if args.against is not None:
        raise BackendError("--against: a network of your own has no run; leave --processes out")
    backends = args.backends
    if backends is None:
        working = _backends(None, "float32")
        backends = [name for name in working if hasattr(load_backend(name), "join")]
    found = _network(args)
    recipe = _recipe(args, recipe_of(counts, args.steps, args.batch, _RATE), ("accumulate", "ema"))
    return ForProcesses(found.spec, _setup(args, found, recipe), backends)


def _check_options(args: argparse.Namespace) -> None:
    if args.names is not None and args.against is None:
        rule = "is of the tensors of a network of your own"
        raise BackendError(f"--names = {args.names}: {rule}; give --against, too")
    for option in ("batch", "steps", "images"):
        if getattr(args, option) < 1:
            raise SpecError(problem(f"--{option}", getattr(args, option), "must be >= 1"))


def _backends(asked: Sequence[str] | None, precision: Precision) -> Sequence[str]:
    """Return the backends asked for, or all that work; a warning names those that do not."""
    from resnet_spec.loader import installed_backends
    from resnet_spec.parity.compare import check_precision

    if asked is not None:
        once_each(asked, "--backends", BackendError)
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
    from resnet_spec.parity.calibrate import within_range
    from resnet_spec.parity.setup import make_recipe
    from resnet_spec.parity.smooth_batch import reference_of

    found = _network(args)
    recipe = _recipe(args, make_recipe(args.steps, args.batch, _RATE))
    expected = reference_of(_setup(args, found, recipe))
    return within_range(expected) if found.state is None else expected


def _recipe(args: argparse.Namespace, short: Recipe, kept: Sequence[str] = ()) -> Recipe:
    """Return --recipe as `short` trains, or `short`. kept: fields of `short` that stay."""
    if args.recipe is None:
        return short
    from resnet_spec.describing.recipes import load_recipe
    from resnet_spec.parity.setup import shortened

    asked = load_recipe(args.recipe, args.recipe_settings)
    fixed = {name: getattr(short, name) for name in kept}
    if args.against is not None:
        from resnet_spec.parity.own import of_bare

        return of_bare(shortened(asked, short))
    return shortened(asked.model_copy(update=fixed), short)


def _setup(args: argparse.Namespace, found: _Network, recipe: Recipe) -> Setup:
    """Return weights, and batches of --data or drawn ones."""
    from resnet_spec.data import load_data
    from resnet_spec.parity.setup import make_setup, with_data
    from resnet_spec.planning.lowering import lower
    from resnet_spec.planning.rematerialisation import trained_by

    spec, state, names = found
    plan = trained_by(lower(spec), recipe)
    setup = make_setup(plan, recipe, state=state)
    if args.ignore_classes and (args.data is None or state is None):
        rule = "is of weights and their data; give CHECKPOINT or --pretrained, and --data"
        raise SpecError(f"--ignore-classes: {rule}")
    if args.data is not None:
        data = load_data(args.data, size=spec.input.size)
        setup = with_data(setup, data, args.images, names, ignore=args.ignore_classes)
        _tell(*setup.notes)
    return setup


class _Network(NamedTuple):
    """A spec and its weights, None for those of a seed, and what its classes are called.

    names: () where weights do not say, None where a head is drawn.
    """

    spec: Spec
    state: State | None
    names: Sequence[str] | None = None


def _network(args: argparse.Namespace) -> _Network:
    """Return the network that the arguments describe."""
    if args.spec is None:
        if args.pretrained is None:
            raise SpecError("SPEC, --pretrained: one must be given; see: resnet-spec list")
        return _weights(args, args.pretrained)
    if _is_weights(args.spec):
        if args.pretrained is not None:
            raise SpecError(f"{args.spec}, --pretrained: both are weights; leave one out")
        return _weights(args, args.spec)
    spec = spec_of(args)
    if args.pretrained is None:
        if args.part is not None:
            raise SpecError("--part: is of pretrained weights; give --pretrained, too")
        return _Network(spec, None)
    from resnet_spec.weights.adopting import adopt
    from resnet_spec.weights.loading import load_pretrained

    weights = load_pretrained(args.pretrained, part=args.part)
    adopted = adopt(weights, spec, settings=args.settings)
    _tell(*weights.notes_with(spec), *adopted.notes)
    is_kept = weights.has_classifier and adopted.spec.classes == weights.spec.classes
    names = weights.class_names if is_kept else None
    return _Network(adopted.spec, adopted.state, names)


def _is_weights(text: str) -> bool:
    from resnet_spec.describing.from_text import is_file_name
    from resnet_spec.describing.presets import PRESETS
    from resnet_spec.weights.published.finding import is_weights

    return text not in PRESETS and not is_file_name(text) and is_weights(text)


def _weights(args: argparse.Namespace, source: str) -> _Network:
    """Return the network that weights themselves say or show."""
    from resnet_spec.weights.known_statistics import with_known_statistics
    from resnet_spec.weights.loading import load_pretrained

    size = [] if args.input_size is None else [f"input.size={args.input_size}"]
    weights = load_pretrained(source, settings=[*args.settings, *size], part=args.part).whole()
    if weights.checkpoint is not None and (args.settings or size):
        raise SpecError(f"{weights.source}: a checkpoint holds its spec; leave --set and sizes out")
    if args.classes is not None:
        raise SpecError(f"--classes: {weights.source} has its own {weights.spec.classes}")
    spec, note = with_known_statistics(weights)
    _tell(*weights.notes, *note)
    return _Network(spec, weights.state, weights.class_names)


def _tell(*notes: str) -> None:
    tell(notes, errors=True)


def _own(args: argparse.Namespace, setup: Setup) -> Side:
    from resnet_spec.parity.own import own_side

    if args.device != "auto":
        rule = "a network of your own computes where it is"
        raise BackendError(f"--device: {rule}; leave it out with --against")
    if args.backends is not None:
        raise BackendError("--against: compares with the reference alone; leave --backends out")
    return own_side(args.against, setup, args.names or "timm", precision_of(args))


@contextmanager
def progress(total: int) -> Generator[Tick]:
    """Yield a tick that moves a progress bar on a terminal's error stream."""
    from resnet_spec.cli.progress import StepBar

    with StepBar("starting", total) as bar:
        yield bar.step


def names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name for name in text.split(",") if name]
