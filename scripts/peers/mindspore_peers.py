"""MindCV, in graph mode, with MindSpore's own optimiser."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import nn

from peers.case import (  # pyright: ignore[reportMissingImports]
    CLASSES,
    DECAY,
    MOMENTUM,
    Case,
    Contender,
)

PACKAGES = ("mindcv",)


def contenders(case: Case, packages: Sequence[str]) -> dict[str, Contender]:
    """Return MindCV's network, trained by `nn.TrainOneStepCell` as its script does."""
    if not packages:
        return {}
    mindcv: Any = importlib.import_module("mindcv")
    network = mindcv.create_model(case.network, num_classes=CLASSES)
    array, classes = case.normalised()
    images = ms.Tensor(array.transpose(0, 3, 1, 2).copy())
    labels = ms.Tensor(classes.astype("int32"))
    cell: Any = network
    if case.trains:
        optimizer = nn.Momentum(network.trainable_params(), case.rate, MOMENTUM, DECAY)
        cell = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    cell.set_train(case.trains)
    inputs = (images, labels) if case.trains else (images,)

    def turn() -> None:
        before = ms.get_context("mode")
        ms.set_context(mode=ms.GRAPH_MODE)
        found = [cell(*inputs) for _ in range(case.steps)]
        found[-1].asnumpy()
        ms.set_context(mode=before)

    return {"mindcv": turn}
