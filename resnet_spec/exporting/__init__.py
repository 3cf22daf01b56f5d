"""A trained network as a file that other programs run: written by a framework, checked, then kept.

The file is read back and run before it gets its name, and its logits are compared with the float64
reference's in multiples of the noise floor, as in a parity report.
"""

from __future__ import annotations

from resnet_spec.exporting.checking import check
from resnet_spec.exporting.exported import LIMIT, Exported
from resnet_spec.exporting.formats import Exporter, Images, format_of, takes
from resnet_spec.exporting.writing import export

__all__ = ["LIMIT", "Exported", "Exporter", "Images", "check", "export", "format_of", "takes"]
