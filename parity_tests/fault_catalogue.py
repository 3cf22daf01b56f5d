"""The catalogue of planted faults.

Most change the setup that one side is given, and suit every backend; the others are written in the
framework's own code. A cause is a set where two of them are the same arithmetic.
"""

from __future__ import annotations

import numpy as np
from changes import (
    lowered_from,
    one_ulp,
    renamed,
    weights,
)
from faults_forward import FORWARD
from faults_training import TRAINING
from planted import Fault

_SMALLER = [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]

STATE: dict[str, Fault] = {
    # --- names, shapes, counts, first weights ---
    "renamed_tensor": Fault("names", "bottleneck", renamed),
    "expansion": Fault("shapes", "projection_all", lowered_from(expansion=3), "layer1.0.conv3"),
    "missing_block": Fault(
        "counts", "imagenet_stem", lowered_from(stages=_SMALLER), "layer1.1.add", ("body missing",)
    ),
    "nudged_start": Fault("init", "plain", weights("conv1.weight", one_ulp)),
    "last_norm_starts_at_one": Fault(
        "init",
        "zero_init",
        weights("layer2.0.bn3.weight", np.ones_like),
        "layer2.0.bn3",
        ("last-norm zero init",),
    ),
    "last_norm_starts_at_zero": Fault(
        "init",
        "bottleneck",
        weights("layer1.0.bn3.weight", np.zeros_like),
        "layer1.0.bn3",
        ("last-norm zero init",),
    ),
}


FAULTS = STATE | FORWARD | TRAINING
