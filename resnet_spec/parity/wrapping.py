"""Wrap a person's own network: find its framework and its names, and put it in a session's place.

No framework is imported to look at a model: its classes say where they come from.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from resnet_spec.contract import Array, Precision, State
from resnet_spec.errors import BackendError, CheckpointError, did_you_mean, problem
from resnet_spec.loader import dialect_of, load_backend, module_classes
from resnet_spec.parity.functions import OnnxFunction, PlainFunction
from resnet_spec.parity.misfits import reason
from resnet_spec.parity.wrapped import Function, WrappedFunction, WrappedModel
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.weights.naming import Foreign, Output, scheme
from resnet_spec.weights.naming.dialects import OF_CANONICAL_NAMES
from resnet_spec.weights.naming.lifting import lift
from resnet_spec.weights.naming.names import holders, leaves

Names = str | Mapping[str, str]
"""A naming scheme, or {canonical name of a tensor, an op or another observed node: the model's}."""


def wrap(
    model: Any,
    plan: Plan,
    names: Names = "timm",
    *,
    recipe: Recipe | None = None,
    precision: Precision = "float32",
) -> WrappedModel | WrappedFunction:
    """Return `model` as something that behaves like a session of `plan`.

    model: a torch `nn.Module`; a Flax `nnx.Module`, or a Linen module and its variables as a pair;
        a MindSpore `nn.Cell`; the path of an ONNX file, or a function from normalised images
        [N, C, H, W] to logits [N, classes]. The last two may be the first of a pair, with a dict of
        their weights by the scheme's names.
    names: a scheme's name, or a dict from canonical names to the model's. A name that the dict
        lacks is the canonical one. The name of an op stands for all its tensors and its output.
    recipe: for its loss.

    A module's tensors are looked for under the names and in the layouts of its own framework. A
    module in another precision than `precision` is copied into it; any other is used as it is.

    Raises CheckpointError with the one reason why the tensors are not the plan's, or with those
    that are missing, unexpected or misshapen; BackendError for what is no model, or one whose
    framework is not there.
    """
    kind = framework_of(model)
    if kind is None:
        return _wrap_function(model, plan, names, precision)
    backend = load_backend(kind)
    wrapper: Any = importlib.import_module(f"{backend.__name__}.wrap")  # type: ignore[attr-defined]
    found = wrapper.wrap(model, plan, recipe=recipe, precision=precision)
    dialect = dialect_of(kind)
    tensors, outputs = resolve(plan, names, dialect)
    try:
        return WrappedModel(found, plan, tensors, outputs)
    except CheckpointError:
        _explain(plan, tensors, names, dialect, found.tensors())
        raise


def framework_of(model: object) -> str | None:
    """Return the backend whose framework `model` is a network of; None where there is none.

    Backends name their framework's classes in their manifests; none is imported.
    """
    parts = cast("tuple[Any, ...]", model) if isinstance(model, tuple) else (model,)
    kinds = type(parts[0]).__mro__ if parts else ()
    places = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    for name, classes in module_classes().items():
        if any(place.startswith(classes) for place in places):
            return name
    return None


def resolve(
    plan: Plan, names: Names, dialect: str | None = None
) -> tuple[dict[str, Foreign], dict[str, tuple[Output, ...]]]:
    """Return the foreign name of every tensor, and where the nodes' outputs may be seen.

    dialect: whose names tensors have in their layers; by default the scheme's own, or torch's.

    Raises CheckpointError for a scheme that does not exist or does not fit the plan, and for a
    mapping of a name that the plan does not have.
    """
    if isinstance(names, str):
        chosen = scheme(names)
        return chosen.names(plan, dialect), chosen.outputs(plan)
    known = {*plan.observed, *(tensor.name for tensor in plan.tensors)}
    unknown = [name for name in names if name not in known]
    if unknown:
        rule = "is no name of the network"
        lines = (problem("names", name, rule, did_you_mean(name, known)) for name in unknown)
        raise CheckpointError(*lines)
    modules = {op.name: _module_of(plan, names, op.name) for op in holders(plan)}
    tensors = leaves(plan, modules, dialect or OF_CANONICAL_NAMES)
    for name, there in names.items():
        if name in tensors:
            tensors[name] = Foreign(there, tensors[name].layout)
    paths = {name: modules.get(name, names.get(name, name)) for name in plan.observed}
    return tensors, {name: (Output(path),) for name, path in paths.items()}


def _module_of(plan: Plan, names: Mapping[str, str], op_name: str) -> str:
    """Return the module that holds an op's tensors, by its own entry or that of a tensor."""
    if op_name in names:
        return names[op_name]
    op = next(op for op in plan.ops if op.name == op_name)
    mapped = [names[tensor.name] for tensor in op.tensors if tensor.name in names]
    return mapped[0].rpartition(".")[0] if mapped else op_name


def _explain(
    plan: Plan, tensors: Mapping[str, Foreign], names: Names, kind: str, found: Mapping[str, Array]
) -> None:
    """Raise CheckpointError with the one reason why `found` does not fit, if there is one."""
    called = names if isinstance(names, str) else "the mapping"
    shapes = {name: array.shape for name, array in found.items()}
    line = reason(plan, tensors, called, kind, shapes)
    if line is not None:
        raise CheckpointError(line) from None


def _wrap_function(model: Any, plan: Plan, names: Names, precision: Precision) -> WrappedFunction:
    given, weights = _with_weights(model)
    function: Function
    if isinstance(given, str | Path) and str(given).endswith(".onnx"):
        function = OnnxFunction(Path(given), plan, precision)
    elif callable(given):
        function = PlainFunction(given, plan, precision)
    else:
        rule = "is no model; give a module, a pair, a .onnx file or a function"
        raise BackendError(f"model = {type(given).__name__}: {rule}")
    state: State = {}
    if weights:
        tensors, _ = resolve(plan, names)
        try:
            state = lift(plan, tensors, weights)
        except CheckpointError:
            _explain(plan, tensors, names, OF_CANONICAL_NAMES, weights)
            raise
    return WrappedFunction(function, plan, state)


def _with_weights(model: Any) -> tuple[Any, Mapping[str, Array]]:
    """Return a function or file, and its weights where it comes as a pair with them."""
    if not isinstance(model, tuple):
        return model, {}
    parts = cast("tuple[Any, ...]", model)
    if len(parts) != 2 or not isinstance(parts[1], Mapping):
        raise BackendError("model: a pair must be a function or a file, and its weights")
    return parts[0], cast("Mapping[str, Array]", parts[1])


def load_factory(target: str) -> Callable[[], Any]:
    """Return the function that `target`, as "package.module:factory", names.

    Calling the result calls the factory; what that raises becomes one line. See `load_function`.
    """
    found = load_function(target)

    def made() -> Any:
        try:
            return found()
        except Exception as error:
            raise BackendError(f"--against = {target}: {_failure(error)}") from error

    return made


def load_function(target: str) -> Callable[..., Any]:
    """Return what `target`, as "package.module:function", names.

    The module is looked for in the working directory too. Raises BackendError, in one line, for
    whatever is wrong.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise BackendError(problem("--against", target, "must be package.module:factory"))
    found: Any = _imported(target, module_name)
    for key in path.split("."):
        if not hasattr(found, key):
            public = [name for name in dir(found) if not name.startswith("_")]
            hint = did_you_mean(key, public)
            raise BackendError(problem("--against", target, f"{module_name} has no {key}", hint))
        found = getattr(found, key)
    if not callable(found):
        raise BackendError(problem("--against", target, f"{path} is not a function"))
    return found


def _imported(target: str, name: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            rule, remedy = f"there is no module {missing}", f"run it from the folder of {name}"
            raise BackendError(problem("--against", target, rule, remedy)) from None
        rule = f"cannot be imported: {_failure(error)}"
        raise BackendError(problem("--against", target, rule)) from error
    finally:
        if added:
            sys.path.remove(here)


def _failure(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"
