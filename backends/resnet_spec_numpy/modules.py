"""The plan as a tree of NumPy modules: the containers, and a plan's way into them.

The attribute path of every module and array is its name in the plan: `network.fc.weight`,
`network.layer1[0].conv1.weight`. A pass in training mode, and back:

    run = Run(training=True)
    logits = network.forward(images, run)
    dimages = network.backward(dlogits, run)

leaves `run.gradients` and `run.statistics` by canonical name and the network as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from resnet_spec import ops
from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec_numpy import layers
from resnet_spec_numpy.passes import Module, Run
from resnet_spec_numpy.weights import load_weights


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32; with zeros in every array where `state` is None.

    state: canonical name -> array for every tensor of the plan. Raises CheckpointError when it does
        not fit, with every name that does not.
    """
    network = empty(plan, np.float32)
    if state is not None:
        load_weights(network, plan, state)
    return network


def empty(plan: Plan, dtype: DTypeLike) -> ResNet:
    """Return the network of `plan` with zeros of `dtype` in every array."""
    return ResNet(plan.root, dtype)


class Container(Module):
    """A node with children, which are its attributes under their keys."""

    def __init__(self, node: ops.Chain | ops.Gate | ops.Residual) -> None:
        self.name = node.name

    def __getitem__(self, index: int) -> Any:
        """Return the child whose key is the number `index`."""
        return getattr(self, str(index))

    def _hold(self, nodes: Sequence[ops.Node], dtype: DTypeLike) -> tuple[str, ...]:
        for node in nodes:
            setattr(self, node.key, _module(node, dtype))
        return tuple(node.key for node in nodes)

    def _forward(self, keys: tuple[str, ...], x: Array, run: Run) -> Array:
        for key in keys:
            x = run.record(_path(self.name, key), getattr(self, key).forward(x, run))
        return x

    def _backward(self, keys: tuple[str, ...], dy: Array, run: Run) -> Array:
        for key in reversed(keys):
            if not run.reaches(_path(self.name, key)):
                break
            run.record_gradient(_path(self.name, key), dy)
            dy = getattr(self, key).backward(dy, run)
        return dy


class Chain(Container):
    """Children one after another."""

    def __init__(self, node: ops.Chain | ops.Gate, dtype: DTypeLike) -> None:
        super().__init__(node)
        self._keys = self._hold(node.children, dtype)

    def forward(self, x: Array, run: Run) -> Array:
        """Return the last child's output."""
        return self._forward(self._keys, x, run)

    def backward(self, dy: Array, run: Run) -> Array:
        """Return the gradient of the first child's input."""
        return self._backward(self._keys, dy, run)


class ResNet(Chain):
    """The whole network: normalised images [N, C, H, W] to logits [N, classes]."""

    def __call__(self, images: Array) -> Array:
        """Return the logits in evaluation mode."""
        return self.forward(images, Run())


class Gate(Chain):
    """x times the children's output f(x) [N, C, 1, 1]."""

    def forward(self, x: Array, run: Run) -> Array:
        """Return x f(x), of the shape of x."""
        factors = super().forward(x, run)
        run.save(self.name, (x, factors))
        return x * factors

    def backward(self, dy: Array, run: Run) -> Array:
        """The product rule; the factors are shared by all pixels of a channel."""
        x, factors = run.saved.pop(self.name)
        dfactors = run.total(dy * x, (2, 3), keep=True)
        return dy * factors + super().backward(dfactors, run)


class Residual(Container):
    """tail(add(body(e), s)) with e = entry(x) and s = shortcut(e), or x where there is none."""

    def __init__(self, node: ops.Residual, dtype: DTypeLike) -> None:
        super().__init__(node)
        shortcut = () if node.shortcut is None else (node.shortcut,)
        self._entry = self._hold(node.entry, dtype)
        self._body = self._hold(node.body, dtype)
        self._shortcut = self._hold(shortcut, dtype)
        self._tail = self._hold(node.tail, dtype)
        self.add = layers.Add(node.add)

    def forward(self, x: Array, run: Run) -> Array:
        """[N, C, H, W] to [N, C', H', W']."""
        entered = self._forward(self._entry, x, run)
        body = self._forward(self._body, entered, run)
        shortcut = self._forward(self._shortcut, entered, run) if self._shortcut else x
        total = run.record(self.add.op.name, self.add.forward(body, shortcut))
        return self._forward(self._tail, total, run)

    def backward(self, dy: Array, run: Run) -> Array:
        """What is read twice gets the sum of both gradients."""
        dtotal = self._backward(self._tail, dy, run)
        run.record_gradient(self.add.op.name, dtotal)
        dbody, dshortcut = self.add.backward(dtotal)
        dentered = self._backward(self._body, dbody, run)
        if self._shortcut:
            dentered = dentered + self._backward(self._shortcut, dshortcut, run)
            return self._backward(self._entry, dentered, run)
        return self._backward(self._entry, dentered, run) + dshortcut


def _module(node: ops.Node, dtype: DTypeLike) -> Module:
    match node:
        case ops.Chain():
            return Chain(node, dtype)
        case ops.Gate():
            return Gate(node, dtype)
        case ops.Residual():
            return Residual(node, dtype)
        case _:
            return layers.layer_of(node, dtype)


def _path(parent: str, key: str) -> str:
    return f"{parent}.{key}" if parent else key
