"""Write a residual network once, as data; get a native PyTorch, Flax or MindSpore model.

Every public name is imported when it is first used: `import resnet_spec` itself is quick and
imports neither a framework nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from resnet_spec import former as _former

_former.install()

if TYPE_CHECKING:
    from importlib.metadata import version as _version

    from resnet_spec.data import load_data
    from resnet_spec.data.dataset import Dataset
    from resnet_spec.describing.presets import list_presets
    from resnet_spec.describing.recipes import load_recipe
    from resnet_spec.describing.spec import Spec
    from resnet_spec.describing.spec_files import load_spec
    from resnet_spec.errors import (
        BackendError,
        CheckpointError,
        DataError,
        RecipeError,
        ResnetSpecError,
        SpecError,
    )
    from resnet_spec.plan import Plan
    from resnet_spec.planning.initial_weights import initial_state
    from resnet_spec.planning.lowering import lower
    from resnet_spec.recipe import Recipe
    from resnet_spec.running.building import build, session
    from resnet_spec.running.training import train

    __version__ = _version("resnet-spec")

__all__ = [
    "BackendError",
    "CheckpointError",
    "DataError",
    "Dataset",
    "Plan",
    "Recipe",
    "RecipeError",
    "ResnetSpecError",
    "Spec",
    "SpecError",
    "__version__",
    "build",
    "initial_state",
    "list_presets",
    "load_data",
    "load_recipe",
    "load_spec",
    "lower",
    "session",
    "train",
]

_HOMES = {
    "BackendError": "errors",
    "CheckpointError": "errors",
    "DataError": "errors",
    "Dataset": "data.dataset",
    "Plan": "plan",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "ResnetSpecError": "errors",
    "Spec": "describing.spec",
    "SpecError": "errors",
    "build": "running.building",
    "initial_state": "planning.initial_weights",
    "list_presets": "describing.presets",
    "load_data": "data",
    "load_recipe": "describing.recipes",
    "load_spec": "describing.spec_files",
    "lower": "planning.lowering",
    "session": "running.building",
    "train": "running.training",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("resnet-spec")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"resnet_spec.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'resnet_spec' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
