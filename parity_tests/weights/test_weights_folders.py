"""Folders of weights, shards with an index, and files with a run's state and no weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights, write_weights
from resnet_spec.weights.files.in_folders import Place, weights_at

VALUES: dict[str, Any] = {f"layer{n}.weight": np.full((2, n), n, np.float32) for n in (1, 2, 3, 4)}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def assert_read(path: Path, *notes: str) -> None:
    file = read_weights(path)
    assert file.tensors.keys() == VALUES.keys()
    assert all(np.array_equal(file.tensors[name], value) for name, value in VALUES.items())
    assert file.notes == notes


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("names", "taken", "note"),
    [
        (
            ["last.safetensors", "best.safetensors", "metrics.jsonl"],
            "best.safetensors",
            "taken from best.safetensors in the folder, not from last.safetensors",
        ),
        (["last.safetensors", "metrics.jsonl"], "last.safetensors", "taken from last.safetensors"),
        (
            ["config.json", "pytorch_model.bin", "model.safetensors", "flax_model.msgpack"],
            "model.safetensors",
            "in the folder, not from pytorch_model.bin, flax_model.msgpack",
        ),
        (["pytorch_model.bin.index.json", "a.bin"], "pytorch_model.bin.index.json", "taken from"),
        (["optimizer.pt", "pytorch_model.bin"], "pytorch_model.bin", "taken from pytorch_model"),
        (["a.pth.tar", "readme.md"], "a.pth.tar", "a.pth.tar, the only weight file in the folder"),
        (["_METADATA", "d/x", "manifest.ocdbt"], "", ""),
        (["default/_METADATA", "_CHECKPOINT_METADATA"], "default", "from the item default in"),
        (
            ["extra/_METADATA", "state/_METADATA"],
            "state",
            "taken from the item state in the folder; beside it: extra",
        ),
        (
            ["9/default/_METADATA", "10/default/_METADATA", "tmp/x"],
            "10/default",
            "taken from 10, the last step of 2; name another as ",
        ),
        (
            ["10/default/_METADATA", "11.orbax-checkpoint-tmp-1/default/_METADATA"],
            "10/default",
            "taken from 10, the last step",
        ),
        (["ckpt_3/_METADATA", "ckpt_20/_METADATA"], "ckpt_20", "taken from ckpt_20, the last"),
        (["checkpoint_5", "checkpoint_12"], "checkpoint_12", "taken from checkpoint_12, the last"),
    ],
)
def test_a_folder_means_one_file(names: list[str], taken: str, note: str, tmp_path: Path) -> None:
    found = weights_at(touched(tmp_path, *names))
    assert found.path == tmp_path / taken
    assert note in " ".join(found.notes) and bool(found.notes) == bool(note)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a.pth", "b.npz"], "holds several weight files: a.pth, b.npz; name one of them"),
        (["a/_METADATA", "b/_METADATA"], "holds several items, a, b; name one: "),
        (["1/_METADATA", "a_1/_METADATA"], "holds step 1 as 1, a_1; name one: "),
        (["saved_model.pb"], "is a SavedModel of TensorFlow; save the weights as .weights.h5"),
        (
            ["__0_0.distcp", ".metadata"],
            "is a distributed checkpoint of torch; join it with torch.",
        ),
        (["data.pkl", "data/0"], "is a file of torch that was unpacked; name the file itself"),
        (["checkpoint", "model.ckpt-1.index"], "is a checkpoint of TensorFlow; save the weights"),
        (
            ["run-1/best.safetensors", "run-2/last.safetensors", "grid.toml"],
            "holds weights in run-1, run-2; name one of these folders",
        ),
        (["notes.txt", "deep/er/a.pth"], "is a folder without weights; name a weight file"),
    ],
)
def test_a_folder_without_the_one_is_refused(names: list[str], line: str, tmp_path: Path) -> None:
    assert refusal(touched(tmp_path / "it", *names)).startswith(line)


def test_a_file_means_itself(tmp_path: Path) -> None:
    for path in (tmp_path / "a.pth", tmp_path / "absent"):
        assert weights_at(path) == Place(path)


def test_what_orbax_s_manager_keeps_is_read(tmp_path: Path) -> None:
    checkpoint: Any = pytest.importorskip("orbax.checkpoint")
    tree = {"params": {name.removesuffix(".weight"): {"weight": v} for name, v in VALUES.items()}}
    old = {"params": {"layer1": {"weight": np.zeros(1, np.float32)}}}
    with checkpoint.CheckpointManager(tmp_path / "run") as manager:
        for step, value in ((9, old), (10, old), (200, tree)):
            manager.save(step, args=checkpoint.args.StandardSave(value))
    found = read_weights(tmp_path / "run")
    assert np.array_equal(found.tensors["params.layer4.weight"], VALUES["layer4.weight"])
    assert found.notes == (
        f"taken from 200, the last step of 3; name another as {tmp_path / 'run'}/x",
        "taken from the item default in the folder",
    )
    assert list(read_weights(tmp_path / "run" / "9").tensors) == ["params.layer1.weight"]


def test_a_chunk_of_orbax_that_is_gone_is_no_zero(tmp_path: Path) -> None:
    checkpoint: Any = pytest.importorskip("orbax.checkpoint")
    handler = checkpoint.PyTreeCheckpointHandler(use_ocdbt=False)
    tree = {"a": np.ones((2, 3), np.float32), "zero": np.zeros(4, np.float32)}
    checkpoint.Checkpointer(handler).save(tmp_path / "flat", tree)
    assert read_weights(tmp_path / "flat").tensors["zero"].tolist() == [0.0] * 4
    (tmp_path / "flat" / "a" / "0.0").unlink()
    assert refusal(tmp_path / "flat") == "lacks a, or it is damaged; get it again"


# Shards


def sharded(folder: Path, ending: str = "safetensors", **changes: str) -> Path:
    """Write two files with an index. changes: tensor -> the file that it is said to be in."""
    stem = "model" if ending == "safetensors" else "pytorch_model"
    files = [f"{stem}-0000{n}-of-00002.{ending}" for n in (1, 2)]
    names = list(VALUES)
    for file, part in zip(files, (names[:2], names[2:]), strict=True):
        write_weights(folder / file, {name: VALUES[name] for name in part})
    where = {name: files[names.index(name) // 2] for name in names}
    said = {**where, **{name.replace("_", "."): file for name, file in changes.items()}}
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": said}, indent=2))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(ending: str, tmp_path: Path) -> None:
    index = sharded(tmp_path, ending)
    note = f"read from 2 files, as {index.name} says"
    assert_read(index, note)
    assert_read(tmp_path, note, f"taken from {index.name} in the folder")
    assert read_weights(index).kind == ("torch" if ending == "bin" else "safetensors")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layer5_weight": "model-00002-of-00002.safetensors"}, "lacks layer5.weight, and the"),
        ({"layer1_weight": "model-00002-of-00002.safetensors"}, "holds layer1.weight, and the"),
        ({"layer1_weight": "model-00003.safetensors"}, "which is not in its folder; get it, too"),
        ({"layer1_weight": "../model.safetensors"}, "names a file elsewhere, ../model.safetensors"),
        ({"layer1_weight": "/etc/passwd"}, "names a file elsewhere, /etc/passwd"),
        ({"layer1_weight": "a\\b.bin"}, "names a file elsewhere"),
        ({"layer1_weight": ""}, "names a file elsewhere"),
        ({"layer1_weight": "model.safetensors.index.json"}, "names a file elsewhere"),
    ],
)
def test_an_index_that_is_wrong_is_refused(
    changes: dict[str, str], line: str, tmp_path: Path
) -> None:
    assert line in refusal(sharded(tmp_path, **changes))


def test_a_shard_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    second = tmp_path / "model-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match=r"00002\.safetensors: ends before layer4\.weight"):
        read_weights(index)
    second.unlink()
    assert refusal(index) == f"names {second.name}, which is not in its folder; get it, too"
    for text in ('{"weight_map": {}}', '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(text)
        assert refusal(index) == "is a damaged index of weights; get it again"


# The state of a run without its weights


def optimiser_of_torch(path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 3)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    torch.save(adam.state_dict(), path)


def within_a_run(path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    optimiser_of_torch(path)
    state = torch.load(path)
    torch.save({"optimizer": state, "epoch": 3, "torch_rng_state": torch.get_rng_state()}, path)


def optimiser_of_optax(path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    weights = {"params": {"conv": {"kernel": np.ones((2, 2), np.float32)}}}
    adam = {"count": np.array(3, np.int32), "mu": weights, "nu": weights}
    path.write_bytes(serialization.msgpack_serialize({"0": adam, "1": {}}))


def moments_of_mindspore(path: Path) -> None:
    values = {"moments.conv1.weight": np.ones(3, np.float32), "global_step": np.ones(1, np.int32)}
    write_weights(path, values, "mindspore")


OPTIMISERS = [optimiser_of_torch, within_a_run, optimiser_of_optax, moments_of_mindspore]


@pytest.mark.parametrize("write", OPTIMISERS)
def test_an_optimiser_without_weights_is_called_that(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "w")
    line = refusal(tmp_path / "w")
    assert line.startswith("holds the state of an optimiser alone (")
    assert line.endswith("); name the file with the network's weights")


def test_other_states_are_called_what_they_are(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    states: list[tuple[Mapping[str, Any], str]] = [
        ({"rng_state": torch.get_rng_state()}, "holds the state of a training run alone (rng_stat"),
        (
            {"base_lrs": [0.1], "last_epoch": 3, "verbose": False},
            "holds no tensors; name a file with weights; this one has base_lrs, last_epoch, verb",
        ),
        ({}, "holds no tensors; name a file with weights"),
    ]
    for values, line in states:
        torch.save(values, tmp_path / "w.pth")
        assert refusal(tmp_path / "w.pth").startswith(line)


def test_weights_beside_an_optimiser_are_read(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    optimiser_of_torch(tmp_path / "w.pth")
    state = torch.load(tmp_path / "w.pth")
    weights = {name: torch.from_numpy(value) for name, value in VALUES.items()}
    torch.save({"state_dict": weights, "optimizer": state}, tmp_path / "w.pth")
    assert_read(tmp_path / "w.pth", "taken from 'state_dict'", "left out: optimizer")
    # Names of weights that an optimiser's state has, too.
    write_weights(tmp_path / "v.pth", {"mu": VALUES["layer1.weight"], "a.trace": np.ones(2)})
    assert list(read_weights(tmp_path / "v.pth").tensors) == ["mu", "a.trace"]
