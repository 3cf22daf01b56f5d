"""`build(..., fold=True)`: the backend's own module without the norms that follow a convolution."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec.contract import Array
from resnet_spec.errors import SpecError
from resnet_spec.folding import fold_norms
from resnet_spec.loader import installed_backends
from resnet_spec.parity.setup import worn_state
from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint

SPEC: dict[str, Any] = {
    "name": "folded",
    "classes": 5,
    "block": "bottleneck",
    "expansion": 2,
    "squeeze": 0.25,
    "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": True},
    "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}],
    "input": {"size": 12, "mean": [0.5] * 3, "std": [0.25] * 3},
}
ORDERS = {"post": {}, "pre": {"order": "pre_activation"}}


def _of_torch(module: Any, images: Array) -> tuple[Array, set[str]]:
    torch: Any = importlib.import_module("torch")
    with torch.inference_mode():
        logits = module.eval()(torch.from_numpy(images)).numpy()
    return logits, {name for name in module.state_dict() if "num_batches" not in name}


def _of_flax(module: Any, images: Array) -> tuple[Array, set[str]]:
    nnx: Any = importlib.import_module("flax.nnx")
    module.eval()
    paths = dict(nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    names: Any = {
        "kernel": "weight",
        "scale": "weight",
        "mean": "running_mean",
        "var": "running_var",
    }
    keys = {".".join((*map(str, path[:-1]), names.get(path[-1], path[-1]))) for path in paths}
    return np.asarray(module(images.transpose(0, 2, 3, 1))), keys


def _of_mindspore(module: Any, images: Array) -> tuple[Array, set[str]]:
    ms: Any = importlib.import_module("mindspore")
    return module(ms.Tensor(images)).asnumpy(), set(module.parameters_dict())


def _of_numpy(module: Any, images: Array) -> tuple[Array, set[str]]:
    return module(images), set(_arrays(module))


def _arrays(part: Any, prefix: str = "") -> Iterator[str]:
    for key, value in vars(part).items():
        if isinstance(value, np.ndarray):
            yield prefix + key
        elif hasattr(value, "forward"):
            yield from _arrays(value, f"{prefix}{key}.")


RUNS: dict[str, Callable[[Any, Array], tuple[Array, set[str]]]] = {
    "torch": _of_torch,
    "flax": _of_flax,
    "mindspore": _of_mindspore,
    "numpy": _of_numpy,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("backend", RUNS)
def test_it_computes_the_same_with_fewer_tensors(backend: str, order: str, tmp_path: Path) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend}: not installed")
    spec = resnet_spec.load_spec(SPEC | ORDERS[order])
    plan = resnet_spec.lower(spec)
    state, file = worn_state(plan, 0), tmp_path / "weights.safetensors"
    save_checkpoint(file, Checkpoint(spec, state))
    run = RUNS[backend]
    images = np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32)
    expected, whole = run(resnet_spec.build(spec, backend, pretrained=file), images)
    got, keys = run(resnet_spec.build(spec, backend, pretrained=file, fold=True), images)
    assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()
    folded = fold_norms(plan, state)
    assert keys == set(folded.state) and whole == set(state)
    norms = {name.removesuffix(".running_var") for name in keys if name.endswith("running_var")}
    assert norms == set(folded.kept) and bool(norms) == (order == "pre")


def test_it_is_a_yes_or_a_no() -> None:
    with pytest.raises(SpecError, match="fold = 'yes': must be True or False"):
        resnet_spec.build(SPEC, "numpy", fold="yes")  # type: ignore[arg-type]
