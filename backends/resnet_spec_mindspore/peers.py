"""What sessions are measured beside: MindCV's ResNets, and ours without a session.

In graph mode, trained with MindSpore's own optimiser by `nn.TrainOneStepCell` as MindCV's script
does, given images that are normalised and on the device already. Reached by name (`manifest.toml`,
"bench.peers").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mindspore as ms
from mindspore import nn

from resnet_spec.bench import DECAY, MOMENTUM, RATE, Case, Contestant
from resnet_spec.errors import BackendError, problem
from resnet_spec_mindspore import isa
from resnet_spec_mindspore.devices import find_device
from resnet_spec_mindspore.modules import build


def mindcv(case: Case) -> Contestant:
    """Return MindCV's network of the preset's name."""
    _check_precision(case)
    package: Any = importlib.import_module("mindcv")
    case.check_known("MindCV", package.list_models())
    network = package.create_model(case.preset, num_classes=case.classes)
    return _contestant(network, case, {"mindcv": version("mindcv")})


def by_hand(case: Case) -> Contestant:
    """Return the cell that `build` returns."""
    _check_precision(case)
    return _contestant(build(case.plan, case.state), case, {})


def _check_precision(case: Case) -> None:
    if case.precision != "float32":
        rule = "is no precision that cells are set up in without a session here"
        raise BackendError(problem("precision", case.precision, rule, "use float32"))


def _contestant(network: Any, case: Case, packages: Mapping[str, str]) -> Contestant:
    device = find_device(case.device)
    images = ms.Tensor(case.normalised().transpose(0, 3, 1, 2).copy())
    labels = ms.Tensor(case.labels().astype("int32"))
    cell: Any = network
    if case.trains:
        optimizer = nn.Momentum(network.trainable_params(), RATE, MOMENTUM, DECAY)
        cell = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    cell.set_train(case.trains)
    inputs = (images, labels) if case.trains else (images,)

    def turn(steps: int) -> None:
        before = ms.get_context("mode")
        ms.set_context(mode=ms.GRAPH_MODE)
        found = [cell(*inputs) for _ in range(steps)]
        found[-1].asnumpy()
        ms.set_context(mode=before)

    info = {
        **packages,
        "mindspore": ms.__version__,
        "device": device,
        "precision": case.precision,
        "mode": "graph",
        "isa": isa.describe(),
    }
    params = sum(parameter.size for parameter in network.trainable_params())
    return Contestant(turn, params, {key: text for key, text in info.items() if text})
