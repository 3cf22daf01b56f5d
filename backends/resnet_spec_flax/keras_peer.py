"""KerasHub's ResNet on Keras' JAX backend, called as linen's modules are: by its variables.

Keras' guide to training loops in JAX compiles `stateless_call`; so does the loop of `peers`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from resnet_spec.errors import BackendError, problem

NETWORKS = {
    "resnet18": ("basic_block", (2, 2, 2, 2)),
    "resnet34": ("basic_block", (3, 4, 6, 3)),
    "resnet50": ("bottleneck_block", (3, 4, 6, 3)),
    "resnet101": ("bottleneck_block", (3, 4, 23, 3)),
    "resnet152": ("bottleneck_block", (3, 8, 36, 3)),
}
"""Block type and blocks of KerasHub's presets by their numbers of layers."""


class Keras:
    """A classifier of one of `NETWORKS`, without KerasHub's preprocessing.

    shape: of an image, (height, width, channels). dtype: float32, or bfloat16, in which it then
    computes while its weights are float32.
    """

    def __init__(self, network: str, classes: int, shape: tuple[int, int, int], dtype: str) -> None:
        models = _on_jax().models
        policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
        block, blocks = NETWORKS[network]
        backbone = models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=list(blocks),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type=block,
            image_shape=shape,
            data_format="channels_last",
            dtype=policy,
        )
        fixed = {"backbone": backbone, "num_classes": classes, "dtype": policy}
        self._model = models.ResNetImageClassifier(**fixed, preprocessor=None)

    def init(self, key: Any, images: Any, train: bool) -> Any:
        """Return the variables."""
        del key, images, train  # Keras has drawn them.
        model = self._model
        weights = [it.value for it in model.trainable_variables]
        return {
            "params": weights,
            "batch_stats": [it.value for it in model.non_trainable_variables],
        }

    def apply(
        self, given: Mapping[str, Any], images: Any, mutable: Any = (), train: bool = True
    ) -> Any:
        """Return logits [N, classes]; in training the statistics, too."""
        variables = given["params"], given["batch_stats"]
        logits, changed = self._model.stateless_call(*variables, images, training=train)
        return (logits, {"batch_stats": changed}) if mutable else logits


def _on_jax() -> Any:
    """Return KerasHub. Raises BackendError where Keras computes with another framework already."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    backend = importlib.import_module("keras").backend.backend()
    if backend != "jax":
        remedy = "unset KERAS_BACKEND, or set it to jax"
        raise BackendError(problem("KERAS_BACKEND", backend, "this peer is Keras on JAX", remedy))
    return importlib.import_module("keras_hub")
