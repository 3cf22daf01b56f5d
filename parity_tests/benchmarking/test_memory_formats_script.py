"""torch's step in both memory formats is measured by a script, beside what the rule chooses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from bench_cases import OTHER, OURS, measured, result

from resnet_spec.errors import BackendError

pytest.importorskip("torch")
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # The script adds to it.
    import memory_formats  # pyright: ignore[reportMissingImports]

    return memory_formats


def test_a_row_has_the_ratio_with_its_quartiles(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = (measured(OURS, 0.2, 0.2, 0.2), measured(OTHER, 0.4, 0.5, 0.6))
    monkeypatch.setattr(script, "measure", lambda asked, entries: result(*turns))
    assert script.main(["--only", "resnet20"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| training | contiguous / channels_last | maps / kernels | chosen |"
    _, case, ratio, maps, chosen, _ = (cell.strip() for cell in row.split("|"))
    assert (case, ratio) == ("resnet20_cifar, 32 px, batch 128", "2.50 (2.25 to 2.75)")
    assert float(maps) > 1 and chosen in script.FORMATS


def test_what_cannot_be_measured_is_one_line(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(asked: Any, entries: Any) -> Any:
        raise BackendError("torch: is not installed")

    monkeypatch.setattr(script, "measure", refused)
    assert script.main(["--only", "resnet20"]) == 1
    assert capsys.readouterr().err == "torch: is not installed\n"
