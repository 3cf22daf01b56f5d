"""What the images of weights are normalised with, where those say it and where they do not."""

from __future__ import annotations

from resnet_spec.data.dataset import Dataset
from resnet_spec.data.statistics import KNOWN
from resnet_spec.describing.spec import Spec
from resnet_spec.weights.loading import Pretrained


def with_known_statistics(
    weights: Pretrained, data: Dataset | None = None
) -> tuple[Spec, tuple[str, ...]]:
    """Return the weights' spec with a mean and a deviation, and a note on where they are from.

    They are the weights' own where these have some, else the data's, else ImageNet's.
    """
    spec = weights.spec
    if spec.input.mean:
        return spec, ()
    (mean, std), source = KNOWN["imagenet"], "ImageNet"
    if data is not None and data.channels == spec.input.channels:
        mean, std, source = data.mean, data.std, data.name
    elif spec.input.channels != len(mean):
        return spec, ("input.mean, input.std: nothing says them; images are scaled to 0..1",)
    values = {"mean": mean, "std": std}
    shape = spec.input.model_copy(update=values)
    note = f"input.mean, input.std: the weights do not say; those of {source} are taken"
    return spec.model_copy(update={"input": shape}), (note,)
