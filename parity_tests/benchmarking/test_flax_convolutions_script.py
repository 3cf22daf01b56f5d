"""Flax's convolutions are measured beside products by a script."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import script

pytest.importorskip("jax")
pytestmark = pytest.mark.xdist_group("flax_networks")


@pytest.fixture(scope="module", name="script")
def made() -> Any:
    return script("flax_convolutions")


def test_each_convolution_has_a_row(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["resnet18:96", "--rounds", "1", "--batch", "1"]) == 0
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in capsys.readouterr().out.splitlines()[2:]
    ]
    names = [name for name, _, _ in cells]
    assert names[0] == "7x7 by 2, 3 to 64 over 96x96" and len(set(names)) == len(names) == 8
    assert all(float(told.split()[0]) > 0 for _, _, told in cells)


def test_both_compute_the_same(script: Any) -> None:
    for op in script.layers_of("resnet18", 96).values():
        one, other = (turn() for turn in script.turns_of(op, 1))
        assert abs(one - other).max() <= 1e-5 * abs(one).max()


def test_a_network_that_there_is_not_is_one_line(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["resnet5:32"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
