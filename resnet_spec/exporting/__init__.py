"""A trained network as a file that other programs run: written by a framework, checked, then kept.

The file is read back and run before it gets its name, and its logits are compared with the float64
reference's in multiples of the noise floor, as in a parity report. So is a network that predicts in
an engine, whose file nobody keeps.
"""

from __future__ import annotations

from resnet_spec.exporting.checking import check
from resnet_spec.exporting.engine_session import EngineSession, check_engine, engine_session
from resnet_spec.exporting.exported import LIMIT, Exported
from resnet_spec.exporting.formats import Exporter, Images, format_of, takes
from resnet_spec.exporting.writing import export

__all__ = [
    "LIMIT",
    "EngineSession",
    "Exported",
    "Exporter",
    "Images",
    "check",
    "check_engine",
    "engine_session",
    "export",
    "format_of",
    "takes",
]
