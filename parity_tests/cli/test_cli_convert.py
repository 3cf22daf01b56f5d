"""`inspect` and `convert` on the command line: what they print, how they end, what they leave."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.conventions import applied
from resnet_spec.weights.naming.lifting import to_file

Captured = pytest.CaptureFixture[str]

SMALL = Spec.from_dict(
    {
        "name": "small",
        "classes": 5,
        "stem": {"widths": [8]},
        "stages": [{"width": 8, "blocks": 1}, {"width": 16, "blocks": 2, "stride": 2}],
        "block": "bottleneck",
    }
)


def output(capsys: Captured, *argv: str | Path) -> str:
    assert main([str(arg) for arg in argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def error(capsys: Captured, *argv: str | Path) -> str:
    assert main([str(arg) for arg in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("resnet-spec: error: ").strip()


def foreign(
    path: Path, names: str, spec: Spec = SMALL, changes: dict[str, np.ndarray] | None = None
) -> Path:
    plan = lower(spec)
    tensors = to_file(plan, scheme(names), initial_state(plan, 0))
    write_weights(path, {**tensors, **(changes or {})})
    return path


def test_inspect_says_what_is_known_and_what_is_not(tmp_path: Path, capsys: Captured) -> None:
    text = output(capsys, "inspect", foreign(tmp_path / "a.ckpt", "mindcv"))
    assert "a.ckpt, mindspore" in text
    assert "mindcv (MindCV, on MindSpore)" in text
    assert "post-activation bottleneck blocks 1-2, channels 32-64; stem 8 of 7x7" in text
    assert "preset      none has these tensors" in text
    assert "finite      all values" in text
    rows = {line.split(" = ")[0].strip(): line for line in text.splitlines() if "; else" in line}
    assert "fixed by the project's code" in rows["stem.pool_padding"]
    assert '"same"' in rows["stem.pool_padding"]
    assert "assumed, as usual; else --set stages[1].stride=1" in rows["stages.stride"]


def test_inspect_in_json_holds_the_spec(tmp_path: Path, capsys: Captured) -> None:
    spec = load_spec("resnet18", ["classes=3"])
    path = foreign(tmp_path / "a.npz", "timm", spec)
    fields = json.loads(output(capsys, "inspect", path, "--format", "json"))
    assert (fields["kind"], fields["scheme"]) == ("npz", "timm")
    assert fields["spec"] == {**spec.to_dict(), "name": "resnet18"}
    assert fields["preset"] == {"name": "resnet18", "differs": ["classes = 3"]}
    assert fields["params"] == 11_178_051
    assert fields["tensors"] == len(lower(spec).tensors)
    assert fields["dtypes"] == ["float32"]
    assert fields["not_finite"] == []


def test_inspect_s_toml_is_a_spec(tmp_path: Path, capsys: Captured) -> None:
    path = foreign(tmp_path / "a.ckpt", "mindcv")
    toml = output(capsys, "inspect", path, "--format", "toml", "--set", "name=mine")
    (tmp_path / "mine.toml").write_text(toml)
    expected = applied(scheme("mindcv"), SMALL).model_copy(update={"name": "mine"})
    assert load_spec(tmp_path / "mine.toml").to_dict() | {"expansion": 4} == expected.to_dict()


def test_inspect_shows_what_is_not_finite(tmp_path: Path, capsys: Captured) -> None:
    bad = {"bn1.bias": np.full(8, np.nan, np.float32)}
    path = foreign(tmp_path / "a.npz", "timm", changes=bad)
    assert "bn1.bias: 8 of 8 values are NaN or infinite" in output(capsys, "inspect", path)
    line = error(capsys, "convert", path, tmp_path / "b.safetensors")
    assert line == f"{path}: bn1.bias: 8 of 8 values are NaN or infinite"


def test_inspect_of_an_own_checkpoint_tells_of_its_run(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(
        path,
        Checkpoint(
            SMALL,
            initial_state(lower(SMALL), 0),
            recipe=load_recipe("cifar-fast"),
            backend={"framework": "numpy"},
            data="digits",
            progress={"step": 3},
        ),
    )
    text = output(capsys, "inspect", path)
    for row in ("checkpoint of this project", "framework numpy", "digits", "step 3"):
        assert row in text
    assert "not shown by tensors" not in text
    fields = json.loads(output(capsys, "inspect", path, "--format", "json"))
    assert fields["checkpoint"]["progress"] == {"step": 3}
    assert fields["checkpoint"]["recipe"] == load_recipe("cifar-fast").to_dict()


def test_convert_prints_its_proof(tmp_path: Path, capsys: Captured) -> None:
    source = foreign(tmp_path / "a.pth", "timm")
    text = output(capsys, "convert", source, tmp_path / "b.msgpack", "--to", "hf-flax")
    lines = text.splitlines()
    assert lines[0].startswith("note: norm.variance = unbiased: hf-flax's code has biased")
    assert "names of timm: custom" in text
    assert "assumed: stages.stride = [1, 2]" in text
    params = sum(math.prod(t.shape) for t in lower(SMALL).tensors if t.trainable)
    assert lines[-1] == f"proof: 2 images, logits equal bit by bit (custom, {params:,} parameters)"
    text = output(
        capsys, "convert", tmp_path / "b.msgpack", tmp_path / "c.safetensors", "--set", "name=mine"
    )
    assert "equal bit by bit (mine, " in text
    assert load_checkpoint(tmp_path / "c.safetensors").spec.name == "mine"


def test_a_given_kind_overrides_the_ending(tmp_path: Path, capsys: Captured) -> None:
    source = foreign(tmp_path / "a.pth", "timm")
    output(capsys, "convert", source, tmp_path / "weights", "--to", "timm", "--kind", "npz")
    text = output(capsys, "inspect", tmp_path / "weights", "--from", "timm")
    assert "weights, npz" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spec", "resnet18"], "are not those of resnet18"),
        (["--spec", "resnet19"], "is neither a preset"),
        (["--set", "classes=4"], "makes it another network than the file's: fc.weight"),
        (["--from", "hff"], "is no naming scheme; did you mean 'hf'?"),
        (["--to", "akamaster"], "has basic blocks only"),
        (["--form", "timm"], "unknown option; did you mean '--from'?"),
    ],
)
def test_an_error_is_one_line(
    tmp_path: Path, capsys: Captured, options: list[str], message: str
) -> None:
    source = foreign(tmp_path / "a.npz", "timm")
    assert message in error(capsys, "convert", source, tmp_path / "b.safetensors", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_file_that_is_not_there_or_no_weights(tmp_path: Path, capsys: Captured) -> None:
    assert "nowhere.pth" in error(capsys, "inspect", tmp_path / "nowhere.pth")
    (tmp_path / "a.txt").write_text("no weights")
    assert "is no weight file of a known kind" in error(capsys, "inspect", tmp_path / "a.txt")
