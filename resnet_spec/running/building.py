"""From a spec's name to a native module or a session, with initial weights from a seed.

The public entry points for Python.
"""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, overload

from resnet_spec.contract import Precision, Session, State
from resnet_spec.describing.recipes import Source as RecipeSource
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.errors import CheckpointError, SpecError, check_kind, problem
from resnet_spec.folding import fold_norms
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.rematerialisation import trained_by
from resnet_spec.running.opening import open_session

if TYPE_CHECKING:
    from typing import Unpack

    from flax import nnx
    from mindspore.nn.cell import Cell  # pyright: ignore
    from torch import nn as torch_nn

    from resnet_spec.running.typed import (
        BuildOptions,
        FlaxSession,
        MindSporeSession,
        SessionOptions,
        TorchSession,
    )


@overload
def build(
    source: Source, backend: Literal["torch"], **options: Unpack[BuildOptions]
) -> torch_nn.Module: ...
@overload
def build(
    source: Source, backend: Literal["flax"], **options: Unpack[BuildOptions]
) -> nnx.Module: ...
@overload
def build(
    source: Source, backend: Literal["mindspore"], **options: Unpack[BuildOptions]
) -> Cell: ...
@overload
def build(source: Source, backend: str, **options: Unpack[BuildOptions]) -> Any: ...


def build(
    source: Source,
    backend: str,
    *,
    classes: int | None = None,
    input_size: int | None = None,
    seed: int = 0,
    pretrained: str | Path | None = None,
    part: str | None = None,
    fold: bool = False,
) -> Any:
    """Return the network as `backend`'s own module, float32, on the CPU, freshly initialised.

    source: a preset name, a `.toml` or `.json` file, a dict or a spec.
    backend: "torch" gives an `nn.Module`, "flax" an `nnx.Module`, "mindspore" an `nn.Cell`.
    classes, input_size: replace those of the spec; `input_size` is in pixels per side.
    seed: the same seed gives the same weights in every backend.
    pretrained: take these weights instead: published ones (`resnet50.tv2_in1k`), a weight file of
        any kind, or `hf:OWNER/NAME`. All must fit but the classifier, which is drawn from `seed`
        where the number of classes differs or an encoder has none; the spec gets their statistics
        of images.
    part: which network of a file with several: "ema", "encoder_q" or another step of its path.
    fold: put every norm that follows a convolution into it, which then has a bias: a module that
        predicts the same logits, within rounding, with fewer layers. For prediction alone: it
        trains as another network, and its keys are not those of weight files. Norms that follow no
        convolution, as before a pre-activation block, stay: put it into evaluation mode as ever.

    Raises SpecError for a spec that breaks a rule, BackendError for a backend that is not there,
    CheckpointError for weights that cannot be had, do not fit, or are of a network that computes
    otherwise.
    """
    check_kind(SpecError, "fold", fold, [bool], "must be True or False")
    package = load_backend(backend)  # Before anything is read or downloaded.
    plan, state = _network(source, classes, input_size, seed, pretrained, part)
    if fold:
        folded = fold_norms(plan, state)
        plan, state = folded.plan, folded.state
    return package.build(plan, state)


@overload
def session(
    source: Source,
    backend: Literal["torch"],
    recipe: RecipeSource | None = None,
    **options: Unpack[SessionOptions],
) -> TorchSession: ...
@overload
def session(
    source: Source,
    backend: Literal["flax"],
    recipe: RecipeSource | None = None,
    **options: Unpack[SessionOptions],
) -> FlaxSession: ...
@overload
def session(
    source: Source,
    backend: Literal["mindspore"],
    recipe: RecipeSource | None = None,
    **options: Unpack[SessionOptions],
) -> MindSporeSession: ...
@overload
def session(
    source: Source,
    backend: str,
    recipe: RecipeSource | None = None,
    **options: Unpack[SessionOptions],
) -> Session: ...
def session(
    source: Source,
    backend: str,
    recipe: RecipeSource | None = None,
    *,
    classes: int | None = None,
    input_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision | None = None,
    compile: bool = False,
    pretrained: str | Path | None = None,
    part: str | None = None,
) -> Session:
    """Return a session of the network on `device`, with initial weights from `seed` loaded.

    recipe: a name, a `.toml` or `.json` file, a dict or a recipe; needed by `Session.train`.
    precision: default: the recipe's, or float32 without one.

    Other arguments and errors as in `build`; RecipeError for a recipe that breaks a rule.
    """
    load_backend(backend)  # Before anything is read or downloaded.
    chosen = None if recipe is None else load_recipe(recipe)
    plan, state = _network(source, classes, input_size, seed, pretrained, part)
    if chosen is not None:
        plan = trained_by(plan, chosen)
    made = open_session(backend, plan, chosen, device, precision=precision, compile=compile)
    made.load(state)
    return made


def _network(
    source: Source,
    classes: int | None,
    input_size: int | None,
    seed: int,
    pretrained: str | Path | None,
    part: str | None,
) -> tuple[Plan, State]:
    rule = "must be a whole number"
    check_kind(SpecError, "classes", classes, [Integral, NoneType], rule)
    check_kind(SpecError, "input_size", input_size, [Integral, NoneType], rule)
    check_kind(SpecError, "seed", seed, [Integral], rule)
    if seed < 0:
        raise SpecError(problem("seed", seed, "must be >= 0"))
    settings = [f"classes={classes}"] if classes is not None else []
    settings += [f"input.size={input_size}"] if input_size is not None else []
    spec = load_spec(source, settings)
    if pretrained is None:
        if part is not None:
            raise CheckpointError("part: is of pretrained weights; give pretrained, too")
        plan = lower(spec)
        return plan, initial_state(plan, seed)
    from resnet_spec.weights.adopting import adopt
    from resnet_spec.weights.loading import load_pretrained

    adopted = adopt(load_pretrained(pretrained, part=part), spec, seed=seed)
    return lower(adopted.spec), adopted.state
