"""A dataset at the place that a run or a checkpoint has kept."""

from __future__ import annotations

from resnet_spec.data import data_place, list_datasets, load_data
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.given import is_name_of_given
from resnet_spec.data.locations import is_there, parted
from resnet_spec.errors import DataError


def load_kept(place: str, keeper: str, size: int | None = None) -> Dataset:
    """Return the dataset at `place`, which `keeper` has kept.

    Raises DataError that says where it was looked for where it is gone.
    """
    is_path = place not in list_datasets() and not is_name_of_given(place)
    if is_path and not is_there(parted(place)[0]):
        looked = parted(data_place(place))[0]
        rule = f"was trained on {place}, and there is no {looked}"
        raise DataError(f"{keeper}: {rule}; say where it is now with --data")
    return load_data(place, size=size)
