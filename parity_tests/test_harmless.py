"""What must not matter does not: no level and no search of the localiser calls it wrong."""

from __future__ import annotations

from itertools import product

import pytest
from harmless import HARMLESS
from pairs import floors

from resnet_spec.loader import installed_backends
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.localise import MODES, search
from resnet_spec.parity.verdicts import judge

_THOROUGH = ("numpy", "torch")
# Elsewhere, those of the framework alone and two more: every session is compiled anew.
CUT = ("evaluation_batch_split", "channels_permuted")
_SLOW = ("without_jit",)  # A quarter of a minute: left to scripts/detection_table.py.

# Half a minute, or a quarter: when thorough.
_THOROUGH_ONLY = {("torch", "torch_compile"), *product(("flax", "mindspore"), CUT[1:])}
_THOROUGH_ONLY |= {("mindspore", CUT[0]), ("flax", CUT[0])}
_THOROUGH_ONLY |= {("flax", "lax_for_products"), ("mindspore", "pynative_for_graphs")}


def _marks(backend: str, name: str) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.xdist_group(HARMLESS[name].case)]
    return [*marks, pytest.mark.thorough] if (backend, name) in _THOROUGH_ONLY else marks


CELLS = [
    pytest.param(backend, name, marks=_marks(backend, name))
    for backend in installed_backends()
    for name in HARMLESS
    if HARMLESS[name].suits(backend)
    and name not in _SLOW
    and (backend in _THOROUGH or name in CUT or HARMLESS[name].backends)
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports dynamo.
@pytest.mark.parametrize(("backend", "name"), CELLS)
def test_no_alarm(backend: str, name: str) -> None:
    variation = HARMLESS[name]
    judged_by = floors(variation.case, "float32")
    setup = judged_by.expected.setup
    obstacle = variation.obstacle(backend, setup)
    if obstacle:
        pytest.skip(obstacle)
    with variation.around():
        side = variation.side(backend, setup)
        rows = [judge(level, side, judged_by) for level in LEVELS if level != "accuracy"]
        wrong = {row.level: (row.verdict, row.worst) for row in rows if row.is_wrong}
        assert not wrong
        assert not [found for mode in MODES if (found := search(mode, side, judged_by))]


def test_the_catalogue_is_large() -> None:
    assert len(HARMLESS) >= 10
