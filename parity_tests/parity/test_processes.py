"""A run in several processes is that of one, by the float64 reference; what it is not is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.cli.main import main
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, SpecError
from resnet_spec.loader import installed_backends
from resnet_spec.parity.processes import compare_processes, recipe_of
from resnet_spec.parity.setup import make_setup
from resnet_spec.planning.lowering import lower
from resnet_spec.reporting.report import Report

NETWORK: dict[str, Any] = {
    "name": "tiny",
    "classes": 3,
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 2}],
    "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
    "dropout": 0.3,
    "stochastic_depth": 0.3,
}
PLANTED = Path(__file__).parent.parent / "backends"
"""Where the program with faults is."""
thorough = pytest.mark.thorough
OVERFLOWED = "rank 0 takes a step that overflowed in another"


def spec() -> Spec:
    return Spec.from_dict(NETWORK)


def report_of(backend: str, counts: tuple[int, ...] = (2,), steps: int = 6, **more: Any) -> Report:
    setup = make_setup(lower(spec()), recipe_of(counts, steps=steps))
    return compare_processes(spec(), backend, counts, setup=setup, **more)


@pytest.mark.parametrize(
    ("backend", "counts"),
    [
        ("torch", (1, 2)),
        pytest.param("torch", (1, 2, 4), marks=thorough),
        pytest.param("flax", (1, 2, 4), marks=thorough),
        pytest.param("mindspore", (1, 2), marks=thorough),
    ],
)
def test_runs_in_processes_are_that_of_one(backend: str, counts: tuple[int, ...]) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    report = report_of(backend, counts, steps=20)
    assert report.verdict == "agree", report.to_dict(details=False)
    assert [row.backend for row in report.rows] == [
        backend if count == 1 else f"{backend} x {count}" for count in counts
    ]
    for row in report.rows:
        assert [item.name for item in row.items] == [
            *("loss", "weights", "statistics", "momentum", "ema")
        ]
        assert any(item.max_rel > 0 for item in row.items)  # Something was computed.
    precision = "float32" if backend == "mindspore" else "float64"
    assert {info["precision"] for info in report.environment.values()} <= {precision, "float64"}
    if precision == "float64":
        assert max(item.max_rel for row in report.rows for item in row.items) < 1e-11


@pytest.mark.parametrize(
    ("backend", "counts"),
    [
        pytest.param("torch", (2,), marks=thorough),
        pytest.param("torch", (4,), marks=thorough),
        pytest.param("flax", (2,), marks=thorough),
    ],
)
def test_sharded_runs_are_that_of_one(backend: str, counts: tuple[int, ...]) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    report = report_of(backend, counts, steps=20, shard=True)
    assert report.verdict == "agree", report.to_dict(details=False)
    assert [row.backend for row in report.rows] == [f"{backend} x {counts[0]}, sharded"]
    errors = [item.max_rel for row in report.rows for item in row.items]
    assert 0 < max(errors) < 1e-11


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
@pytest.mark.parametrize(
    ("fault", "cause", "torn"),
    [
        ("summed", "gradients-summed", []),
        pytest.param("scale", "", [OVERFLOWED], marks=thorough),
        pytest.param("contiguous", "contiguous-shares", [], marks=thorough),
        pytest.param("noise", "noise-repeated", [], marks=thorough),
        pytest.param("replica", "replica-statistics", [], marks=thorough),
        pytest.param("unsent", "", ["rank 1 is apart after the first step"], marks=thorough),
        pytest.param("missed", "", ["rank 1 is apart after the last step"], marks=thorough),
    ],
)
def test_a_fault_of_groups_is_found_and_named(
    fault: str, cause: str, torn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", fault)
    monkeypatch.syspath_prepend(str(PLANTED))
    monkeypatch.setenv("PYTHONPATH", str(PLANTED), prepend=":")
    report = report_of("torch", member="planted_member")
    assert report.verdict == "differ"
    assert [finding.cause for finding in report.findings if finding.cause] == [cause] * bool(cause)
    found = [item.name for item in report.rows[0].items if item.name.startswith("rank")]
    assert found[: len(torn)] == torn


@pytest.mark.parametrize("counts", [(), (0,), (2, 2)])
def test_counts_are_different_numbers(counts: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match=r"--processes = .*: must be different numbers"):
        compare_processes(spec(), "numpy", counts)


def test_a_backend_that_cannot_join_is_refused() -> None:
    with pytest.raises(BackendError, match="backend = numpy: cannot be one of 2 processes"):
        compare_processes(spec(), "numpy", (1, 2))


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_what_cannot_be_sharded_is_refused() -> None:
    with pytest.raises(BackendError, match="--shard: numpy holds all parameters"):
        compare_processes(spec(), "numpy", (1,), shard=True)
    with pytest.raises(BackendError, match="--shard: one process has nothing to share"):
        compare_processes(spec(), "torch", (1,), shard=True)


def test_replicas_differ_by_definition() -> None:
    replica = Spec.from_dict({**NETWORK, "norm": {"sync": "replica"}})
    with pytest.raises(SpecError, match=r"norm.sync = replica: .*; compare with --set"):
        compare_processes(replica, [], (1, 2))


def test_a_batch_can_be_shared_out() -> None:
    assert [recipe_of(counts).batch for counts in ((1,), (1, 2), (1, 2, 4), (2, 3))] == [
        *(4, 8, 16, 12)
    ]
    assert recipe_of((1, 2), batch=9).batch == 12


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(NETWORK))
    line = ["parity", str(tmp_path / "tiny.json"), "--backends", "numpy", "--steps", "3"]
    assert main([*line, "--processes", "1", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["setting"]["processes"] == [1] and told["setting"]["accumulate"] == 2
    assert list(told["backends"]["numpy"]["levels"]) == ["processes"]
    for more, error in (
        (["--processes", "1,x"], "--processes = 1,x: must be numbers with commas, as 1,2"),
        (["--processes", "1,2", "--level", "logits"], "--level: --processes is a level of its own"),
        (["--processes", "0,2"], "--processes = 0,2: must be different numbers from 1 on"),
        (
            ["--processes", "1", "--precision", "bfloat16"],
            "precision = bfloat16: is not one that runs in several processes are compared in",
        ),
        (["--shard"], "--shard: is of runs in several processes; give --processes, too"),
        (["--level", "processes"], "level = processes: is of runs in several processes; give --pr"),
    ):
        assert main([*line, *more]) == 2
        assert capsys.readouterr().err.startswith(f"resnet-spec: error: {error}")
