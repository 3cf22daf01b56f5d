"""torch's products are measured by a script, layer by layer, beside what it chooses itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
SCRIPT = Path(__file__).parents[2] / "scripts" / "products.py"


@pytest.fixture(scope="module")
def script() -> Any:
    found = importlib.util.spec_from_file_location("products_script", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_each_kind_of_layer_is_measured_and_what_is_chosen_told(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["resnet18:32", "--rounds", "1", "--batch", "1"]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in rows}
    assert [*cells] == [
        "1x1 by 2, 64 to 128 over 8x8",
        "1x1 by 2, 128 to 256 over 4x4",
        "3x3 by 2, 256 to 512 over 2x2",
        "3x3, 512 to 512 over 1x1",
        "1x1 by 2, 256 to 512 over 2x2",
    ]
    for _, batch, ratio, chosen in cells.values():
        assert batch == "1" and float(ratio.split()[0]) > 0 and chosen == "product |"


@pytest.mark.parametrize("text", ["resnet50", "resnet50:", ":32", "resnet50:big"])
def test_what_is_no_case_is_refused(
    script: Any, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        script.main([text])
    assert "NETWORK:SIZE" in capsys.readouterr().err
    assert script.main(["resnet5:32"]) == 1
    assert "resnet50" in capsys.readouterr().err
