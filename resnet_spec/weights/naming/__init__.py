"""Naming schemes: how other projects call the tensors of a ResNet. One file and one line each.

A scheme is a pure function over the plan, never a pattern over foreign keys.
"""

from __future__ import annotations

from resnet_spec.errors import CheckpointError, did_you_mean, problem
from resnet_spec.weights.naming.cifar import AKAMASTER, KUANGLIU
from resnet_spec.weights.naming.flax_imagenet import FLAX_IMAGENET
from resnet_spec.weights.naming.hf import HF, HF_FLAX
from resnet_spec.weights.naming.jax_resnet import JAX_RESNET
from resnet_spec.weights.naming.keras_applications import KERAS_APPLICATIONS, KERAS_APPLICATIONS_RGB
from resnet_spec.weights.naming.keras_hub import KERAS_HUB
from resnet_spec.weights.naming.mindcv import MINDCV
from resnet_spec.weights.naming.mindspore_tutorial import MINDSPORE_TUTORIAL
from resnet_spec.weights.naming.mindvision import MINDVISION
from resnet_spec.weights.naming.names import Fold, Foreign, Output, Paths, Scheme
from resnet_spec.weights.naming.pycls import PYCLS
from resnet_spec.weights.naming.timm import CANONICAL, TIMM, TIMM_V2, TORCHVISION

__all__ = ["SCHEMES", "Fold", "Foreign", "Output", "Paths", "Scheme", "scheme"]

_ALL = [
    TIMM,
    TIMM_V2,
    TORCHVISION,
    HF,
    HF_FLAX,
    MINDCV,
    MINDVISION,
    MINDSPORE_TUTORIAL,
    KERAS_HUB,
    KERAS_APPLICATIONS,
    KERAS_APPLICATIONS_RGB,
    FLAX_IMAGENET,
    JAX_RESNET,
    PYCLS,
    AKAMASTER,
    KUANGLIU,
    CANONICAL,
]
SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}


def scheme(name: str) -> Scheme:
    """Return the scheme called `name`. Raises CheckpointError with the nearest name."""
    if name not in SCHEMES:
        hint = did_you_mean(name, SCHEMES)
        raise CheckpointError(problem("names", name, "is no naming scheme", hint))
    return SCHEMES[name]
