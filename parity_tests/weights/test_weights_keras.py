"""The layouts of Keras, as Keras 3.15, 3.0 and 2 write them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights, write_weights

h5py = pytest.importorskip("h5py")

NAMED = {
    "conv2d": ("conv1_conv", {"kernel": (3, 3, 3, 4), "bias": (4,)}),
    "conv2d_1": ("conv2_block1_0_conv", {"kernel": (1, 1, 4, 4), "bias": (4,)}),
    "batch_normalization": (
        "conv1_bn",
        dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (4,)),
    ),
    "dense": ("predictions", {"kernel": (4, 5), "bias": (5,)}),
    "re_lu": ("conv1_relu", {}),
}
CLASSES = {
    "conv2d": "Conv2D",
    "batch_normalization": "BatchNormalization",
    "dense": "Dense",
    "re_lu": "ReLU",
}


def truth() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        f"{layer}.{name}": draw.normal(size=shape).astype(np.float32)
        for layer, variables in NAMED.values()
        for name, shape in variables.items()
    }


def keras_3(names: bool = True, inside: str = "", **options: Any) -> bytes:
    """The layout of `model.save_weights("x.weights.h5")`."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_group("vars")
        for group, (layer, variables) in NAMED.items():
            place = file.create_group(f"{inside}layers/{group}/vars")
            if names:
                place.attrs["name"] = layer
            for number, variable in enumerate(variables):
                value = truth()[f"{layer}.{variable}"]
                place.create_dataset(str(number), data=value, **options)
        file.create_dataset("optimizer/vars/0", data=np.zeros(3, np.int64))
    return out.getvalue()


def configuration() -> dict[str, Any]:
    layers = [
        {"class_name": CLASSES[group.removesuffix("_1")], "config": {"name": layer}}
        for group, (layer, _) in NAMED.items()
    ]
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers}}


def keras_zip(weights: bytes, config: object) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return out.getvalue()


def read(data: bytes, tmp_path: Path) -> Any:
    (tmp_path / "w").write_bytes(data)
    return read_weights(tmp_path / "w")


def refusal(data: bytes, tmp_path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(data, tmp_path)
    return str(caught.value)


def assert_truth(found: dict[str, Any]) -> None:
    assert found.keys() == truth().keys()
    for name, value in truth().items():
        assert found[name].tobytes() == value.tobytes(), name


def test_keras_3_names_its_layers_in_an_attribute(tmp_path: Path) -> None:
    file = read(keras_3(), tmp_path)
    assert_truth(file.tensors)
    assert (file.kind, file.notes) == ("keras-weights", ("left out: optimizer",))
    assert_truth(read(keras_3(inside="layers/functional/"), tmp_path).tensors)
    assert_truth(read(keras_3(compression="gzip", shuffle=True), tmp_path).tensors)


def test_early_keras_3_names_them_in_the_configuration_alone(tmp_path: Path) -> None:
    file = read(keras_zip(keras_3(names=False), configuration()), tmp_path)
    assert_truth(file.tensors)
    assert file.kind == "keras"
    outer = {"config": {"layers": [configuration()]}}
    nested = keras_3(names=False, inside="layers/functional/")
    assert_truth(read(keras_zip(nested, outer), tmp_path).tensors)
    line = refusal(keras_3(names=False), tmp_path)
    assert "does not say the name of the layer layers/batch_normalization" in line
    assert "use the .keras file" in line


def test_variables_that_cannot_be_known_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        group = file.create_group("layers/batch_normalization/vars")
        group.attrs["name"] = "bn"
        for number in range(3):
            group.create_dataset(str(number), data=np.zeros(4, np.float32))
    assert "does not say which 3 variables bn has" in refusal(out.getvalue(), tmp_path)
    settings = {"name": "bn", "scale": False, "center": True}
    layer = {"class_name": "BatchNormalization", "config": settings}
    config = {"config": {"layers": [layer]}}
    found = read(keras_zip(out.getvalue(), config), tmp_path).tensors
    assert list(found) == ["bn.beta", "bn.moving_mean", "bn.moving_variance"]


def test_the_code_in_a_configuration_is_not_looked_at(tmp_path: Path) -> None:
    code = {"class_name": "Lambda", "config": {"name": "x", "function": ["cos\nsystem\n", None]}}
    config = configuration()
    config["config"]["layers"].append(code)
    assert_truth(read(keras_zip(keras_3(), config), tmp_path).tensors)


@pytest.mark.parametrize("suffix", [":0", ""])
@pytest.mark.parametrize("whole_model", [True, False])
def test_keras_2_names_everything(suffix: str, whole_model: bool, tmp_path: Path) -> None:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        weights = file.create_group("model_weights") if whole_model else file
        layers = [layer.encode() for layer, _ in NAMED.values()]
        weights.attrs["layer_names0"], weights.attrs["layer_names1"] = layers[:2], layers[2:]
        for layer, variables in NAMED.values():
            group = weights.create_group(layer)
            paths = [f"{layer}/{name}{suffix}" for name in variables]
            group.attrs["weight_names"] = np.array(paths, dtype="S") if paths else []
            for path, name in zip(paths, variables, strict=True):
                group.create_dataset(path, data=truth()[f"{layer}.{name}"])
    file = read(out.getvalue(), tmp_path)
    assert_truth(file.tensors)
    assert file.kind == "keras-h5"


def test_many_layers_stand_in_several_attributes(tmp_path: Path) -> None:
    many = {f"{'a_long_name_' * 20}{n}.kernel": np.full(1, n, np.float32) for n in range(300)}
    write_weights(tmp_path / "w.h5", many)
    with h5py.File(tmp_path / "w.h5") as file:
        assert "layer_names1" in file.attrs
    found = read_weights(tmp_path / "w.h5").tensors
    assert {name: float(value[0]) for name, value in found.items()} == {
        name: float(value[0]) for name, value in many.items()
    }


def make_soft(file: Any, tmp_path: Path) -> None:
    file["layers/conv2d/vars/0"] = h5py.SoftLink("/vars")


def make_external(file: Any, tmp_path: Path) -> None:
    file["layers/conv2d/vars/0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")


def make_raw(file: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    place = [(str(tmp_path / "secret"), 0, 16)]
    file.create_dataset("layers/conv2d/vars/0", (4,), "f4", external=place)


def make_virtual(file: Any, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
    file.create_virtual_dataset("layers/conv2d/vars/0", layout)


@pytest.mark.parametrize("make", [make_soft, make_external, make_raw, make_virtual])
def test_data_in_other_files_are_refused(make: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv"
        make(file, tmp_path)
    with pytest.raises(CheckpointError, match="refused; do not use this file"):
        read_weights(path)


def test_a_declared_size_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "fc"
        group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    with pytest.raises(CheckpointError, match="claims far more data for layers/dense/vars/0"):
        read_weights(path)


def test_hdf5_of_others_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("x", data=np.zeros(3))
    assert "is not laid out as Keras does it" in refusal(out.getvalue(), tmp_path)


def test_a_file_that_the_library_hangs_on_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_spec.weights.files.hdf5._SECONDS", 0.0)
    monkeypatch.setattr("resnet_spec.weights.files.hdf5._SLOWEST", 1 << 40)
    assert refusal(keras_3(), tmp_path).endswith("damaged HDF5 file; get it again")
