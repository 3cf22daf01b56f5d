"""Weights, the data they are looked at on, and a session that holds them, for several commands."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from resnet_spec.cli.pretrained import add_crop, add_ignore_classes, view_asked, weights_of
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from resnet_spec.contract import Precision, Session
    from resnet_spec.data.class_matching import Matched
    from resnet_spec.data.dataset import Dataset, Split
    from resnet_spec.describing.spec import Spec
    from resnet_spec.plan import Plan
    from resnet_spec.weights.loading import Pretrained


@dataclass(frozen=True)
class WeightsOnData:
    """Weights with data that fits them: its classes and labels are the network's.

    place: how the data was named. notes: what a person should know, one line each.
    """

    weights: Pretrained
    spec: Spec
    data: Dataset
    place: str
    notes: tuple[str, ...] = ()
    plan: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from resnet_spec.planning.lowering import lower

        object.__setattr__(self, "plan", lower(self.spec))

    def split(self, name: str) -> Split:
        """Return the images of `name`: train, validation or test, the first without the second.

        Raises DataError where there are none.
        """
        from resnet_spec.data.absent import training_split

        if name == "train":
            return training_split(self.data)
        if name != "validation":
            return self.data.test
        if self.data.validation is not None:
            return self.data.validation
        kept = self.weights.checkpoint
        rule = "the data has no validation part, and their run held no images out"
        if kept is not None and kept.held_out is not None:
            rule = "the data is not that which their run held images out of"
            rule = rule if kept.held_out.fraction else "the data has no validation part"
        raise DataError(f"--split = {name}: {rule}; give test or train")

    def session(self, backend: str, device: str, precision: str) -> Session:
        """Return a session of `backend` that holds the weights. Raises BackendError."""
        from resnet_spec.loader import load_backend

        make = load_backend(backend).Session
        session = make(self.plan, device=device, precision=cast("Precision", precision))
        session.load(self.weights.state)
        return session


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data, --split and --ignore-classes: which images weights are looked at on."""
    parser.add_argument("--data", metavar="D", help="dataset (default: the one it was trained on)")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    add_ignore_classes(parser)
    add_crop(parser)


def weights_on_data(args: argparse.Namespace) -> WeightsOnData:
    """Return what `args.checkpoint` and the arguments of `add_data` and `add_weights` describe.

    Raises CheckpointError for weights that cannot be had, DataError for data that does not fit.
    """
    from resnet_spec.data.at_size import sized, viewed
    from resnet_spec.data.relabelled import relabelled
    from resnet_spec.weights.known_statistics import with_known_statistics

    weights = weights_of(args, args.checkpoint)
    view = view_asked(args.crop, weights)
    place, read, changes = _read(args, weights)
    matched = fitting(read, weights, f"--data = {place}", ignore=args.ignore_classes)
    seen = viewed(sized(read, weights.spec.input.size), view)
    data = _parted(read, relabelled(seen, matched), weights, args.split)
    spec, note = with_known_statistics(weights, data)
    notes = (*weights.notes, *data.notes, *changes, *matched.notes, *note)
    return WeightsOnData(weights, spec, data, place, notes)


def _parted(read: Dataset, data: Dataset, weights: Pretrained, split: str) -> Dataset:
    """Return the data as the run of the weights parted it, where it is that run's data.

    read: the data before its labels were mapped to the network's.
    """
    from resnet_spec.data.fingerprint import Fingerprint
    from resnet_spec.data.held_out import hold_out

    kept = weights.checkpoint
    if split == "test" or kept is None or kept.held_out is None or kept.dataset is None:
        return data
    if kept.held_out.fraction is None:
        return data
    if kept.dataset.image_changes(Fingerprint.of(read, ("train",)), ("train",)):
        return data
    parted, held_out = hold_out(data, kept.held_out.fraction, batch=1)
    if held_out != kept.held_out:
        return data
    if data.validation is None:
        return parted
    note = "the validation images are those that the run held out of the training images"
    return replace(parted, notes=(*parted.notes, note))


def fitting(data: Dataset, weights: Pretrained, where: str, *, ignore: bool) -> Matched:
    """Return which of the network's classes those of `data` are. Raises DataError; see there.

    where: how the data was named.
    """
    from resnet_spec.data.class_matching import match_classes

    spec = weights.spec
    matched = match_classes(
        data.classes,
        weights.class_names,
        count=spec.classes,
        where=where,
        ignore=ignore,
        datasets=(data.name, weights.data_name),
    )
    if spec.input.channels != data.channels:
        ours, theirs = spec.input.channels, data.channels
        rule = f"has {theirs} channels, and the network was made for {ours}"
        raise DataError(f"{where}: {rule}")
    return matched


def _read(args: argparse.Namespace, weights: Pretrained) -> tuple[str, Dataset, tuple[str, ...]]:
    """Return the place, the data, and how that differs from what the weights were trained on.

    The last is looked for only where nobody names other data.
    """
    from resnet_spec.data import load_data
    from resnet_spec.data.as_before import as_before
    from resnet_spec.data.fingerprint import Fingerprint
    from resnet_spec.data.kept import load_kept

    size = weights.data_size
    if args.data is not None:
        return args.data, load_data(args.data, size=size), ()
    kept = weights.checkpoint
    if kept is None or not kept.data:
        raise DataError("--data: is required; the weights do not say what they were trained on")
    data = load_kept(kept.data, weights.source, size)
    if kept.dataset is None:
        return kept.data, data, ()
    data = as_before(data, kept.dataset)
    is_held_out = args.split == "validation" and data.validation is None
    changes = kept.dataset.image_changes(
        Fingerprint.of(data, ("train" if is_held_out else args.split,))
    )
    told = f"the data has changed since the run: {', '.join(changes)}"
    return kept.data, data, (told,) if changes else ()
