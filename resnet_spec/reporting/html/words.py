"""Verdicts in words and signs, for readers who tell no colours apart or read black on white."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from resnet_spec.printing.markup import times
from resnet_spec.reporting.report import SEVERITY, Report, Row, Verdict

SIGNS: dict[Verdict, str] = {
    "equal": "=",
    "rounding": "≈",
    "suspect": "!",
    "different": "≠",
    "undecided": "?",
}

MEANINGS: dict[Verdict, str] = {
    "equal": "no error, bit by bit",
    "rounding": "an error that rounding makes",
    "suspect": "above what rounding makes, less than ten times so",
    "different": "a real error",
    "undecided": "not compared, or not comparable",
}

_BANNERS = {
    "agree": ("They agree", "Every difference is one that rounding makes."),
    "suspect": (
        "Suspect",
        "Some errors are larger than rounding makes them, but less than ten times so.",
    ),
    "differ": ("They differ", "At least one error is real: rounding does not explain it."),
    "undecided": ("Undecided", "Nothing compared differs, but something could not be compared."),
}


def banner(report: Report) -> tuple[str, str]:
    """Return the verdict in two or three words, and in a sentence."""
    if not report.rows:
        return "Nothing was compared", "The report has no rows."
    title, sentence = _BANNERS[report.verdict]
    if all(row.verdict == "equal" for row in report.rows):
        sentence = "Nothing differs at all, to the last bit."
    return title, sentence


def counted(rows: Sequence[Row]) -> str:
    """Return how many rows there are of each verdict, the worst first."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in SEVERITY if counts[verdict])


def summary(row: Row) -> str:
    """Return a row's worst item in words, "" where there is none that is off."""
    worst = row.worst
    if not worst.name or worst.verdict == "equal":
        return ""
    if worst.floor == 0:
        return f"worst: {worst.name}, where nothing may differ"
    if not math.isfinite(worst.floor_multiples):
        return f"worst: {worst.name}, infinitely far off"
    return f"worst: {worst.name}, {times(worst.floor_multiples)} × its floor"
