"""Checkpoints: exact round trips, and one clear line for every kind of bad file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resnet_spec.data.fingerprint import Fingerprint, SplitPrint
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError
from resnet_spec.files.writing import beside, replacing
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import FIRST_LOSS_SCALE
from resnet_spec.weights import checkpoint as checkpoint_module
from resnet_spec.weights.checkpoint import (
    Checkpoint,
    checkpoint_header,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    spec = Spec(
        block="basic",
        classes=3,
        input={"size": 8},
        stem={"widths": [4], "kernel": 3, "pool": False},
        stages=[{"width": 4, "blocks": 1}],
    )
    state = initial_state(lower(spec), seed=1)
    slots = {f"momentum/{n}": np.ones_like(a) for n, a in state.items() if "running" not in n}
    average = {f"ema/{name}": a + 1 for name, a in state.items()}
    return Checkpoint(
        spec=spec,
        state={**state, **slots, **average},
        recipe=Recipe(epochs=2),
        backend={"name": "numpy"},
        data="digits",
        class_names=("a", "b", "c"),
        progress={"step": 7},
    )


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    return str(caught.value)


def test_round_trip_is_bit_equal(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.safetensors"
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert replace(loaded, state={}) == replace(checkpoint, state={})
    assert loaded.state.keys() == checkpoint.state.keys()
    for name, array in checkpoint.state.items():
        assert array.tobytes() == loaded.state[name].tobytes(), name
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", checkpoint)
    turned = dict(reversed(checkpoint.state.items()))
    save_checkpoint(tmp_path / "b", replace(checkpoint, state=turned))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_that_are_not_contiguous_are_kept_right(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    name = "conv1.weight"
    hwio = np.ascontiguousarray(checkpoint.state[name].transpose(2, 3, 1, 0))
    turned = {**checkpoint.state, name: hwio.transpose(3, 2, 0, 1)}
    save_checkpoint(tmp_path / "c", replace(checkpoint, state=turned))
    assert np.array_equal(load_checkpoint(tmp_path / "c").state[name], checkpoint.state[name])


def test_the_numbers_of_loss_scaling_stay_numbers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for shape in ((), (1,)):  # Some files have them as lists of one.
        numbers = {f"loss_scale/{n}": np.full(shape, 8.0, np.float32) for n in FIRST_LOSS_SCALE}
        save_checkpoint(path, replace(checkpoint, state={**checkpoint.state, **numbers}))
        found = load_checkpoint(path).state
        assert [found[name].shape for name in numbers] == [(), ()]
        assert found["loss_scale/scale"] == 8.0


def test_evaluated_takes_the_average_and_drops_the_slots(checkpoint: Checkpoint) -> None:
    weights = checkpoint.evaluated()
    assert set(weights.state) == {t.name for t in checkpoint.plan().tensors}
    assert np.array_equal(weights.state["fc.bias"], checkpoint.state["ema/fc.bias"])
    assert weights.progress == {}


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no").endswith("no: there is no such file")


def test_truncated_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:-10])
    assert "does; it is cut short; get it again" in refusal(path)


def test_one_flipped_bit_is_seen(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, checkpoint)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert "do not match their digest; the file is damaged" in refusal(path)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(
        b"\x80\x04cposix\nsystem\n(S'touch " + str(tmp_path / "x").encode() + b"'\ntR."
    )
    assert "is not a sound safetensors file" in refusal(path)
    assert not (tmp_path / "x").exists()


def test_foreign_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_file({"a": np.zeros(2)}, path)
    assert "without a resnet_spec header" in refusal(path)


def rewritten(path: Path, checkpoint: Checkpoint, **header: object) -> Path:
    """Write the checkpoint's arrays under a header with some keys changed, and no digest of it."""
    import safetensors

    save_checkpoint(path, checkpoint)
    with safetensors.safe_open(path, "np") as file:
        old = json.loads(file.metadata()["resnet_spec"])
    del old["header_digest"]
    save_file(load_file(path), path, {"resnet_spec": json.dumps({**old, **header})})
    return path


def test_newer_format(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "c", checkpoint, format=9)
    assert "has format 9, and this version reads 1; update" in refusal(path)


def test_damaged_header(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "c", checkpoint, spec={"block": "basic"})
    assert "its header is damaged: stages: is required" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        *(("spec", it, f"spec = {json.dumps(it)}: must be a table") for it in ([], "a", 1, None)),
        *(("recipe", it, f"recipe = {json.dumps(it)}: must be a table") for it in ([1], "", 0)),
        *(("progress", it, f"progress = {json.dumps(it)}: must be") for it in ([], "a", 1, None)),
        *(("backend", it, f"backend = {json.dumps(it)}: must be a table") for it in ([], "a", 1)),
        *(("dataset", it, f"dataset = {json.dumps(it)}: must be a table") for it in ([], "a", 1)),
        *(("data", it, f"data = {json.dumps(it)}: must be a text") for it in ([], {}, 1, None)),
        *(("class_names", it, f"class_names = {json.dumps(it)}: must be") for it in ("abc", 1, {})),
        ("class_names", ["a", 1], "class_names[1] = 1: must be a text"),
        ("backend", {"name": 1}, "backend.name = 1: must be a text"),
        ("backend", {"name": ["numpy"]}, 'backend.name = ["numpy"]: must be a text'),
        ("backend", {"name": "numpy", "version": None}, "backend.version = null: must be a text"),
    ],
)
def test_a_field_of_another_kind_is_named(
    field: str, value: object, line: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = rewritten(tmp_path / "c", checkpoint, **{field: value})
    assert refusal(path).startswith(f"{path}: its header is damaged: {line}")
    assert "\n" not in refusal(path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint_header(path)
    assert str(caught.value) == refusal(path)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_header_that_is_no_table(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_file({"a": np.zeros(2)}, path, {"resnet_spec": text})
    assert refusal(path) == f"{path}: its header is damaged; get it again"
    with pytest.raises(CheckpointError, match="its header is damaged; get it again"):
        checkpoint_header(path)


def test_tensors_of_another_network_are_all_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = dict(checkpoint.evaluated().state)
    state["more.weight"] = state.pop("bn1.bias")
    state["fc.bias"] = np.zeros(5, np.float32)
    save_checkpoint(tmp_path / "c", replace(checkpoint, state=state))
    text = refusal(tmp_path / "c")
    assert "bn1.bias: is missing" in text
    assert "more.weight: is unexpected" in text
    assert "fc.bias = [5]: must have shape [3]" in text


def test_values_that_are_not_finite(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = {**checkpoint.evaluated().state, "fc.bias": np.array([0, np.nan, 0], np.float32)}
    save_checkpoint(tmp_path / "c", replace(checkpoint, state=state))
    assert "fc.bias: 1 of 3 values are NaN or infinite" in refusal(tmp_path / "c")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_made_in_vain_go_again(tmp_path: Path) -> None:
    for make in (replacing, beside):
        with pytest.raises(RuntimeError), make(tmp_path / "a" / "b" / "c") as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
    with beside(tmp_path / "a" / "c") as temporary:
        temporary.write_text("whole")
        temporary.replace(tmp_path / "a" / "c")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["c"]


def test_a_folder_that_cannot_be_written(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "c", checkpoint)


def test_a_bit_that_is_another_and_a_digest_of_another_kind_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "c", checkpoint)
    # One bit of the last tensor in the file.
    data = bytearray((tmp_path / "c").read_bytes())
    data[-1] ^= 1
    (tmp_path / "c").write_bytes(data)
    assert "do not match their digest" in refusal(tmp_path / "c")
    monkeypatch.setattr(checkpoint_module, "digest", lambda _: "sha256:0")
    save_checkpoint(tmp_path / "d", checkpoint)
    monkeypatch.undo()
    assert "do not match their digest" in refusal(tmp_path / "d")


def test_names_for_another_number_of_classes_are_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "a", replace(checkpoint, class_names=("a", "b")))
    assert refusal(tmp_path / "a").endswith("class_names: are 2, for a network of 3")


def test_the_identity_of_the_data_is_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    known = Fingerprint("pets", ("a", "b", "c"), 8, 3, {"train": SplitPrint(3, (1, 1, 1), "d")})
    save_checkpoint(tmp_path / "a", replace(checkpoint, dataset=known))
    assert load_checkpoint(tmp_path / "a").dataset == known
    assert load_checkpoint(tmp_path / "a").data_name == "pets"
    header = checkpoint_header(tmp_path / "a")
    assert header is not None and header["dataset"] == known.to_dict()
    # A file of an older version, and one that is damaged.
    assert replace(checkpoint, data="/some/pets").data_name == "pets"
    save_checkpoint(tmp_path / "b", checkpoint)
    assert load_checkpoint(tmp_path / "b").dataset is None
    kept = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(kept.replace(b'\\"splits\\"', b'\\"sqlits\\"'))
    assert "its header does not match its digest; the file is damaged" in refusal(tmp_path / "a")
    path = rewritten(tmp_path / "c", checkpoint, dataset={"sqlits": {}})
    assert "its header is damaged: dataset: is no fingerprint" in refusal(path)
