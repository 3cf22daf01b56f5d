"""What `train` shows from Python: nothing in a script, lines when asked, a table in a notebook."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import resnet_spec
from resnet_spec.running import progress
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Position

TINY: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
SETTINGS = ("epochs=2", "batch=512")


def test_a_script_hears_nothing_unless_it_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "a")
    assert capsys.readouterr() == ("", "")
    resnet_spec.train(TINY, "numpy", settings=SETTINGS, out=tmp_path / "b", progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert any("becomes 16, as in digits" in line for line in lines)
    assert [line[:23] for line in lines[-2:]] == [
        "epoch 1/2  train loss 2",
        "epoch 2/2  train loss 2",
    ]
    assert "test loss" in lines[-1] and lines[-1].endswith("images/s")


def test_an_own_watch_and_an_own_ear_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    class Watch:
        def chunk(self, position: Position, speed: float) -> None:
            said.append(f"step {position.step}")

        def epoch(self, epoch: Epoch) -> None:
            said.append(f"epoch {epoch.epoch}")

    out = tmp_path / "a"
    resnet_spec.train(
        TINY, "numpy", settings=SETTINGS, out=out, watch=Watch(), say=said.append, progress=True
    )
    assert {"step 4", "epoch 1", "epoch 2"} < {*said}
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert any("becomes 16" in line for line in said)


def test_a_person_at_a_prompt_is_shown_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress.is_wanted(None) and progress.is_wanted(True)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert progress.is_wanted(None) and not progress.is_wanted(False)


def test_an_epoch_in_a_line() -> None:
    fields = {"epoch": 3, "step": 9, "rate": 0.1, "train_loss": 1.5, "train_accuracy": 0.25}
    tested = {"test_loss": None, "test_accuracy": None}
    bare = Epoch(**fields, **tested, images_per_second=7.4, wall_s=1.0)  # pyright: ignore
    assert progress.epoch_line(bare, 12) == (
        "epoch  3/12  train loss 1.5000, accuracy 0.2500  7 images/s"
    )
    lost = replace(bare, test_not_finite=5)
    assert "test: no accuracy, logits not finite on 5 images" in progress.epoch_line(lost, 12)


CELLS = (
    "import resnet_spec",
    f"summary = resnet_spec.train({TINY!r}, 'numpy', settings={SETTINGS!r}, out='run')",
    "summary",
    f"resnet_spec.train({TINY!r}, 'numpy', settings='steps=1', out='quiet', progress=False)\n0",
)


def test_a_notebook_shows_a_table_that_grows(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    nbclient.NotebookClient(
        made, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    _, trained, result, quiet = (cell["outputs"] for cell in made.cells)
    stream, table = trained
    assert "becomes 16, as in digits" in stream["text"]
    assert table["output_type"] == "display_data"
    html, text = table["data"]["text/html"], table["data"]["text/plain"]
    assert html.count("<tr>") == 3 and "<td>2/2</td>" in html and "<progress" not in html
    assert text.count("\n") == 1 and text.startswith("epoch 1/2  train loss")
    assert "tiny on digits" in result[0]["data"]["text/html"]
    assert "final test accuracy" in result[0]["data"]["text/plain"]
    assert [output["output_type"] for output in quiet] == ["execute_result"]
