"""Weight files: what is written is read back bit by bit, by this library and by the kind's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import KINDS, finite_problems, read_weights, write_weights

WRITTEN = [name for name in KINDS if name != "keras"]
ENDINGS = [(kind.name, ending) for kind in KINDS.values() for ending in kind.endings]


def network() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    conv = draw.normal(size=(3, 3, 2, 4)).astype(np.float32)
    norm = {
        f"bn1.{name}": draw.normal(size=4).astype(np.float32)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    dense = {"fc.kernel": draw.normal(size=(4, 3)).astype(np.float32), "fc.bias": np.zeros(3, "f4")}
    return {"conv1.kernel": conv, **norm, **dense}


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        array = found[name]
        assert (array.shape, array.dtype) == (value.shape, value.dtype), name
        assert array.tobytes() == value.tobytes(), name


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_round_trip_is_bit_equal(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "weights"
    write_weights(path, network(), kind)
    file = read_weights(path)
    assert (file.path, file.kind, file.notes) == (path, kind, ())
    assert_equal(file.tensors, network())
    assert [p.name for p in path.parent.iterdir()] == ["weights"]
    for array in file.tensors.values():
        assert array.flags.c_contiguous and array.flags.writeable


@pytest.mark.parametrize("kind", [k for k in WRITTEN if not k.startswith("keras")])
def test_every_type_shape_and_layout_survives(kind: str, tmp_path: Path) -> None:
    base = np.arange(-12, 12)
    types: dict[str, Any] = {
        f"{name}.w": base.astype(name)
        for name in ("float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool")
    }
    odd = np.array([np.nan, -np.inf, -0.0, 1e-45], np.float32)
    empty = {"empty.w": np.zeros((0, 3), np.float32)} if kind != "mindspore" else {}
    shapes = {"scalar.w": np.array(2.5, np.float32), "odd.w": odd, **empty}
    layouts = {
        "turned.w": base.astype(np.float32).reshape(4, 6).T,
        "every_other.w": base.astype(np.float32)[::2],
        "big_endian.w": base.astype(">f4"),
    }
    path = tmp_path / "weights"
    write_weights(path, {**types, **shapes, **layouts}, kind)
    turned = np.ascontiguousarray(layouts["turned.w"])
    every = np.ascontiguousarray(layouts["every_other.w"])
    native = {"turned.w": turned, "every_other.w": every, "big_endian.w": base.astype(np.float32)}
    assert_equal(read_weights(path).tensors, {**types, **shapes, **native})


@pytest.mark.parametrize("kind", WRITTEN)
def test_half_precision_is_widened_and_noted(kind: str, tmp_path: Path) -> None:
    values = {"fc.kernel": np.linspace(-3, 3, 12).astype(np.float16).reshape(4, 3)}
    path = tmp_path / "weights"
    write_weights(path, values, kind)
    file = read_weights(path)
    assert_equal(file.tensors, {"fc.kernel": values["fc.kernel"].astype(np.float32)})
    assert kind == "orbax" or file.notes == ("1 tensors of float16 are widened to float32",)


@pytest.mark.parametrize(("kind", "ending"), ENDINGS)
def test_the_ending_says_the_kind_when_writing(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"resnet.v1{ending}"
    if kind == "keras":
        with pytest.raises(
            CheckpointError, match=r"v1\.keras: a \.keras file needs .*\.weights\.h5"
        ):
            write_weights(path, network())
        assert list(tmp_path.iterdir()) == []
        return
    write_weights(path, network())
    assert read_weights(path).kind == kind


def test_the_name_of_a_file_says_nothing_when_reading(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    write_weights(path, network(), "npz")
    assert read_weights(path).kind == "npz"


def test_writing_names_what_it_refuses(tmp_path: Path) -> None:
    def refusal(path: str, tensors: Mapping[str, Any], kind: str | None = None) -> str:
        with pytest.raises(CheckpointError) as caught:
            write_weights(tmp_path / path, tensors, kind)
        assert list(tmp_path.iterdir()) == []
        return str(caught.value)

    assert "does not say its kind; end its name in one of .pth" in refusal("w.xyz", network())
    assert "did you mean 'safetensors'?" in refusal("w", network(), "safetensor")
    assert refusal("w.npz", {}).endswith("w.npz: would hold no tensors")
    assert "printable name" in refusal("w.npz", {"a\nb": np.zeros(1)})
    assert "a.b" in refusal("w.msgpack", {"a": np.zeros(1), "a.b": np.zeros(1)})
    assert "complex128: cannot be written to .pth" in refusal("w.pth", {"a": np.zeros(1, complex)})
    assert "uint16: cannot be written to .pth" in refusal("w.pth", {"a": np.zeros(1, np.uint16)})


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    pytest.importorskip("tensorstore")
    path = tmp_path / "run.orbax"
    write_weights(path, network())
    with pytest.raises(CheckpointError, match="exists already"):
        write_weights(path, network())
    assert_equal(read_weights(path).tensors, network())


def test_values_that_are_not_finite_are_read_and_reported() -> None:
    tensors = {"a": np.array([1, np.nan, np.inf]), "b": np.ones(2), "n": np.arange(3)}
    assert finite_problems(tensors) == ["a: 2 of 3 values are NaN or infinite"]


def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = {**network(), "n.n": np.arange(3), "s.s": np.array(1.5, np.float32)}
    for kind in ("torch", "torch-legacy"):
        write_weights(tmp_path / kind, values, kind)
        loaded = torch.load(tmp_path / kind, weights_only=True)
        assert_equal({name: value.numpy() for name, value in loaded.items()}, values)


def test_a_storage_begins_where_it_can_be_mapped(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    write_weights(tmp_path / "w.pth", network())
    loaded = torch.load(tmp_path / "w.pth", weights_only=True, mmap=True)
    assert all(value.data_ptr() % 64 == 0 for value in loaded.values())


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read(zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    values = {
        "whole": base,
        "turned": base.T,
        "part": base[1:3, 2:5],
        "every_other": base[:, ::2],
        "expanded": torch.arange(3.0).expand(2, 3),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
        "double": torch.arange(3, dtype=torch.float64),
    }
    halves = {"half": base.half() / 7, "bfloat16": base.bfloat16() / 7}
    parameter = {"parameter": torch.nn.Parameter(base)}
    everything = {**values, **halves, **parameter}
    path = tmp_path / "w.pt"
    torch.save(everything, path, _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    expected = {name: value.detach().contiguous() for name, value in everything.items()}
    assert_equal(
        found.tensors,
        {n: (v.float() if n in halves else v).numpy() for n, v in expected.items()},
    )
    assert found.kind == ("torch" if zipped else "torch-legacy")


def test_mindspore_reads_what_is_written_and_back(tmp_path: Path) -> None:
    mindspore = pytest.importorskip("mindspore")
    values = {**network(), "n.n": np.arange(3), "s.s": np.array(1.5, np.float32)}
    write_weights(tmp_path / "ours.ckpt", values)
    loaded = mindspore.load_checkpoint(str(tmp_path / "ours.ckpt"))
    assert_equal({name: value.asnumpy() for name, value in loaded.items()}, values)
    entries = {**values, "moments.conv1.kernel": values["conv1.kernel"]}
    saved = [{"name": name, "data": mindspore.Tensor(a)} for name, a in entries.items()]
    half = mindspore.Tensor(values["fc.kernel"], mindspore.float16)
    brain = mindspore.Tensor(values["fc.kernel"], mindspore.bfloat16)
    saved += [{"name": "half.kernel", "data": half}, {"name": "brain.kernel", "data": brain}]
    mindspore.save_checkpoint(
        saved, str(tmp_path / "theirs.ckpt"), append_dict={"epoch_num": 3, "learning_rate": 0.1}
    )
    found = read_weights(tmp_path / "theirs.ckpt")
    narrow = values["fc.kernel"].astype(np.float16).astype(np.float32)
    bits = found.tensors.pop("brain.kernel")
    np.testing.assert_allclose(bits, values["fc.kernel"], rtol=2**-8)
    assert not (bits.view(np.uint32) & 0xFFFF).any()
    assert_equal(found.tensors, {**values, "half.kernel": narrow})
    assert "left out: moments.conv1.kernel, epoch_num, learning_rate" in found.notes


def test_mindspore_slices_are_joined(tmp_path: Path) -> None:
    from resnet_spec.weights.files import mindspore_ckpt, protobuf

    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    raw = value.tobytes()
    before = mindspore_ckpt._before("w", (3, 4), "Float32", 24)  # pyright: ignore[reportPrivateUsage]
    (tmp_path / "w.ckpt").write_bytes(before + raw[:24] + before + raw[24:])
    assert protobuf.encoded(300) == b"\xac\x02"
    assert_equal(read_weights(tmp_path / "w.ckpt").tensors, {"w": value})


def test_flax_reads_what_is_written_and_back(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    kernel, mean = network()["conv1.kernel"], network()["bn1.moving_mean"]
    values = {"params.conv_init.kernel": kernel, "batch_stats.bn_init.mean": mean}
    write_weights(tmp_path / "ours.msgpack", values)
    tree = serialization.msgpack_restore((tmp_path / "ours.msgpack").read_bytes())
    assert tree["params"]["conv_init"]["kernel"].tobytes() == kernel.tobytes()
    assert tree["batch_stats"]["bn_init"]["mean"].tobytes() == mean.tobytes()
    state = {"step": 3, "opt_state": {"0": {"trace": tree["params"]}}, **tree}
    (tmp_path / "state.msgpack").write_bytes(serialization.to_bytes(state))
    found = read_weights(tmp_path / "state.msgpack")
    assert_equal(found.tensors, values)
    assert found.notes == ("left out: step, opt_state",)


def test_flax_chunks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 40)
    monkeypatch.setattr("resnet_spec.weights.files.flax_msgpack._CHUNK", 40)
    kernel = network()["conv1.kernel"]
    theirs = serialization.msgpack_serialize({"params": {"conv": {"kernel": kernel}}})
    (tmp_path / "theirs.msgpack").write_bytes(theirs)
    assert b"__msgpack_chunked_array__" in theirs
    assert_equal(read_weights(tmp_path / "theirs.msgpack").tensors, {"params.conv.kernel": kernel})
    write_weights(tmp_path / "ours.msgpack", {"params.conv.kernel": kernel})
    ours = (tmp_path / "ours.msgpack").read_bytes()
    restored = serialization.msgpack_restore(ours)
    assert b"__msgpack_chunked_array__" in ours
    assert restored["params"]["conv"]["kernel"].tobytes() == kernel.tobytes()


def test_orbax_reads_what_is_written_and_back(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("orbax.checkpoint")
    kernel, mean = network()["conv1.kernel"], network()["bn1.moving_mean"]
    values = {"params.conv_init.kernel": kernel, "batch_stats.bn_init.mean": mean}
    write_weights(tmp_path / "ours.orbax", values)
    orbax = cast(Any, checkpoint).PyTreeCheckpointer()
    tree = orbax.restore(tmp_path / "ours.orbax")
    assert tree["params"]["conv_init"]["kernel"].tobytes() == kernel.tobytes()
    assert tree["batch_stats"]["bn_init"]["mean"].tobytes() == mean.tobytes()
    state = {"step": np.int32(3), "opt_state": [{"trace": kernel}, None], **tree}
    orbax.save(tmp_path / "a folder", state)
    found = read_weights(tmp_path / "a folder")
    assert_equal(found.tensors, values)
    assert found.notes == ("left out: opt_state, step",)
    flat = cast(Any, checkpoint).Checkpointer(
        cast(Any, checkpoint).PyTreeCheckpointHandler(use_ocdbt=False)
    )
    flat.save(tmp_path / "flat", state)
    assert_equal(read_weights(tmp_path / "flat").tensors, values)


def test_safetensors_reads_what_is_written_and_back(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_weights(tmp_path / "ours.safetensors", network())
    assert_equal(load_file(tmp_path / "ours.safetensors"), network())
    save_file(network(), tmp_path / "theirs.safetensors", metadata={"format": "np", "a": "b"})
    assert_equal(read_weights(tmp_path / "theirs.safetensors").tensors, network())


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    value = torch.randn(50, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"w": value}, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert_equal(found.tensors, {"w": value.float().numpy()})
    assert found.notes == ("1 tensors of bfloat16 are widened to float32",)


def test_compressed_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    values = {**network(), "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    np.savez_compressed(tmp_path / "w.npz", **values)
    expected = {name: np.ascontiguousarray(value) for name, value in values.items()}
    assert_equal(read_weights(tmp_path / "w.npz").tensors, expected)
    np.savez(tmp_path / "plain.npz", **values)
    assert_equal(read_weights(tmp_path / "plain.npz").tensors, expected)


CHECKPOINTS = Path(__file__).parents[3] / "shared" / "data" / "checkpoints"


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="the published CIFAR checkpoints are absent")
@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("resnet20-12fca82f.th", 97, 269_722), ("resnet56-4bfd9763.th", 277, 853_018)],
)
def test_published_checkpoints_are_read(name: str, tensors: int, parameters: int) -> None:
    file = read_weights(CHECKPOINTS / name)
    assert (file.kind, len(file.tensors)) == ("torch-legacy", tensors)
    trained = {n: a for n, a in file.tensors.items() if "running" not in n}
    assert sum(a.size for a in trained.values()) == parameters
    assert finite_problems(file.tensors) == []
    assert file.tensors["linear.weight"].shape == (10, 64)
    torch = pytest.importorskip("torch")
    loaded = torch.load(CHECKPOINTS / name, map_location="cpu", weights_only=True)["state_dict"]
    assert_equal(
        file.tensors, {n.removeprefix("module."): value.numpy() for n, value in loaded.items()}
    )


def test_safetensors_of_mindspore_leave_the_optimiser_out(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    values = {**network(), "moments.fc.kernel": network()["fc.kernel"]}
    save_file(values, tmp_path / "w.safetensors", metadata={"format": "ms"})
    found = read_weights(tmp_path / "w.safetensors")
    assert_equal(found.tensors, network())
    assert found.notes == ("left out: moments.fc.kernel",)
