"""Weights, the data they are looked at on, and a session that holds them, for several commands."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from resnet_spec.cli.pretrained import weights_of, with_known_statistics
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from resnet_spec.contract import Precision, Session
    from resnet_spec.data.dataset import Dataset, Split
    from resnet_spec.plan import Plan
    from resnet_spec.pretrained.loading import Pretrained
    from resnet_spec.spec import Spec


@dataclass(frozen=True)
class Loaded:
    """Weights with data that fits them. notes: what a person should know, one line each."""

    weights: Pretrained
    spec: Spec
    data: Dataset
    place: str
    notes: tuple[str, ...] = ()
    plan: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from resnet_spec.lowering import lower

        object.__setattr__(self, "plan", lower(self.spec))

    def split(self, name: str) -> Split:
        """Return the images of `name`, train or test. Raises DataError where there are none."""
        from resnet_spec.data.absent import training_split

        return training_split(self.data) if name == "train" else self.data.test

    def session(self, backend: str, device: str, precision: str) -> Session:
        """Return a session of `backend` that holds the weights. Raises BackendError."""
        from resnet_spec.loader import load_backend

        make = load_backend(backend).Session
        session = make(self.plan, device=device, precision=cast("Precision", precision))
        session.load(self.weights.state)
        return session


def loaded_of(args: argparse.Namespace) -> Loaded:
    """Return what `args.checkpoint`, `args.data` and the arguments of `add_weights` describe.

    Raises CheckpointError for weights that cannot be had, DataError for data that does not fit.
    """
    from resnet_spec.data import load_data
    from resnet_spec.data.encoded import viewed

    weights = weights_of(args, args.checkpoint)
    place = args.data or (weights.checkpoint.data if weights.checkpoint else "")
    if not place:
        raise DataError("--data: is required; the weights do not say what they were trained on")
    data = viewed(load_data(place, size=weights.spec.input.size), weights.view)
    spec, note = with_known_statistics(weights, data)
    _check_fit(spec, data, place)
    return Loaded(weights, spec, data, place, (*weights.notes, *note, *data.notes))


def _check_fit(spec: Spec, data: Dataset, place: str) -> None:
    for what, ours, theirs in (
        ("classes", spec.classes, len(data.classes)),
        ("channels", spec.input.channels, data.channels),
    ):
        if ours != theirs:
            raise DataError(
                f"--data = {place}: has {theirs} {what}, and the network was made for {ours}"
            )
