"""The table of limits stays honest: none far above what was measured, none unexplained."""

from __future__ import annotations

from resnet_spec.parity.levels import LEVELS, OF_GROUPS
from resnet_spec.parity.limits import LIMITS


def test_no_limit_is_more_than_ten_times_what_was_measured() -> None:
    for level, limit in LIMITS.items():
        assert limit.measured < limit.multiples <= 10 * limit.measured, level
        assert limit.reason


def test_every_level_that_is_not_exact_has_a_limit() -> None:
    levels = {**LEVELS, **OF_GROUPS}
    assert LIMITS.keys() == {name for name, level in levels.items() if not level.exact}
