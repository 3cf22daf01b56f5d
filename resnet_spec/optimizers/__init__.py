"""Optimisers as data: what a person sets, what each keeps from step to step, and its equation."""

from resnet_spec.optimizers.clipping import SHORTEST_UNIT, by_units, clipped
from resnet_spec.optimizers.rows import Equation, Row, Slot
from resnet_spec.optimizers.settings import OWN, Settings
from resnet_spec.optimizers.table import (
    CLIPS,
    OPTIMIZERS,
    Optimizer,
    known_slots,
    native_of,
    row_of,
    slots_of,
)

__all__ = [
    "CLIPS",
    "OPTIMIZERS",
    "OWN",
    "SHORTEST_UNIT",
    "Equation",
    "Optimizer",
    "Row",
    "Settings",
    "Slot",
    "by_units",
    "clipped",
    "known_slots",
    "native_of",
    "row_of",
    "slots_of",
]
