"""Plain functions and ONNX files predict; factories are loaded by name; every failure is a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.parity.functions import normalised
from resnet_spec.parity.own import compare
from resnet_spec.parity.setup import make_setup, worn_state
from resnet_spec.parity.wrapping import framework_of, load_factory, wrap

CASE = CASES["bottleneck"]
PLAN = CASE.plan
STATE = worn_state(PLAN, 0)


def function(images: Array) -> Array:
    """The reference as a function of normalised images [N, C, H, W], in float32."""
    session = load_backend("numpy").Session(PLAN, precision="float32")
    session.load(STATE)
    order = np.arange(len(images))
    (logits,) = session.predict([Batch(images.transpose(0, 2, 3, 1), order, order)])
    return logits


def test_a_function_with_its_weights_is_compared() -> None:
    report = compare((function, STATE), CASE.spec, input_size=10)
    levels = {row.level: row.verdict for row in report.rows}
    assert levels.keys() == {"names", "shapes", "counts", "logits"}
    assert set(levels.values()) <= {"equal", "rounding"}
    wrong = {**STATE, "fc.bias": STATE["fc.bias"] + 1}
    report = compare((function, wrong), CASE.spec, input_size=10)
    assert any(row.is_wrong for row in report.rows if row.level == "logits")
    assert [finding.node for finding in report.findings] == ["fc"]


def test_a_function_that_gives_something_else() -> None:
    batch = make_setup(PLAN).batches[0]
    cases: list[tuple[Any, str]] = [
        (lambda images: images.mean((1, 2)), r"must give logits of shape \[6, 5\], not \[6, 10\]"),
        (lambda images: images.missing, r"model = function: predict fails in it: AttributeError"),
        (lambda images: np.zeros((6, 5)), r"computes in float64 though its weights are float32"),
    ]
    for given, message in cases:
        with pytest.raises(BackendError, match=message):
            list(wrap(given, PLAN).predict([batch]))
    with pytest.raises(BackendError, match=r"model = int: is no model"):
        wrap(3, PLAN)
    with pytest.raises(BackendError, match="a pair must be a function or a file, and its weights"):
        wrap((function, 3), PLAN)
    with pytest.raises(CheckpointError, match=r"fc\.bias: is missing"):
        wrap((function, {n: a for n, a in STATE.items() if n != "fc.bias"}), PLAN)


def test_images_are_normalised_as_in_every_session() -> None:
    images = make_setup(PLAN).batches[0].images
    moved = normalised(images, PLAN.input, "float64")
    assert moved.shape == (6, 3, 10, 10)
    assert np.allclose(moved[:, 1], (images[..., 1] / 255 - 0.5) / 0.25)
    assert normalised(images / 255.0, PLAN.input, "float32").max() <= 1.0


def test_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed, nothing writes a file")
    path = tmp_path / "pooled.onnx"
    path.write_bytes(_pooled(onnx).SerializeToString())
    batch = make_setup(PLAN).batches[0]
    (logits,) = wrap(str(path), PLAN).predict([batch])
    expected = normalised(batch.images, PLAN.input, "float32").mean((2, 3)) @ np.ones((3, 5))
    assert np.allclose(logits, expected, atol=1e-5)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"damaged\.onnx: cannot be run by onnxruntime"):
        wrap(str(damaged), PLAN)
    with pytest.raises(BackendError, match="is no file"):
        wrap(str(tmp_path / "absent.onnx"), PLAN)


def _pooled(onnx: Any) -> Any:
    """Return a model: the mean over height and width, times a matrix of ones."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ones = helper.make_tensor("ones", kind, [3, 5], np.ones(15, np.float32).tolist())
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "ones"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 10, 10])],
        [helper.make_tensor_value_info("logits", kind, ["N", 5])],
        [ones],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_without_onnxruntime_the_install_command_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"run: pip install 'resnet-spec\[export\]'"):
        wrap("model.onnx", PLAN)


FACTORIES = """
made = 3
class Net: ...
def build(): return Net()
def broken(): return 1 / 0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_networks.py").write_text(FACTORIES)
    (tmp_path / "own_broken.py").write_text("import no_such_package_at_all")
    (tmp_path / "own_syntax.py").write_text("def :")
    monkeypatch.chdir(tmp_path)
    for name in ("own_networks", "own_broken", "own_syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_factory_is_found_in_the_working_directory(folder: Path) -> None:
    before = list(sys.path)
    assert type(load_factory("own_networks:build")()).__name__ == "Net"
    assert sys.path == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own_networks", "must be package.module:factory"),
        (":build", "must be package.module:factory"),
        ("own_nets:build", "there is no module own_nets; run it from the folder of own_nets"),
        ("own_networks:bild", "own_networks has no bild; did you mean 'build'"),
        ("own_networks:made", "made is not a function"),
        ("own_broken:build", "cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("own_syntax:build", "cannot be imported: SyntaxError"),
    ],
)
def test_a_factory_that_cannot_be_had(folder: Path, target: str, message: str) -> None:
    with pytest.raises(BackendError) as raised:
        load_factory(target)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"--against = {target}: ")
    assert len(str(raised.value).splitlines()) == 1


def test_a_factory_that_fails(folder: Path) -> None:
    with pytest.raises(BackendError, match=r"--against = own_networks:broken: ZeroDivisionError"):
        load_factory("own_networks:broken")()


def test_looking_at_a_model_imports_no_framework() -> None:
    code = (
        "import sys\n"
        "from resnet_spec.parity.wrapping import framework_of\n"
        "assert framework_of(len) is None and framework_of(('a.onnx', {})) is None\n"
        "assert not {'torch', 'jax', 'mindspore', 'onnxruntime'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert framework_of(()) is None
