"""Any NNX or Linen network as a pure function of its weights, its modules' outputs tapped.

Weights are a flat dict by path: "layer1.0.conv1.kernel". Used by `wrap` only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.core import unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from resnet_spec.contract import Array, State

Weights = dict[str, jax.Array]
Tap = Callable[[str, jax.Array], jax.Array]
"""tap(path, output) is what the module at `path` is to return instead."""


class Network(Protocol):
    """What NNX and Linen have in common: weights by path, and a pure function of them."""

    native: Any

    def weights(self) -> State:
        """Return copies of all parameters and statistics."""
        ...

    def assign(self, state: Mapping[str, Array]) -> None:
        """Put `state` into the network."""
        ...

    def paths(self, image: jax.ShapeDtypeStruct) -> frozenset[str]:
        """Return the paths of all modules that are called, for images like `image`."""
        ...

    def held(self) -> tuple[Hashable, Any]:
        """Return the structure and all that is held but for weights: a pass closes over both."""
        ...

    def run(
        self, weights: Weights, images: jax.Array, train: bool, paths: frozenset[str], tap: Tap
    ) -> tuple[Any, Weights]:
        """Return what the network puts out, and its weights after that."""
        ...


class NnxNetwork:
    """An NNX module; passes run on copies of it."""

    def __init__(self, module: nnx.Module) -> None:
        self.native = module

    def weights(self) -> State:
        """Return copies of all parameters and statistics."""
        return {_joined(path): np.array(leaf.get_value()) for path, leaf in self._leaves().items()}

    def assign(self, state: Mapping[str, Array]) -> None:
        """Put `state` into the network."""
        kept = {path: leaf for path, leaf in self._leaves().items() if _joined(path) in state}
        given = {
            path: leaf.replace(jnp.asarray(state[_joined(path)], leaf.get_value().dtype))
            for path, leaf in kept.items()
        }
        nnx.update(self.native, nnx.from_flat_state(given))

    def paths(self, image: jax.ShapeDtypeStruct) -> frozenset[str]:
        """Return the paths of all modules that are called."""
        nodes = nnx.iter_graph(self.native)
        return frozenset(_joined(path) for path, node in nodes if _is_layer(path, node))

    def held(self) -> tuple[Hashable, Any]:
        """Return the graph of modules, and variables that are no weights."""
        graph, _, others = nnx.split(self.native, (nnx.Param, nnx.BatchStat), ...)
        return graph, others

    def run(
        self, weights: Weights, images: jax.Array, train: bool, paths: frozenset[str], tap: Tap
    ) -> tuple[Any, Weights]:
        """Return the output and the weights after it."""
        graph, state, others = nnx.split(self.native, (nnx.Param, nnx.BatchStat), ...)
        leaves = nnx.to_flat_state(state)
        given = {path: leaf.replace(weights[_joined(path)]) for path, leaf in leaves}
        model: Any = nnx.merge(graph, nnx.from_flat_state(given), others, copy=True)
        model.train() if train else model.eval()
        places = {_joined(path): path for path, node in nnx.iter_graph(model) if path}
        # Deepest first: what is in a layer is no longer found where that is tapped.
        for path in sorted(paths, key=lambda path: -len(places[path])):
            _put_tap(model, places[path], partial(tap, path))
        output = model(images, **_flags(type(model).__call__, train))
        variables = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
        after = {_joined(_untapped(path)): leaf.get_value() for path, leaf in variables}
        return output, after

    def _leaves(self) -> dict[tuple[Any, ...], Any]:
        state = nnx.state(self.native, (nnx.Param, nnx.BatchStat))
        return {tuple(path): leaf for path, leaf in nnx.to_flat_state(state)}


class _Tapped(nnx.Module):
    """Stands for a layer and passes on what `tap` makes of each of its outputs."""

    def __init__(self, layer: Any, tap: Callable[[jax.Array], jax.Array]) -> None:
        self.tapped_layer = layer
        self.tap = tap

    def __call__(self, *inputs: Any, **arguments: Any) -> Any:
        output = self.tapped_layer(*inputs, **arguments)
        return self.tap(output) if isinstance(output, jax.Array) else output


def _put_tap(model: Any, path: Sequence[Any], tap: Callable[[jax.Array], jax.Array]) -> None:
    """Put a tap in the place of the layer at `path`."""
    parent = model
    for key in path[:-1]:
        parent = _child(parent, key)
    tapped = _Tapped(_child(parent, path[-1]), tap)
    if isinstance(path[-1], str) and hasattr(parent, path[-1]):
        setattr(parent, path[-1], tapped)
    else:
        parent[path[-1]] = tapped


def _child(parent: Any, key: Any) -> Any:
    return getattr(parent, key) if isinstance(key, str) and hasattr(parent, key) else parent[key]


def _untapped(path: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(key for key in path if key != "tapped_layer")


def _is_layer(path: Sequence[Any], node: object) -> bool:
    return bool(path) and isinstance(node, nnx.Module) and callable(node)


class LinenNetwork:
    """A Linen module with its variables."""

    def __init__(self, module: linen.Module, variables: Mapping[str, Any]) -> None:
        self.native = module
        self._variables = {
            (collection, *path): np.array(array)
            for collection, tree in variables.items()
            for path, array in flatten_dict(unfreeze(tree)).items()
        }
        self._names = {path: _joined(path[1:]) for path in self._variables}

    def weights(self) -> State:
        """Return copies of all parameters and statistics."""
        return {name: self._variables[path].copy() for path, name in self._names.items()}

    def assign(self, state: Mapping[str, Array]) -> None:
        """Put `state` into the network."""
        for path, name in self._names.items():
            if name in state:
                self._variables[path] = np.array(state[name], self._variables[path].dtype)

    def paths(self, image: jax.ShapeDtypeStruct) -> frozenset[str]:
        """Return the paths of all modules that are called."""
        seen: set[str] = set()

        def watch(call: Any, inputs: Any, arguments: Any, context: Any) -> Any:
            if context.method_name == "__call__" and context.module.path:
                seen.add(_joined(context.module.path))
            return call(*inputs, **arguments)

        weights = {name: jnp.asarray(array) for name, array in self.weights().items()}
        with linen.intercept_methods(watch):
            jax.eval_shape(lambda x: self._apply(weights, x, False), image)
        return frozenset(seen)

    def held(self) -> tuple[Hashable, Any]:
        """Return nothing: a Linen module does not change, and all variables are weights."""
        return (), ()

    def run(
        self, weights: Weights, images: jax.Array, train: bool, paths: frozenset[str], tap: Tap
    ) -> tuple[Any, Weights]:
        """Return the output and the weights after it."""

        def intercept(call: Any, inputs: Any, arguments: Any, context: Any) -> Any:
            output = call(*inputs, **arguments)
            path = _joined(context.module.path)
            is_seen = context.method_name == "__call__" and path in paths
            return tap(path, output) if is_seen and isinstance(output, jax.Array) else output

        with linen.intercept_methods(intercept):
            output, changed = self._apply(weights, images, train)
        after = dict(weights)
        for collection, tree in changed.items():
            found: Any = flatten_dict(unfreeze(tree))
            for path, array in found.items():
                if (collection, *path) in self._names:
                    after[self._names[collection, *path]] = array
        return output, after

    def _apply(self, weights: Weights, images: jax.Array, train: bool) -> tuple[Any, Any]:
        variables = {path: weights[name] for path, name in self._names.items()}
        mutable = [name for name in {path[0] for path in variables} if name != "params"]
        flags: dict[str, Any] = _flags(type(self.native).__call__, train)
        return self.native.apply(
            unflatten_dict(variables), images, mutable=mutable if train else [], **flags
        )


class _Flag(NamedTuple):
    """How an argument says that the network is in training."""

    name: str
    when_training: bool


_FLAGS = [
    _Flag("train", True),
    _Flag("training", True),
    _Flag("is_training", True),
    _Flag("use_running_average", False),
    _Flag("deterministic", False),
]


def _flags(call: Callable[..., Any], train: bool) -> dict[str, bool]:
    """Return the argument, if any, with which `call` is told of its mode."""
    known = inspect.signature(call).parameters
    return {f.name: train == f.when_training for f in _FLAGS if f.name in known}


def _joined(path: Iterable[Any]) -> str:
    return ".".join(map(str, path))


def same(path: str, output: jax.Array) -> jax.Array:
    """Return `output`: the tap that changes nothing."""
    return output


def logits_of(output: Any) -> jax.Array:
    """Return the logits of a network that returns them, or them among others."""
    if isinstance(output, jax.Array):
        return output
    return output.logits if hasattr(output, "logits") else output[0]
