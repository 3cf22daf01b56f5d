"""What no tensor shows is assumed, and every command says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from network_trees import NET, PLAN, SPEC, STATE

from resnet_spec.cli.main import main
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint
from resnet_spec.weights.converting import load_weights
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file

torch = pytest.importorskip("torch")


def note_of(path: Path, *settings: str) -> str:
    (line,) = [it for it in load_weights(path, settings=settings).notes if it.startswith("assumed")]
    return line


def test_what_is_assumed_is_told_until_it_is_said(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.pth", to_file(PLAN, scheme("timm"), STATE))
    path = tmp_path / "w.pth"
    line = note_of(path)
    assert "stem.pool = false (stem.pool=true)" in line and "no blur pools" in line
    for field in ("stages.stride", "stages.dilation", "stem.stride", "norm.eps"):
        assert f"{field} = " in line
    for value in ("true", "false"):
        said = note_of(path, f"stem.pool={value}")
        assert "stem.pool" not in said
        assert said.count(" = ") == line.count(" = ") - 1
    said = note_of(path, "stages[1].stride=2")
    assert "stages.stride" not in said and "stages.dilation = " in said
    assert not any("assumed" in note for note in load_weights(path, SPEC).notes)
    save_checkpoint(tmp_path / "own.safetensors", Checkpoint(SPEC, STATE))
    assert load_weights(tmp_path / "own.safetensors").notes == ()


def test_strides_on_the_1x1_share_all_tensors_under_common_names(tmp_path: Path) -> None:
    spec = load_spec({**SPEC.to_dict(), "block": "bottleneck", "expansion": 4})
    state = initial_state(lower(spec), 0)
    for name, is_told in (("timm", True), ("mindcv", False)):
        path = tmp_path / f"{name}.npz"
        write_weights(path, to_file(lower(spec), scheme(name), state))
        assert ('stride_position = "3x3"' in note_of(path)) == is_told


COMMANDS = [
    ["evaluate", "FILE", "--data", "digits", "--backend", "numpy"],
    ["predict", "FILE", "IMAGE", "--backend", "numpy"],
    pytest.param(["export", "FILE", "--to", "onnx"], marks=pytest.mark.thorough),
    ["show", "features", "FILE", "--data", "digits", "--backend", "numpy", "--text"],
    ["parity", "FILE", "--backends", "numpy", "--input-size", "8", "--level", "names"],
    ["convert", "FILE", "OUT"],
    ["train", "--pretrained", "FILE", "--backend", "numpy", "--data", "digits",
     "--set", "steps=1", "--set", "batch=4", "--out", "RUN"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_assumes(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "export":
        pytest.importorskip("onnx", reason="onnx is not installed")
    from PIL import Image

    plan = lower(load_spec(SPEC, ["classes=10"]))
    places = {"FILE": "w.pth", "IMAGE": "x.png", "OUT": "o.safetensors", "RUN": "run"}
    write_weights(tmp_path / "w.pth", to_file(plan, scheme("timm"), initial_state(plan, 0)))
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "x.png")
    given = [str(tmp_path / places[it]) if it in places else it for it in command]
    assert main(given) == 0
    told = capsys.readouterr()
    lines = [it for it in (told.out + told.err).splitlines() if it.startswith("note: assumed")]
    assert len(lines) == 1 and "stem.pool=true" in lines[0]


def test_train_with_a_spec_assumes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(NET, tmp_path / "w.pth")
    (tmp_path / "s.json").write_text(json.dumps(SPEC.to_dict()))
    options = ["--backend", "numpy", "--data", "digits", "--set", "steps=1", "--set", "batch=4"]
    weights = ["--pretrained", str(tmp_path / "w.pth"), "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "s.json"), *options, *weights]) == 0
    assert "assumed" not in capsys.readouterr().out
