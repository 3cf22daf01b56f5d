"""Naming schemes: how other projects call the tensors of a ResNet. One file and one line each.

A scheme is a pure function over the plan, never a pattern over foreign keys.
"""

from __future__ import annotations

from resnet_spec.errors import CheckpointError, did_you_mean, problem
from resnet_spec.naming.flax_imagenet import flax_imagenet
from resnet_spec.naming.hf import hf
from resnet_spec.naming.mindcv import mindcv
from resnet_spec.naming.names import Foreign, Output, Paths, Scheme
from resnet_spec.naming.timm import timm

__all__ = ["SCHEMES", "Foreign", "Output", "Paths", "Scheme", "scheme"]

_ALL = [
    Scheme("timm", "timm's names, which are the canonical ones", timm, "torch"),
    Scheme("torchvision", "torchvision's names, the same", timm, "torch"),
    Scheme("hf", "the transformers library", hf, "torch"),
    Scheme("mindcv", "MindCV, on MindSpore", mindcv, "mindspore"),
    Scheme("flax-imagenet", "Flax's ImageNet example", flax_imagenet, "flax"),
]
SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}


def scheme(name: str) -> Scheme:
    """Return the scheme called `name`. Raises CheckpointError with the nearest name."""
    if name not in SCHEMES:
        hint = did_you_mean(name, SCHEMES)
        raise CheckpointError(problem("names", name, "is no naming scheme", hint))
    return SCHEMES[name]
