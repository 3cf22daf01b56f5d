"""What sessions are measured beside: other people's ResNets in JAX, and ours without a session.

Each is compiled as its own project documents, with optax's SGD on the mean cross-entropy, and given
images that are normalised and on the device already. None is tuned by us, and none held back.
Reached by name (`manifest.toml`, "bench.peers").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from resnet_spec.bench import DECAY, MOMENTUM, RATE, Case, Contestant
from resnet_spec.errors import BackendError, problem
from resnet_spec_flax.devices import REDUCED, describe, find_device, settings
from resnet_spec_flax.keras_peer import NETWORKS, Keras
from resnet_spec_flax.linen_peer import BLOCKS, Linen
from resnet_spec_flax.modules import build

_FLAXMODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def linen(case: Case) -> Contestant:
    """Return a network of linen's convolutions and norms, as in Flax's ImageNet example."""
    case.check_known("linen's example", BLOCKS)
    network = Linen(case.preset, case.classes, _dtype(case))
    return _contestant(network, case, {})


def flaxmodels(case: Case) -> Contestant:
    """Return flaxmodels' network of the preset's name."""
    case.check_known("flaxmodels", _FLAXMODELS)
    models: Any = importlib.import_module("flaxmodels")
    made = getattr(models, case.preset.replace("resnet", "ResNet"))
    fixed = {"num_classes": case.classes, "normalize": False, "dtype": _dtype(case)}
    network = made(output="logits", pretrained=None, **fixed)
    return _contestant(network, case, {"flaxmodels": version("flaxmodels")})


def keras_hub(case: Case) -> Contestant:
    """Return KerasHub's network of the preset's name, on Keras' JAX backend."""
    case.check_known("KerasHub", NETWORKS)
    given = case.plan.input
    shape = given.height, given.width, given.channels
    network = Keras(case.preset, case.classes, shape, _dtype(case))
    return _contestant(network, case, {name: version(name) for name in ("keras-hub", "keras")})


def by_hand(case: Case) -> Contestant:
    """Return the module that `build` returns, in a loop of optax as JAX documents it."""
    if case.precision != "float32":
        rule = "is float32 where no session casts it"
        raise BackendError(problem("precision", case.precision, f"the module that is built {rule}"))
    return _contestant(_Built(build(case.plan, case.state)), case, {})


class _Built:
    """An `nnx` module as linen's are called: by its variables."""

    def __init__(self, module: Any) -> None:
        module.eval()
        self._evaluated = nnx.graphdef(module)
        module.train()
        self._trained, weights, statistics = nnx.split(module, nnx.Param, nnx.BatchStat)
        self._variables = {"params": weights, "batch_stats": statistics}

    def init(self, key: Any, images: Any, train: bool) -> Any:
        """Return the variables."""
        del key, images, train  # They have been drawn.
        return self._variables

    def apply(
        self, given: Mapping[str, Any], images: Any, mutable: Any = (), train: bool = True
    ) -> Any:
        """Return logits [N, classes]; in training the statistics, too."""
        graph = self._trained if train else self._evaluated
        module = nnx.merge(graph, given["params"], given["batch_stats"], copy=True)
        logits = module(images)
        return (logits, {"batch_stats": nnx.state(module, nnx.BatchStat)}) if mutable else logits


def _dtype(case: Case) -> str:
    """Return what a network computes in; its weights are float32."""
    if case.precision not in ("float32", "bfloat16"):
        rule = "is not computed by linen's networks here"
        raise BackendError(problem("precision", case.precision, rule, "use float32 or bfloat16"))
    return case.precision


def _contestant(network: Any, case: Case, packages: Mapping[str, str]) -> Contestant:
    device = find_device(case.device)
    set_up = partial(settings, device, case.precision)
    with set_up():
        images = jax.device_put(jnp.asarray(case.normalised()), device)
        labels = jax.device_put(jnp.asarray(case.labels().astype("int32")), device)
        variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), images[:1])
    weights, statistics = variables["params"], variables["batch_stats"]
    optimizer = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM))

    def loss_of(weights: Any, statistics: Any, images: Any, labels: Any) -> Any:
        given = {"params": weights, "batch_stats": statistics}
        logits, changed = network.apply(given, images, mutable=["batch_stats"])
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

    def train(steps: int) -> None:
        with set_up():
            for _ in range(steps):
                standing[:] = step(*standing, images, labels)
            jax.block_until_ready(standing)

    def predict(steps: int) -> None:
        with set_up():
            found = [logits_of(weights, statistics, images) for _ in range(steps)]
            jax.block_until_ready(found)

    info = {
        **packages,
        "flax": flax.__version__,
        "jax": jax.__version__,
        "device": describe(device),
        "precision": case.precision,
        "math": f"computes in {case.precision}" if case.precision in REDUCED else "strict",
    }
    params = sum(array.size for array in jax.tree.leaves(weights))
    return Contestant(train if case.trains else predict, params, info)
