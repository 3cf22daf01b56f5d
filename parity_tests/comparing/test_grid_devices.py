"""What a grid asks before it writes: its device, and whose its folders are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spec.cli.main import main
from resnet_spec.comparing.devices import check_device
from resnet_spec.errors import BackendError

COMPARE = [
    "compare",
    "--specs",
    "tiny.toml",
    "--backends",
    "numpy",
    "--seeds",
    "0",
    "--out",
    "grid",
]
SHORT = ["--set", "steps=1", "--set", "batch=700", "--input-size", "8"]


def test_a_device_that_is_not_there_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, *SHORT, "--device", "cdua"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("resnet-spec: error: numpy: device = cdua: ") and said.count("\n") == 1
    assert not (here / "grid").exists()


def test_every_backend_s_word_is_said_and_auto_is_not_asked_for() -> None:
    with pytest.raises(BackendError) as caught:
        check_device("cdua", ["numpy", "numpy"])
    assert len(caught.value.problems) == 1 and caught.value.problems[0].startswith("numpy: device")
    check_device("auto", ["nowhere"])
    check_device("cpu", ["numpy"])


def test_a_cell_that_only_failed_is_run_anew_with_other_settings(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "grid" / "runs" / "tiny-numpy-seed0"
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps({"network": "tiny", "device": "cdua"}))
    (folder / "failure.json").write_text(json.dumps({"error": "no such device", "status": 2}))
    assert main([*COMPARE, *SHORT, "--device", "cpu"]) == 0, capsys.readouterr().err
    assert (folder / "last.safetensors").is_file() and not (folder / "failure.json").exists()
    assert json.loads((folder / "cell.json").read_text())["device"] == "cpu"


def test_a_run_s_own_folder_takes_no_comparison(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "grid").mkdir()
    (here / "grid" / "best.safetensors").write_bytes(b"weights")
    assert main([*COMPARE, *SHORT]) == 2
    assert "--out = grid: holds a run; name a folder for the comparison" in capsys.readouterr().err
    assert [path.name for path in (here / "grid").iterdir()] == ["best.safetensors"]
