"""Statistics over seeds, held against scipy.stats and numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_runs import write_run

from resnet_spec.comparing import statistics
from resnet_spec.comparing.statistics import Key, Sample, differences, groups_of, spreads

A, B = [0.91, 0.93, 0.92, 0.90], [0.90, 0.91, 0.92, 0.88]


def runs(out: Path, groups: dict[tuple[str, str], list[float]]) -> list[statistics.Group]:
    results = [
        write_run(out, network, backend, seed, [0.1, accuracy])
        for (network, backend), accuracies in groups.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return groups_of(results)


def test_intervals_and_p_values_are_scipy_s(tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    (it,) = differences(runs(tmp_path, {("a", "torch"): A, ("b", "torch"): B}), "a")
    expected = stats.ttest_rel(B, A)
    assert (it.one, it.other, it.n) == (Key("b", "torch"), Key("a", "torch"), 4)
    assert it.p == pytest.approx(expected.pvalue, rel=1e-9)
    low, high = expected.confidence_interval(0.95)
    assert (it.low, it.high) == pytest.approx((low, high), rel=1e-9)
    assert it.p_holm == it.p, "a single comparison needs no correction"
    unpaired = stats.ttest_ind(B, A).pvalue
    assert it.p < unpaired / 2, "pairing matters here"

    sample = Sample(tuple(A))
    low, high = stats.t.interval(0.95, 3, loc=sample.mean, scale=stats.sem(A))
    assert sample.mean is not None and sample.half_width is not None
    assert sample.mean + sample.half_width == pytest.approx(high, rel=1e-9)
    assert sample.std == pytest.approx(0.01290994448735806), "n - 1 in the denominator"


def test_holm_s_correction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = iter([0.01, 0.04, 0.03])
    monkeypatch.setattr(statistics, "_p_value", lambda sample: next(found))
    groups = runs(tmp_path, {(name, "torch"): A for name in "abc"})
    corrected = [it.p_holm for it in differences(groups, None)]
    # 3 x 0.01; then 2 x 0.03; then 1 x 0.04, which may not be below the one before.
    assert corrected == pytest.approx([0.03, 0.06, 0.06])


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (it,) = differences(runs(tmp_path, {("a", "torch"): [0.9], ("b", "torch"): [0.8]}), None)
    assert it.sample.mean == pytest.approx(-0.1)
    assert it.low is it.high is it.p is it.p_holm is it.sample.std is None


def test_only_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    groups = runs(tmp_path, {("a", "torch"): A[:2], ("b", "torch"): B})
    (it,) = differences(groups, None)
    assert it.sample.values == pytest.approx((-0.01, -0.02))


def test_alike_is_not_significant(tmp_path: Path) -> None:
    shifted = [value + 0.01 for value in A]
    groups = runs(tmp_path, {("a", "x"): A, ("b", "x"): A, ("c", "x"): shifted})
    b, c, _ = differences(groups, None)
    assert (b.low, b.high, b.p) == (0.0, 0.0, None), "no spread: p is not defined"
    assert c.p is None and c.sample.mean == pytest.approx(0.01)


GRID = {(network, backend): A for network in ("a", "b", "c") for backend in ("x", "y")}


@pytest.mark.parametrize(
    ("baseline", "labels"),
    [
        ("b", ["a - b (x)", "a - b (y)", "c - b (x)", "c - b (y)"]),
        ("y", ["x - y (a)", "x - y (b)", "x - y (c)"]),
        ("b/x", ["a - b (x)", "a/y - b/x", "y - x (b)", "c - b (x)", "c/y - b/x"]),
    ],
)
def test_what_a_baseline_is_compared_with(baseline: str, labels: list[str], tmp_path: Path) -> None:
    assert [it.label for it in differences(runs(tmp_path, GRID), baseline)] == labels


def test_without_a_baseline_pairs_differ_in_one_thing(tmp_path: Path) -> None:
    found = differences(runs(tmp_path, GRID), None)
    assert len(found) == 9, "three pairs of networks on two backends, one of backends for each"
    for it in found:
        assert (it.one.network == it.other.network) != (it.one.backend == it.other.backend)


def test_spreads_over_seeds_and_backends(tmp_path: Path) -> None:
    groups = runs(tmp_path, {("a", "x"): [0.90, 0.92], ("a", "y"): [0.91, 0.91], ("b", "x"): A})
    (it,) = spreads(groups)
    assert (it.network, it.backends, it.seeds) == ("a", ("x", "y"), 2)
    # Variances over seeds: 2e-4 and 0; over backends: 5e-5 for either seed.
    assert it.within == pytest.approx(1e-4**0.5) and it.between == pytest.approx(5e-5**0.5)


def test_runs_that_are_not_complete_do_not_count(tmp_path: Path) -> None:
    results = [
        write_run(tmp_path, "a", "x", 0, [0.5, 0.9]),
        write_run(tmp_path, "a", "x", 1, [0.5], state="incomplete"),
        write_run(tmp_path, "a", "x", 2, [0.5], error="the loss became nan"),
    ]
    (group,) = groups_of(results)
    assert group.by_seed() == {0: 0.9}
    assert group.errors == ["seed 2: the loss became nan"]
    assert group.seconds_to(0.5).values == (10.0,) and group.seconds_to(0.95).values == ()


def test_without_scipy_there_are_means_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(statistics, "find_spec", lambda name: None)
    (it,) = differences(runs(tmp_path, {("a", "torch"): A, ("b", "torch"): B}), None)
    assert it.p is None and it.low is None and it.sample.mean == pytest.approx(-0.0125)
