"""The arithmetic of scripts/measure_drift.py: distances, pairs, nudges and growth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from resnet_spec.contract import Precision, Session
from resnet_spec.errors import DataError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import measure_drift as drift  # pyright: ignore[reportMissingImports]


def run(backend: str, precision: Precision = "float32", nudge: int = 0) -> drift.Run:
    return drift.Run(backend, precision, nudge, cast(Session, None), {}, 10)


def test_distances_are_those_of_all_tensors_together() -> None:
    a = {"x": np.array([3.0, 0.0]), "y": np.array([[4.0]]), "z": np.array([9.0])}
    b = {"x": np.array([0.0, 0.0]), "y": np.array([[2.0]]), "z": np.array([1.0])}
    assert drift.relative(a, b, ["x", "y"]) == pytest.approx(np.sqrt(9 + 4) / 2)
    assert drift.relative(b, b, ["x", "y"]) == 0.0
    assert drift.relative(a, b, []) == 0.0


def test_distances_are_taken_in_float64() -> None:
    b = {"x": np.ones(1, np.float32)}
    a = {"x": np.nextafter(b["x"], np.float32(2))}
    assert drift.relative(a, b, ["x"]) == 2.0**-23


def test_backends_are_paired_within_a_precision_and_with_the_reference() -> None:
    cells: list[tuple[str, Precision]] = [("a", "float32"), ("b", "float32"), ("a", "float64")]
    runs = [run(backend, precision, nudge) for backend, precision in cells for nudge in (0, 1, 2)]
    pairs = drift.compared([*runs, run("numpy", "float64")])
    assert list(pairs) == [
        "a from b float32",
        "a float32 from numpy float64",
        "b float32 from numpy float64",
        "a float64 from numpy float64",
        "a float32, one ulp",
        "b float32, one ulp",
        "a float64, one ulp",
    ]
    assert [[r.nudge for r in pair] for pair in pairs["b float32, one ulp"]] == [[1, 0], [2, 0]]
    ((first, second),) = pairs["a from b float32"]
    assert (first, second) == (runs[0], runs[3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nudge_is_one_ulp_in_the_session_s_precision(dtype: Any) -> None:
    state = {"w": np.linspace(-2, 2, 101, dtype=np.float32), "b": np.zeros(3, np.float32)}
    moved = drift.nudged(state, dtype, seed=1)
    base = state["w"].astype(dtype)
    assert moved["w"].dtype == dtype
    ulps = (moved["w"] - base)[base != 0] / np.abs(np.spacing(base[base != 0]))
    assert set(ulps.tolist()) == {-1.0, 1.0}
    assert not moved["b"].any() and moved["w"][50] == 0
    assert not np.array_equal(moved["w"], drift.nudged(state, dtype, seed=2)["w"])


def test_marks_end_with_the_last_step() -> None:
    assert drift.marks_up_to(200) == [1, 2, 5, 10, 20, 50, 100, 150, 200]
    assert drift.marks_up_to(7) == [1, 2, 5, 7]
    assert drift.marks_up_to(1) == [1]


def test_the_power_of_the_growth() -> None:
    steps = [1, 2, 5, 10]
    assert drift.exponent(steps, [1e-8 * s**3 for s in steps]) == pytest.approx(3.0)
    assert drift.exponent([1, 2, 5], [0.0, 4.0, 25.0]) == pytest.approx(2.0)
    assert np.isnan(drift.exponent([1, 2], [0.0, 1.0]))


def test_the_largest_of_each_quantity() -> None:
    found = [drift.Distance(1.0, 5.0, 3.0), drift.Distance(2.0, 4.0, 6.0)]
    assert drift.largest(found) == drift.Distance(2.0, 5.0, 6.0)


def test_own_drifts_are_the_larger_of_the_two() -> None:
    def rows(*values: float) -> dict[str, list[float]]:
        return {quantity: list(values) for quantity in drift.QUANTITIES}

    pairs = {"a from b": rows(1.0, 6.0), "a, one ulp": rows(9.0, 2.0), "b, one ulp": rows(9.0, 3.0)}
    own = {"a from b": ["a, one ulp", "b, one ulp"], "a, one ulp": ["a, one ulp", "a, one ulp"]}
    result = {"pairs": pairs, "own": own}
    assert drift.own_drifts(result, "a from b", "loss") == "2.0"
    assert drift.own_drifts(result, "a, one ulp", "loss") == ""


def a_result() -> dict[str, Any]:
    def rows(*values: float) -> dict[str, list[float]]:
        return {quantity: list(values) for quantity in drift.QUANTITIES}

    pairs = {
        "a from b float32": rows(1e-7, 0.0, 3e-5),
        "a float32 from numpy float64": rows(1e-7, 2e-6),
        "a float32, one ulp": rows(2e-7, 1e-6, 4e-5),
        "a float64, one ulp": rows(0.0, 1e-16, 2e-16),
    }
    title = "net on data, 8 x 8 pixels"
    return {"title": title, "steps": [1, 2, 5], "pairs": pairs, "own": {}, "environment": {}}


def test_a_page_s_numbers_are_read_back(tmp_path: Path) -> None:
    result = a_result()
    page = tmp_path / "drift.md"
    own = {label: [] for label in result["pairs"]}
    page.write_text("\n".join(["# Title", "", *drift.page(result | {"own": own})]))
    found = drift.read_page(page)
    assert found["title"] == result["title"] and found["steps"] == result["steps"]
    assert found["pairs"] == result["pairs"]
    page.write_text("# Title\n")
    with pytest.raises(DataError, match="has no table of relative differences of the loss"):
        drift.read_page(page)


def test_the_picture_has_a_row_per_precision_and_no_line_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drift.draw(a_result(), tmp_path / "drift")
    svg = (tmp_path / "drift.svg").read_text()
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert svg.count("<!-- float32 -->") == svg.count("<!-- float64 -->") == 1
    assert svg.count("<!-- a from b -->") == svg.count("a from the reference (numpy)") == 1


def test_the_page_s_picture_can_be_drawn_from_its_numbers() -> None:
    found = drift.read_page(Path(__file__).parents[2] / "docs" / "drift.md")
    assert len(found["pairs"]) == 14 and found["steps"][-1] == 200
    assert found["title"].startswith("resnet20_cifar on cifar10")
