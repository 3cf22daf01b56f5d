"""What a comparison came to as tables of texts: for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resnet_spec.comparing.comparison import Comparison
from resnet_spec.comparing.number_text import duration, number, percent, points, signed_points
from resnet_spec.comparing.statistics import Difference, Group, Sample, Spread, has_scipy
from resnet_spec.printing.columns import Column, fitted, hanging
from resnet_spec.running.measures import BINS
from resnet_spec.running.metrics import TEST, VALIDATION


@dataclass(frozen=True)
class Table:
    """A table of texts; `left` columns are aligned to the left, the rest to the right.

    notes: what a reader must know to read it, a sentence each. figures: of `drawing`, by name,
    that show the same.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    notes: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    def text(self, width: int | None = None) -> str:
        """Return the table in plain text, in lines of `width`.

        Names and words may be shortened; the numbers at the right go first where they have no room.
        """
        columns = [
            Column(
                head,
                right=place >= self.left,
                least=10 if place < self.left else 0,
                drop=len(self.heads) - place if place > self.left else 0,
            )
            for place, head in enumerate(self.heads)
        ]
        lines = fitted(columns, self.rows, width)
        told = (line for note in self._told("") for line in hanging("", note, width))
        return "\n".join([self.title, "", *lines, *told])

    def markdown(self) -> str:
        """Return the table in Markdown."""
        rule = ["---"] * self.left + ["---:"] * (len(self.heads) - self.left)
        lines = [_line(self.heads), _line(rule), *map(_line, self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *self._told("")])

    def _told(self, before: str) -> list[str]:
        return ["", *(f"{before}{note}" for note in self.notes)] if self.notes else []


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def tables_of(comparison: Comparison) -> list[Table]:
    """Return accuracy, failures, differences, spreads and cost, those that there are."""
    groups = comparison.groups
    found = [_accuracy(groups), *_measures(groups)]
    failed = tuple((*group.key, error) for group in groups for error in group.errors)
    if failed:
        found.append(Table("Runs that failed", ("network", "backend", "why"), failed, 3))
    if comparison.differences:
        found.append(_differences(comparison.differences))
    if comparison.spreads:
        found.append(_spreads(comparison.spreads))
    return [*found, _cost(groups, comparison.target)]


def _accuracy(groups: Sequence[Group]) -> Table:
    by = _judged_by(groups)
    rows = tuple(_accuracy_row(group, by) for group in groups)
    notes = ["Mean and standard deviation over n seeds (n - 1), of the last epoch."]
    notes += [_BEST[split][1] for split in by]
    notes.append("train: of augmented images, by the weights as they were during the epoch.")
    if any(0 < len(group.complete) < 2 for group in groups):
        notes.append("n = 1: no standard deviation, no interval.")
    if any(len(group.complete) < len(group.results) for group in groups):
        notes.append("n of m: the other runs are not complete, and are not counted.")
    best = (_BEST[split][0] for split in by)
    heads = ("network", "backend", "n", "test accuracy", *best, "test error %", "train error %")
    return Table("Accuracy", (*heads, "train loss"), rows, 2, tuple(notes), ("curves", "accuracy"))


_BEST = {
    TEST: (
        "best of test",
        "best of test: the highest of any epoch and seed, chosen with the test images.",
    ),
    VALIDATION: (
        "by validation",
        "by validation: test accuracy of the epoch with the highest validation accuracy; the test "
        "images were looked at once, at the end.",
    ),
}
"""By which images the best epoch is chosen: its column, and what a reader must know of it."""


def _judged_by(groups: Sequence[Group]) -> list[str]:
    """Return the images by which best epochs were chosen; test where none is known."""
    found = {split for group in groups for split in group.judged_by}
    return [split for split in _BEST if split in found] or [TEST]


def _best(group: Group, split: str) -> str:
    if split not in group.judged_by:
        return "-"
    if split == VALIDATION:
        return _with_std(group.sample("best_test_accuracy"), 4)
    best = group.sample("best_accuracy").values
    return f"{max(best):.4f}" if best else "-"


def _accuracy_row(group: Group, judged_by: Sequence[str]) -> tuple[str, ...]:
    accuracy = group.sample("final_accuracy")
    done, all_runs = len(group.complete), len(group.results)
    return (
        *group.key,
        str(done) if done == all_runs else f"{done} of {all_runs}",
        _with_std(accuracy, 4),
        *(_best(group, split) for split in judged_by),
        percent(accuracy),
        percent(group.train_accuracy),
        _with_std(group.sample("final_loss"), 4),
    )


def _measures(groups: Sequence[Group]) -> Iterator[Table]:
    """Yield top-5 accuracy and calibration, where a run knows them: runs of before do not."""
    errors = [group.sample("final_calibration_error") for group in groups]
    tops = [group.sample("final_top5_accuracy") for group in groups]
    if not any(sample.values for sample in errors):
        return
    has_top = any(sample.values for sample in tops)
    heads = ("network", "backend", *(["top-5 accuracy"] if has_top else []), "calibration error")
    rows = tuple(
        (*group.key, *([_with_std(top, 4)] if has_top else []), _with_std(error, 4))
        for group, top, error in zip(groups, tops, errors, strict=True)
    )
    bins = f"{BINS} bins of equal width, Guo et al. 2017"
    note = f"Of the test images, by the last weights. calibration error: expected, {bins}."
    yield Table("Top-5 and calibration", heads, rows, 2, (note,))


def _cost(groups: Sequence[Group], target: float | None) -> Table:
    heads = ["network", "backend", "images/s", "compile s", "memory MB", "wall", "jobs x threads"]
    notes = [
        "images/s: training alone, without the first step.",
        "compile s: the first step's time less a mean later step's.",
        "memory: the most main memory of the whole process, data and framework included.",
        "wall: training and evaluation.",
    ]
    if target is not None:
        heads.insert(5, f"to {target:g}")
        judged = " or ".join(_judged_by(groups))
        notes.append(f"to {target:g}: time until the {judged} accuracy was that at an epoch's end.")
    shares = {share for group in groups for share in _shares(group)}
    if len(shares) > 1:
        notes.append("jobs x threads differ: speeds and times do not compare.")
    rows = tuple(_cost_row(group, target) for group in groups)
    return Table("Cost", tuple(heads), rows, 2, tuple(notes), ("cost",))


def _cost_row(group: Group, target: float | None) -> tuple[str, ...]:
    to_target = [] if target is None else [_time_to(group, target)]
    wall = group.sample("wall_s")
    return (
        *group.key,
        _with_std(group.speed, 0),
        _with_std(group.sample("compile_s"), 1),
        number(group.sample("peak_memory_mb").mean, 0),
        *to_target,
        duration(wall.mean),
        ", ".join(sorted(_shares(group))) or "-",
    )


def _shares(group: Group) -> set[str]:
    cells = [result.cell for result in group.complete]
    return {f"{c['jobs']} x {c['threads']}" for c in cells if "jobs" in c and "threads" in c}


def _time_to(group: Group, target: float) -> str:
    reached = group.seconds_to(target)
    if not group.complete:
        return "-"
    if not reached.values:
        return "not reached"
    of = f" ({len(reached.values)} of {len(group.complete)})"
    is_all = len(reached.values) == len(group.complete)
    return f"{duration(reached.mean)}{'' if is_all else of}"


def _differences(found: Sequence[Difference]) -> Table:
    heads = ("difference in final test accuracy", "n", "points", "95 % interval", "p", "p (Holm)")
    rows = tuple(_difference_row(difference) for difference in found)
    return Table("Differences", heads, rows, 1, tuple(_difference_notes(found)))


def _difference_row(it: Difference) -> tuple[str, ...]:
    return (
        it.label,
        str(it.n),
        signed_points(it.sample.mean),
        _interval(it),
        _p(it.p),
        _p(it.p_holm),
    )


def _interval(it: Difference) -> str:
    """Return both ends with as many digits as tell them apart, or why there is no interval."""
    if it.n == 1:
        return "n = 1: no interval"
    if it.low is None or it.high is None:
        return "-"
    if it.sample.std == 0:
        return f"{'both' if it.n == 2 else f'all {it.n}'} seeds alike: no interval"
    ends = ((signed_points(it.low, n), signed_points(it.high, n)) for n in range(2, 13))
    low, high = next(((low, high) for low, high in ends if low != high), ("-", "-"))
    return f"{low} to {high}"


def _difference_notes(found: Sequence[Difference]) -> Iterator[str]:
    yield "Points are percentage points, paired over seeds: equal seeds see equal batches."
    if not has_scipy():
        yield "No intervals: scipy is not installed; run: pip install 'resnet-spec[compare]'."
        return
    if any(it.n > 1 for it in found):
        tests = sum(it.p is not None for it in found)
        yield "Intervals and p are of a two-sided paired t-test, which takes differences as normal."
        yield f"p (Holm) is corrected for {tests} comparison{'s' * (tests != 1)}."
    if any(it.n > 1 and it.p is None for it in found):
        yield (
            "p is not defined where all seeds differ by the very same amount, nor is an interval: "
            "seeds without a spread say nothing of the next one."
        )


def _spreads(found: Sequence[Spread]) -> Table:
    heads = ("network", "backends", "seeds", "over seeds", "over backends")
    rows = tuple(
        (
            it.network,
            ", ".join(it.backends),
            str(it.seeds),
            points(it.within),
            points(it.between),
        )
        for it in found
    )
    notes = (
        "Standard deviations of the final test accuracy in percentage points: over seeds within a "
        "backend, pooled over backends; over backends at equal seeds, pooled over seeds.",
    )
    return Table("Spread", heads, rows, 2, notes)


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def _with_std(sample: Sample, digits: int) -> str:
    if sample.mean is None:
        return "-"
    mean = f"{sample.mean:.{digits}f}"
    return mean if sample.std is None else f"{mean} ± {sample.std:.{digits}f}"
