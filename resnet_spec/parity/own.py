"""Compare a person's own network with a spec: the levels and the localiser, on any model.

A model is *wrapped*: its weights are lifted through a naming scheme and given to the reference, and
its framework's hooks show its activations, as far as it has any. What a bare model has not (an
optimiser) is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resnet_spec.contract import Batch, Precision, State
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import BackendError
from resnet_spec.parity.compare import Tick, check_levels, compare_sides
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.once import once
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.wrapping import load_factory, wrap
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.report import Report

LEVELS_OF_A_MODEL = (
    "names",
    "shapes",
    "counts",
    "logits",
    "activations",
    "train_logits",
    "gradients",
    "statistics",
    "accuracy",
)
"""What a model without an optimiser can be compared at."""


class OwnSide(Side):
    """A model that is no backend's, in the place of a session."""

    def __init__(self, session: Any, setup: Setup, precision: Precision) -> None:
        super().__init__("own", setup, precision)
        self._wrapped = session

    @once
    def _session(self) -> Any:
        return self._wrapped

    @property
    def session(self) -> Any:
        """The wrapped model, with its own weights."""
        return self._wrapped

    @property
    def _asked(self) -> Any:
        return self._wrapped

    def offers(self, level: str) -> bool:
        """Return whether the model shows what `level` compares."""
        return level in LEVELS_OF_A_MODEL and level in self._wrapped.levels

    @once
    def stepped(self) -> State:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The running statistics after one training-mode pass; no weight changes."""
        return self._wrapped.statistics(self.batch)


def compare(
    model: Any,
    spec: Source,
    names: str | Mapping[str, str] = "timm",
    *,
    settings: Texts = (),
    input_size: int | None = None,
    batch: int = 4,
    levels: Texts | None = None,
    precision: Precision = "float32",
    dataset: Sequence[Batch] = (),
    tick: Tick = lambda what: None,
) -> Report:
    """Return a report of `model` against the float64 reference of `spec`, given the same weights.

    model: a torch `nn.Module`, a Flax NNX module, a Linen module with its variables as a pair, a
        MindSpore `nn.Cell`, the path of an ONNX file, or a function from normalised images
        [N, C, H, W] to logits [N, classes].
    spec: a preset name, a `.toml` or `.json` file, a dict or a spec; `settings` as in `--set`.
    names: a naming scheme, or a dict from canonical names to the model's.
    levels: those to compare at; by default all that the model can be compared at.
    dataset: batches whose predictions are compared.

    Raises CheckpointError with every tensor that is missing, unexpected or misshapen, SpecError and
    BackendError.
    """
    asked = None if levels is None else listed(levels, "levels", BackendError)
    check_levels(asked or ())
    plan = lower(load_spec(spec, settings), input_size)
    setup = make_setup(plan, make_recipe(1, batch), dataset=dataset)
    side = _side(model, setup, names, precision)
    wanted = [level for level in LEVELS if side.offers(level)] if asked is None else asked
    return compare_sides(reference_of(side.setup), [side], wanted, precision, tick)


def own_side(target: str, setup: Setup, names: str, precision: Precision) -> OwnSide:
    """Return the side of what `target`, as `package.module:factory` or a .onnx file, makes."""
    model = target if target.endswith(".onnx") else load_factory(target)()
    return _side(model, setup, names, precision)


def of_bare(recipe: Recipe) -> Recipe:
    """Return what of a recipe a bare model and the reference both have: its loss, for a step.

    A model has no momentum, no average and no parts of a batch, and nobody has frozen any of it, so
    that it must not be so in the reference.
    """
    bare = make_recipe(1, recipe.batch, optimizer={"momentum": 0.0}, name=recipe.name)
    kept = ("loss", "label_smoothing", "augment")
    return bare.model_copy(update={name: getattr(recipe, name) for name in kept})


def _side(
    model: Any, setup: Setup, names: str | Mapping[str, str], precision: Precision
) -> OwnSide:
    recipe = of_bare(setup.recipe)
    session: Any = wrap(model, setup.plan, names, recipe=recipe, precision=precision)
    first = {"batches": setup.batches[:1], "rates": setup.rates[:1], "keeps": None}
    setup = replace(setup, recipe=recipe, **first)
    state = session.state()
    missing = [tensor.name for tensor in setup.plan.tensors if tensor.name not in state]
    if state and missing:
        raise BackendError(f"model: shows no {', '.join(missing[:3])}; map them in names")
    if state:
        _check_finite(state)
        setup = replace(setup, state=state)
    return OwnSide(session, setup, precision)


def _check_finite(state: State) -> None:
    """Raise BackendError for weights that nothing can be compared with."""
    wrong = [name for name, array in state.items() if not np.isfinite(array).all()]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        rule = "has values that are not finite: there is nothing to compare"
        raise BackendError(f"model: {wrong[0]}{more} {rule}")
