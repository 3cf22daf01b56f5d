"""What becomes of a file without a classifier: an encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from network_trees import BODY, SPEC, STATE, same

from resnet_spec.cli.main import main
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.checkpoint import load_checkpoint
from resnet_spec.weights.converting import convert
from resnet_spec.weights.recognising.matching_preset import MatchingPreset
from resnet_spec.weights.recognising.recognise import recognise_file

torch = pytest.importorskip("torch")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.save(BODY, tmp_path / "encoder.pth")
    return tmp_path / "encoder.pth"


def test_a_classifier_is_drawn_for_an_encoder(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--data", "digits", "--backend", "numpy", "--set", "batch=4", "--freeze", "backbone"]
    train = ["train", "--pretrained", str(encoder), *options, "--out", str(out)]
    assert main([*train, "--set", "steps=1"]) == 0
    made = load_checkpoint(out / "last.safetensors")
    assert made.spec.classes == 10
    assert np.array_equal(made.state["conv1.weight"], STATE["conv1.weight"])
    record = json.loads((out / "pretrained.json").read_text())
    assert "fc: none -> 10 classes, drawn anew from seed 0" in record["notes"]


def test_an_encoder_has_no_head_to_keep(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--pretrained", str(encoder), "--data", "digits", "--backend", "numpy"]
    assert main([*train, "--head", "keep", "--out", str(tmp_path / "run")]) == 2
    assert "--head = keep: the weights have no classifier" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "FILE", "--data", "digits", "--backend", "numpy"],
        ["predict", "FILE", __file__, "--backend", "numpy"],
        ["export", "FILE", "--to", "onnx"],
        ["show", "confusion", "FILE", "--data", "digits", "--backend", "numpy", "--text"],
        ["parity", "FILE", "--backends", "numpy"],
    ],
)
def test_logits_of_an_encoder_are_refused(
    command: list[str], encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(encoder) if it == "FILE" else it for it in command]) == 2
    error = capsys.readouterr().err
    assert f"{encoder}: has no classifier; resnet-spec train --pretrained" in error
    assert error.count("\n") == 1


def test_an_encoder_is_inspected(encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(encoder)]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("encoder.pth, torch, no classifier")
    assert main(["inspect", str(encoder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["has_classifier"] is False
    assert main(["show", "filters", str(encoder), "--text"]) == 0


def test_an_encoder_is_converted_and_stays_one(encoder: Path, tmp_path: Path) -> None:
    done = convert(encoder, tmp_path / "b.npz", to="kuangliu")
    assert done.proof.difference == 0.0
    back = convert(done.path, tmp_path / "c.pth", to="timm")
    it = recognise_file(back.path)
    assert not it.has_classifier and same(it.tensors, BODY)
    with pytest.raises(CheckpointError, match="has no classifier, and a checkpoint must have one"):
        convert(encoder, tmp_path / "d.safetensors")
    assert not (tmp_path / "d.safetensors").exists()


def test_a_module_is_built_from_an_encoder(encoder: Path) -> None:
    import resnet_spec

    made = resnet_spec.session(SPEC, "numpy", classes=3, seed=2, pretrained=encoder)
    drawn = initial_state(lower(load_spec(SPEC, ["classes=3"])), 2)
    assert np.array_equal(made.state()["fc.weight"], drawn["fc.weight"])
    assert np.array_equal(made.state()["conv1.weight"], STATE["conv1.weight"])


def test_the_preset_of_a_file_goes_by_its_former_name_too(encoder: Path) -> None:
    found = replace(recognise_file(encoder), preset=MatchingPreset("resnet18", ()))
    assert found.relative == MatchingPreset("resnet18", ())
