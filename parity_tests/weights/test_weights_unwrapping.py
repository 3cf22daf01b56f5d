"""Wrappers around the weights come off, what is no weight stays out, and the notes say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import WeightFile, read_weights

torch = pytest.importorskip("torch")

NET = {"conv1.weight": 1.0, "fc.bias": 2.0}


def tensors(prefix: str = "", add: float = 0.0) -> dict[str, Any]:
    return {f"{prefix}{name}": torch.full((2,), value + add) for name, value in NET.items()}


def saved(tree: object, tmp_path: Path, part: str | None = None) -> WeightFile:
    torch.save(tree, tmp_path / "w.pth")
    return read_weights(tmp_path / "w.pth", part)


def values(file: WeightFile) -> dict[str, float]:
    return {name: float(value[0]) for name, value in file.tensors.items()}


@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "model",
        "model_state",
        "model_state_dict",
        "net",
        "ema",
        "state_dict_ema",
        "params",
    ],
)
def test_a_nested_state_dict_is_found(key: str, tmp_path: Path) -> None:
    file = saved({"epoch": 3, "optimizer": {"state": {}}, key: tensors()}, tmp_path)
    assert values(file) == NET
    assert file.notes == (f"taken from '{key}'", "left out: epoch, optimizer")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_all_names_are_taken_off(prefix: str, tmp_path: Path) -> None:
    file = saved(tensors(prefix), tmp_path)
    assert values(file) == NET
    assert all("is taken off all names" in note for note in file.notes) and file.notes


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    tree = {**tensors("module."), "fc.weight": torch.zeros(2)}
    assert set(saved(tree, tmp_path).tensors) == set(tree)


def test_wrappers_in_wrappers_come_off(tmp_path: Path) -> None:
    file = saved({"model": {"state_dict": tensors("module."), "args": [1]}}, tmp_path)
    assert values(file) == NET


def test_the_model_is_taken_and_the_average_on_request(tmp_path: Path) -> None:
    average = {**tensors("module.", 10), "n_averaged": torch.tensor(5)}
    tree = {"model": tensors(), "model_ema": average, "epoch": 1}
    file = saved(tree, tmp_path)
    assert values(file) == NET
    assert "the moving average in 'model_ema' is left out; ask for it by that name" in file.notes
    for part in ("ema", "model_ema"):
        assert values(saved(tree, tmp_path, part)) == {n: v + 10 for n, v in NET.items()}
    with pytest.raises(CheckpointError, match=r"has no part 'modle'; did you mean 'model'\?"):
        saved(tree, tmp_path, "modle")


def test_counters_are_left_out_and_noted(tmp_path: Path) -> None:
    tree = {**tensors(), "bn1.num_batches_tracked": torch.tensor(3)}
    file = saved(tree, tmp_path)
    assert values(file) == NET
    assert file.notes == ("left out: bn1.num_batches_tracked",)


@pytest.mark.parametrize("tree", [[torch.zeros(2)], torch.zeros(2), 3, {}, {"epoch": 3}])
def test_a_file_without_named_tensors_is_refused(tree: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w\.pth: holds .*; "):
        saved(tree, tmp_path)


def test_collections_of_flax_stay_in_the_names(tmp_path: Path) -> None:
    tree = {
        "params": {"conv": {"kernel": torch.zeros(2)}},
        "batch_stats": {"bn": {"mean": torch.ones(2)}},
    }
    file = saved({"step": 3, **tree}, tmp_path)
    assert set(file.tensors) == {"params.conv.kernel", "batch_stats.bn.mean"}
    assert file.notes == ("left out: step",)
    assert file.tensors["batch_stats.bn.mean"].dtype == np.float32
