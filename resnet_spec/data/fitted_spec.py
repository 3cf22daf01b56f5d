"""Fit a spec to a dataset: image size, channels, statistics and classes come from the data."""

from __future__ import annotations

from resnet_spec.data.dataset import Dataset
from resnet_spec.describing.spec import Input, Spec


def fitted(spec: Spec, data: Dataset) -> tuple[Spec, list[str]]:
    """Return `spec` for images of `data`, and a line for every change a reader should know of.

    A mean and standard deviation that the spec gives itself are kept.
    """
    notes: list[str] = []
    for what, old, new in (
        ("classes", spec.classes, len(data.classes)),
        ("input.size", spec.input.size, data.size),
        ("input.channels", spec.input.channels, data.channels),
    ):
        if old != new:
            notes.append(f"{what} = {old} of {spec.name} becomes {new}, as in {data.name}")
    own = spec.input.mean and data.channels == spec.input.channels
    mean, std = (spec.input.mean, spec.input.std) if own else (data.mean, data.std)
    shape = Input(size=data.size, channels=data.channels, mean=mean, std=std)
    return spec.model_copy(update={"classes": len(data.classes), "input": shape}), notes
