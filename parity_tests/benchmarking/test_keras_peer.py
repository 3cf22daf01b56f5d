"""KerasHub as a peer: what it is asked for, whom it refuses, and, where it is there, its turn."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from resnet_spec import load_spec
from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import entries_of
from resnet_spec.benchmarking.rounds import measure
from resnet_spec.errors import BackendError


class Model:
    """A network of one weight and one statistic, as Keras' are called."""

    trainable_variables = (SimpleNamespace(value=np.float32(2.0)),)
    non_trainable_variables = (SimpleNamespace(value=np.float32(3.0)),)

    def stateless_call(self, weights: Any, others: Any, images: Any, training: bool) -> Any:
        return weights[0] * images, [others[0] + training]


@pytest.fixture
def peer() -> Any:
    pytest.importorskip("flax", reason="no flax")
    return importlib.import_module("resnet_spec_flax.keras_peer")


def with_keras(monkeypatch: pytest.MonkeyPatch, backend: str) -> list[tuple[str, Any]]:
    """Put packages in the place of Keras' that keep what they are asked to make."""
    asked: list[tuple[str, Any]] = []

    def backbone(**given: Any) -> str:
        asked.append(("backbone", given))
        return "the backbone"

    def classifier(**given: Any) -> Model:
        asked.append(("classifier", given))
        return Model()

    models = SimpleNamespace(ResNetBackbone=backbone, ResNetImageClassifier=classifier)
    inner = SimpleNamespace(backend=lambda: backend)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=inner))  # pyright: ignore
    monkeypatch.setitem(sys.modules, "keras_hub", SimpleNamespace(models=models))  # pyright: ignore
    monkeypatch.setenv("KERAS_BACKEND", backend)
    return asked


def test_it_is_asked_for_the_network_of_the_preset(
    peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = with_keras(monkeypatch, "jax")
    peer.Keras("resnet50", 7, (32, 48, 3), "bfloat16")
    (_, backbone), (_, classifier) = asked
    assert backbone["block_type"] == "bottleneck_block"
    assert backbone["stackwise_num_blocks"] == [3, 4, 6, 3]
    assert backbone["image_shape"] == (32, 48, 3)
    assert backbone["dtype"] == classifier["dtype"] == "mixed_bfloat16"
    assert classifier["num_classes"] == 7 and classifier["backbone"] == "the backbone"
    peer.Keras("resnet18", 7, (32, 32, 3), "float32")
    assert asked[2][1]["dtype"] == "float32" and asked[2][1]["block_type"] == "basic_block"


def test_statistics_move_in_training_alone(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_keras(monkeypatch, "jax")
    network = peer.Keras("resnet18", 7, (32, 32, 3), "float32")
    given = network.init(None, np.ones(2), train=False)
    assert given == {"params": [2.0], "batch_stats": [3.0]}
    logits, changed = network.apply(given, np.ones(2), mutable=["batch_stats"])
    assert logits.tolist() == [2.0, 2.0] and changed == {"batch_stats": [4.0]}
    assert network.apply(given, np.ones(2), train=False).tolist() == [2.0, 2.0]


def test_keras_on_another_framework_is_refused(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_keras(monkeypatch, "torch")
    with pytest.raises(BackendError, match="KERAS_BACKEND = torch: this peer is Keras on JAX"):
        peer.Keras("resnet18", 7, (32, 32, 3), "float32")


@pytest.mark.thorough
def test_it_trains_and_predicts_where_it_is_installed() -> None:
    found = dict[str, Any]()
    for mode in ("train", "predict"):
        asked = Asked(load_spec("resnet18", ["input.size=32"]), mode, 2, rounds=1, seconds=0.01)
        entries, left_out = entries_of([], ["keras-hub"], asked.mode, asked.precision)
        if left_out:
            pytest.skip(left_out[0])
        found[mode] = measure(asked, entries)
    assert all(one.failed == {} and len(one.measured) == 1 for one in found.values())
