"""Running statistics that fit the network, where drawn ones would let it overflow.

Each block of a residual network adds to its input. Statistics that do not know this let a thousand
layers grow beyond what float32 can hold in evaluation mode; those of a trained network do know.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnet_spec.contract import State
from resnet_spec.ops import Norm
from resnet_spec.parity.kink_choices import normalised
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.planning.dataflow import steps

_LARGEST = 1e30
"""Far below float32's 3e38, for squares and sums are taken of what is this large."""


def within_range(expected: Side) -> Side:
    """Return the reference, with its first batch's own statistics where it would overflow.

    Where nothing is too large it is `expected` itself, with what it has computed.
    """
    setup = expected.setup
    if all(np.max(np.abs(x), initial=0.0) < _LARGEST for x in expected.evaluated.values()):
        return expected
    values = {"input": normalised(setup), **expected.activations}
    state: State = dict(setup.state)
    for step in steps(setup.plan):
        if isinstance(step.node, Norm):
            x = values[step.inputs[0].name]
            state[step.node.running_mean.name] = x.mean((0, 2, 3)).astype(np.float32)
            state[step.node.running_var.name] = x.var((0, 2, 3)).astype(np.float32)
    return reference_of(replace(setup, state=state))
