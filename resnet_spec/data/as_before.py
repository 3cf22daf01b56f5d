"""Data that has a validation part of its own, as it was before it had one.

A run goes on, and its weights are looked at, with the parts that it began with: one that was begun
when data had two parts alone (`val/` beside `test/` was tested on or left out), or before somebody
added a third. Which of the parts was tested on, its identity says.
"""

from __future__ import annotations

from dataclasses import replace

from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import Fingerprint, SplitPrint


def as_before(data: Dataset, before: Fingerprint) -> Dataset:
    """Return `data` without its validation part where `before` has none, and with a note on it.

    The test part is then the one that `before` tested on: the validation part where that is it.
    """
    if data.validation is None or "validation" in before.splits:
        return data
    told = "is tested on, as when the run began, and the test part left out"
    test = data.validation
    if SplitPrint.of(test, len(data.classes)) != before.splits.get("test"):
        told = "is left out: the run began without one"
        test = data.test
    note = f"the validation part of {data.name} {told}"
    return replace(data, test=test, validation=None, notes=(*data.notes, note))
