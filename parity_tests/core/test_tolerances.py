"""The table of tolerances stays honest: no limit far above what was measured, none unexplained."""

from __future__ import annotations

from resnet_spec.contract import Precision
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.tolerances import REASONS, TOLERANCES, tolerance

PRECISIONS: tuple[Precision, ...] = ("float32", "float64")
INEXACT = [name for name, level in LEVELS.items() if not level.exact]


def test_no_limit_is_more_than_ten_times_what_was_measured() -> None:
    for key, entry in TOLERANCES.items():
        assert entry.measured < entry.limit <= 10 * entry.measured, key


def test_every_level_has_an_entry_for_every_backend_and_a_reason() -> None:
    wanted = {
        (level, backend, precision)
        for level in INEXACT
        for backend in installed_backends()
        for precision in PRECISIONS
        if precision in load_backend(backend).PRECISIONS
    } - {(level, "numpy", "float64") for level in INEXACT}  # It is what the others are judged by.
    assert wanted <= TOLERANCES.keys()
    assert REASONS.keys() == set(INEXACT)


def test_a_stranger_gets_the_widest_of_ours() -> None:
    limits = [tolerance("gradients", b, "float32") for b in ("numpy", "torch", "flax", "mindspore")]
    assert tolerance("gradients", "theirs", "float32") == max(limits)
