"""From a spec's name to a native module or a session, with initial weights from a seed.

The public entry points for Python. Imports the core and, by name, a backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spec.contract import Precision, Session
from resnet_spec.initial import initial_state
from resnet_spec.loader import load_backend
from resnet_spec.lowering import lower
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.recipes import load_recipe
from resnet_spec.spec_files import Source, load_spec


def build(
    source: Source,
    backend: str,
    *,
    classes: int | None = None,
    input_size: int | None = None,
    seed: int = 0,
) -> Any:
    """Return the network as `backend`'s own module, float32, on the CPU, freshly initialised.

    source: a preset name, a `.toml` or `.json` file, a dict or a spec.
    backend: "torch" gives an `nn.Module`, "flax" an `nnx.Module`, "mindspore" an `nn.Cell`.
    classes, input_size: replace those of the spec; `input_size` is in pixels per side.
    seed: the same seed gives the same weights in every backend.

    Raises SpecError for a spec that breaks a rule, BackendError for a backend that is not there.
    """
    plan = _plan(source, classes, input_size)
    return load_backend(backend).build(plan, initial_state(plan, seed))


def session(
    source: Source,
    backend: str,
    recipe: str | Path | Recipe | None = None,
    *,
    classes: int | None = None,
    input_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision | None = None,
    compile: bool = False,
) -> Session:
    """Return a session of the network on `device`, with initial weights from `seed` loaded.

    recipe: a name, a file or a recipe; needed by `Session.train`.
    precision: default: the recipe's, or float32 without one.

    Other arguments and errors as in `build`; RecipeError for a recipe that breaks a rule.
    """
    plan = _plan(source, classes, input_size)
    chosen = None if recipe is None else load_recipe(recipe)
    made = load_backend(backend).Session(
        plan,
        chosen,
        device=device,
        precision=precision or (chosen.precision if chosen else "float32"),
        compile=compile,
    )
    made.load(initial_state(plan, seed))
    return made


def _plan(source: Source, classes: int | None, input_size: int | None) -> Plan:
    settings = [f"classes={classes}"] if classes is not None else []
    settings += [f"input.size={input_size}"] if input_size is not None else []
    return lower(load_spec(source, settings))
