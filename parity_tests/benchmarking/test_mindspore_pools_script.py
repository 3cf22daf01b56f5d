"""MindSpore's max-pools are measured by a script, side by side."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import script

pytest.importorskip("mindspore")
pytestmark = pytest.mark.xdist_group("mindspore_pools")


@pytest.fixture(scope="module", name="script")
def made() -> Any:
    return script("mindspore_pools")


def test_each_pool_has_a_row(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["resnet18:32", "resnet20_cifar:32", "--rounds", "1", "--batch", "1"]) == 0
    _, _, row = capsys.readouterr().out.splitlines()
    name, batch, forwards, gradients = (cell.strip() for cell in row.split("|")[1:-1])
    assert (name, batch) == ("3x3 by 2, 64 over 16x16", "1")
    assert all(float(told.split()[0]) > 0 for told in (forwards, gradients))


def test_a_network_that_there_is_not_is_one_line(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["resnet5:32"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
