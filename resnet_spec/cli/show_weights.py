"""`resnet-spec show predictions | confusion | filters | features`: what weights do and are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from resnet_spec.cli.pretrained import WEIGHTS, add_weights, weights_of
from resnet_spec.cli.saying import tell
from resnet_spec.cli.show_output import Picture, add_output, counted, output_of, put
from resnet_spec.cli.weights_and_data import WeightsOnData, add_data, weights_on_data
from resnet_spec.errors import BackendError, DataError, problem

if TYPE_CHECKING:
    from resnet_spec.weights.loading import Pretrained

_MOST = 400
_QUICKEST_START = ("torch", "flax", "mindspore", "numpy")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help=WEIGHTS)
    add_weights(parser)
    add_output(parser)


def _add_session(parser: argparse.ArgumentParser) -> None:
    """Declare the weights, the backend that runs them, and the data."""
    add_data(parser)
    default = f"the first installed of {', '.join(_QUICKEST_START)}"
    parser.add_argument("--backend", metavar="NAME", help=f"default: {default}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    _add_weights(parser)


def _backend(args: argparse.Namespace) -> str:
    """Return --backend, or the first installed one. Raises BackendError when it cannot be had."""
    from resnet_spec.loader import check_backend, installed_backends

    installed = installed_backends()
    name = args.backend or next((one for one in _QUICKEST_START if one in installed), None)
    if name is None:
        raise BackendError("--backend: is required; see: resnet-spec backends")
    check_backend(name)
    return name


def _subject(weights: Pretrained) -> str:
    """Return a name for the weights: that of the run where the file's says nothing."""
    path = weights.path
    if weights.entry is not None:
        return weights.entry.name
    return f"{path.resolve().parent.name}-{path.stem}" if path.stem in _USUAL else path.stem


_USUAL = ("best", "last", "model", "checkpoint", "weights", "pytorch_model")


def _heading(args: argparse.Namespace, loaded: WeightsOnData, backend: str) -> str:
    return f"{_subject(loaded.weights)} on {loaded.data.name} {args.split}, {backend}"


def _tell(notes: tuple[str, ...]) -> None:
    tell(notes)


# --- predictions ----------------------------------------------------------------------------------


def _predictions_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=24, metavar="N", help="images (default: 24)")
    _add_session(parser)


def _predictions(args: argparse.Namespace) -> int:
    from resnet_spec.cli.progress import ImageBar
    from resnet_spec.showing import predictions

    count, backend = counted(args, _MOST), _backend(args)
    loaded = weights_on_data(args)
    names, output = loaded.data.classes, output_of(args, _subject(loaded.weights))
    split = loaded.split(args.split)
    session = loaded.session(backend, args.device, args.precision)
    with ImageBar(f"predicting on {backend}", min(count, len(split))) as bar:
        found = predictions.predictions(session, split, names, count, bar.tick)
    _tell(loaded.notes)
    heading = _heading(args, loaded, backend)
    return put(
        output,
        f"{heading}: {predictions.summary(found)}",
        lambda: predictions.lines(found),
        lambda: predictions.figure(found, heading),
    )


# --- confusion ------------------------------------------------------------------------------------


def _confusion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, metavar="N", help="the first N images (default: all)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="images at a time")
    _add_session(parser)


def _confusion(args: argparse.Namespace) -> int:
    from resnet_spec.cli.progress import ImageBar
    from resnet_spec.running.evaluate import evaluate
    from resnet_spec.showing import confusion
    from resnet_spec.showing.part import First

    for option in ("batch", "count"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise DataError(problem(f"--{option}", value, "must be >= 1"))
    backend, loaded = _backend(args), weights_on_data(args)
    names, output = loaded.data.classes, output_of(args, _subject(loaded.weights))
    split = loaded.split(args.split)
    split = split if args.count is None else First(split, args.count)
    session = loaded.session(backend, args.device, args.precision)
    with ImageBar(f"evaluating on {backend}", len(split)) as bar:
        result = evaluate(session, split, args.batch, bar.tick)
    if result.problem is not None:
        raise DataError(f"{_heading(args, loaded, backend)}: {result.problem}")
    matrix = confusion.confusion_matrix(split.labels, result.predictions, len(names))
    _tell(loaded.notes)
    heading = f"{_heading(args, loaded, backend)}: accuracy {confusion.accuracy(matrix):.4f}"
    return put(
        output,
        f"{heading}, {len(split)} images",
        lambda: confusion.lines(matrix, names),
        lambda: confusion.figure(matrix, names, heading),
    )


# --- filters --------------------------------------------------------------------------------------


def _filters(args: argparse.Namespace) -> int:
    from resnet_spec.planning.lowering import lower
    from resnet_spec.showing import filters

    weights = weights_of(args, args.checkpoint, whole=False)
    subject = _subject(weights)
    output = output_of(args, subject)
    found = filters.first_filters(lower(weights.spec), weights.state)
    _tell(weights.notes)
    return put(
        output,
        "; ".join(filters.about(found, subject)),
        lambda: filters.lines(found),
        lambda: filters.figure(found, subject),
    )


# --- features -------------------------------------------------------------------------------------


def _features_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--index", type=int, default=0, metavar="I", help="the image's place in its split"
    )
    _add_session(parser)


def _features(args: argparse.Namespace) -> int:
    import numpy as np

    from resnet_spec.contract import Batch
    from resnet_spec.showing import features

    backend, loaded = _backend(args), weights_on_data(args)
    names, output = loaded.data.classes, output_of(args, _subject(loaded.weights))
    split = loaded.split(args.split)
    if not 0 <= args.index < len(split):
        rule = f"must be 0..{len(split) - 1}, the {args.split} images of {loaded.data.name}"
        raise DataError(problem("--index", args.index, rule))
    place = np.array([args.index], dtype=np.int64)
    batch = Batch(split.images(place), split.labels[place], place)
    session = loaded.session(backend, args.device, args.precision)
    found = features.stage_features(session, loaded.plan, batch)
    label = names[int(batch.labels[0])]
    _tell(loaded.notes)
    heading = f"{_heading(args, loaded, backend)}, image {args.index} ({label})"
    return put(
        output,
        heading,
        lambda: features.lines(found),
        lambda: features.figure(found, batch.images[0], heading, label),
    )


PICTURES = {
    "predictions": Picture(
        "classes of images, right and wrong", _predictions_arguments, _predictions
    ),
    "confusion": Picture("which classes are taken for which", _confusion_arguments, _confusion),
    "filters": Picture("the filters of the first convolution", _add_weights, _filters),
    "features": Picture("one image's activations by stage", _features_arguments, _features),
}
