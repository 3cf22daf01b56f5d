"""Which class names are shown when both the data and the weights have some."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.errors import DataError


def shown_names(data: Sequence[str], weights: Sequence[str], place: str) -> tuple[str, ...]:
    """Return the data's names, or the weights' own where the data only numbers its classes.

    place: how the data was named. weights: () where they do not say. Raises DataError when both
    name their classes, and not the same, for a true label would then be another class's.
    """
    if not weights or _numbers(weights) or tuple(weights) == tuple(data):
        return tuple(data)
    if _numbers(data):
        return tuple(weights)
    at = next(i for i, pair in enumerate(zip(data, weights, strict=True)) if pair[0] != pair[1])
    raise DataError(
        f"--data = {place}: its class {at} is {data[at]}, and the weights' is {weights[at]}; "
        "give data with the classes that they were trained on"
    )


def _numbers(names: Sequence[str]) -> bool:
    return tuple(names) == tuple(str(i) for i in range(len(names)))
