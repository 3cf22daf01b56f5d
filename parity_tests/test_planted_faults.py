"""Every check is shown to fail: a planted fault turns its level red, and the next ones stay green.

All faults on torch and on the reference in float32; on the other backends one for each level.
"""

from __future__ import annotations

import pytest
from faults import FAULTS
from pairs import floors, side

from resnet_spec.loader import installed_backends
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.side import Side
from resnet_spec.parity.verdicts import first_look, judge

# One per level, of few cases, so that a slow compiler compiles little.
_ONE_PER_LEVEL = (
    "renamed_tensor",
    "nudged_start",
    "perturbed_input",
    "expansion",
    "missing_block",
    "flipped_pad",
    "missing_relu_in_training",
    "no_smoothing",
    "biased_variance",
    "decay_on_norms",
    "nesterov",
)
_THOROUGH = ("numpy", "torch")

CELLS = [
    pytest.param(backend, name, marks=pytest.mark.xdist_group(FAULTS[name].case))
    for backend in installed_backends()
    for name in (FAULTS if backend in _THOROUGH else _ONE_PER_LEVEL)
]


@pytest.mark.parametrize(("backend", "name"), CELLS)
def test_a_fault_is_caught(backend: str, name: str) -> None:
    fault = FAULTS[name]
    judged_by = floors(fault.case, "float32")
    faulty = Side(backend, fault.change(judged_by.expected.setup))
    row = judge(fault.level, faulty, judged_by)
    assert row.verdict == "different", f"{name} passes: {row.worst}"
    healthy = first_look(fault.level, side(fault.case, backend, "float32"), judged_by)
    assert not healthy.is_wrong


def test_every_level_has_a_fault() -> None:
    assert {FAULTS[name].level for name in _ONE_PER_LEVEL} == set(LEVELS) - {"accuracy"}
