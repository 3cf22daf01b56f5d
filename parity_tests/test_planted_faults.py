"""Every check is shown to fail: a planted fault is flagged, located and named; sound nets are not.

All faults on torch and on the reference in float32; on the other backends a few for each mode of
the localiser. `scripts/detection_table.py` plants all of them everywhere.
"""

from __future__ import annotations

from typing import Any

import pytest
from fault_catalogue import FAULTS
from pairs import Pair, floors, pairs, side

from resnet_spec.loader import installed_backends
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.localise import MODES, localise, search
from resnet_spec.parity.verdicts import first_look, judge

# Of few cases, so that a slow compiler compiles little.
CUT = (
    "renamed_tensor",
    "nudged_start",
    "flipped_pad",
    "missing_relu",
    "noise_left_out",
    "no_smoothing",
    "relu_gradient_everywhere",
    "biased_variance",
    "decay_on_norms",
    "decoupled_decay",
)
CUT_CASES = ("plain", "noise")
_THOROUGH = ("numpy", "torch")

# Every other one by default, and not the same ones for both backends that compile long.
_LEFT = {"flax": CUT[::2], "mindspore": CUT[1::2]}


def _marks(backend: str, name: str) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.xdist_group(FAULTS[name].case)]
    return [*marks, pytest.mark.thorough] if name in _LEFT.get(backend, ()) else marks


CELLS = [
    pytest.param(backend, name, marks=_marks(backend, name))
    for backend in installed_backends()
    for name in (FAULTS if backend in _THOROUGH else CUT)
    if FAULTS[name].suits(backend)
]


@pytest.mark.parametrize(("backend", "name"), CELLS)
def test_a_fault_is_flagged_located_and_named(backend: str, name: str) -> None:
    fault = FAULTS[name]
    judged_by = floors(fault.case, "float32")
    faulty = fault.plant(backend, judged_by.expected.setup)
    row = judge(fault.level, faulty, judged_by)
    assert row.verdict == "different", f"{name} passes: {row.worst}"
    healthy = first_look(fault.level, side(fault.case, backend, "float32"), judged_by)
    assert not healthy.is_wrong
    found = localise(faulty, judged_by, [fault.level])
    if fault.node:
        assert found and found[0].node == fault.node, found
    if fault.causes:
        assert found[0].cause in fault.causes, found
    elif fault.node:
        assert not found[0].cause, "a cause is named that was not planted"


def _sound(pair: Pair) -> Any:
    # In float64 a few cases show what the others show in float32. MindSpore's tests of numbers
    # have noise in a network of their own.
    is_repeated = pair.precision == "float64" and pair.case not in CUT_CASES
    is_repeated |= (pair.backend, pair.case) == ("mindspore", "noise")
    marks = [pytest.mark.xdist_group(pair.case)]
    return pytest.param(pair, marks=[*marks, pytest.mark.thorough] if is_repeated else marks)


SOUND = [
    _sound(pair)
    for pair in pairs()
    if pair.backend in _THOROUGH or (pair.case in CUT_CASES and pair.precision == "float32")
]


@pytest.mark.parametrize("sound", SOUND, ids=str)
def test_no_node_of_a_sound_network_is_wrong(sound: Pair) -> None:
    for mode in MODES:
        assert search(mode, sound.got, sound.floors) is None


def test_the_catalogue_is_large_and_covers_every_level() -> None:
    assert len(FAULTS) >= 60
    planted = {fault.level for fault in FAULTS.values()}
    assert planted == set(LEVELS) - {"accuracy"}
    assert {FAULTS[name].level for name in CUT} >= {"names", "logits", "gradients", "statistics"}
