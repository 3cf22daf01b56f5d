"""flaxmodels, and a network of linen's own layers in the style of Flax's ImageNet example."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from peers.case import (  # pyright: ignore[reportMissingImports]
    CLASSES,
    DECAY,
    MOMENTUM,
    Case,
    Contender,
)
from peers.linen import Linen  # pyright: ignore[reportMissingImports]

PACKAGES = ("flaxmodels",)


def contenders(case: Case, packages: Sequence[str]) -> dict[str, Contender]:
    """Return a compiled turn of every peer."""
    found = {"flax.linen layers": _contender(Linen(case.network, CLASSES), case)}
    if packages:
        models: Any = importlib.import_module("flaxmodels")
        make = {"resnet18": models.ResNet18, "resnet50": models.ResNet50}[case.network]
        network = make(output="logits", pretrained=None, num_classes=CLASSES, normalize=False)
        found["flaxmodels"] = _contender(network, case)
    return found


def _contender(network: Any, case: Case) -> Contender:
    array, classes = case.normalised()
    images, labels = jnp.asarray(array), jnp.asarray(classes)
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), images[:1])
    weights, statistics = variables["params"], variables["batch_stats"]
    optimizer = optax.chain(
        optax.add_decayed_weights(DECAY), optax.sgd(case.rate, momentum=MOMENTUM)
    )

    def loss_of(weights: Any, statistics: Any, images: Any, labels: Any) -> Any:
        logits, changed = network.apply(
            {"params": weights, "batch_stats": statistics}, images, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), changed["batch_stats"]

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(weights: Any, statistics: Any, slots: Any, images: Any, labels: Any) -> Any:
        slopes_of = jax.grad(loss_of, has_aux=True)
        slopes, statistics = slopes_of(weights, statistics, images, labels)
        change, slots = optimizer.update(slopes, slots, weights)
        return optax.apply_updates(weights, change), statistics, slots

    @jax.jit
    def logits_of(weights: Any, statistics: Any, images: Any) -> Any:
        return network.apply({"params": weights, "batch_stats": statistics}, images, train=False)

    standing: list[Any] = [weights, statistics, optimizer.init(weights)]

    def train() -> None:
        for _ in range(case.steps):
            standing[:] = step(*standing, images, labels)
        jax.block_until_ready(standing)

    def predict() -> None:
        found = [logits_of(weights, statistics, images) for _ in range(case.steps)]
        jax.block_until_ready(found)

    return train if case.trains else predict
