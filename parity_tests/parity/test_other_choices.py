"""What a side's choices are read from, and statistics for networks that overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import CASES

from resnet_spec.ops import MaxPool, Norm
from resnet_spec.parity.calibrate import within_range
from resnet_spec.parity.kink_choices import choices_of, normalised
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.planning.dataflow import steps


def test_a_pool_whose_input_is_not_shown_chooses_as_the_reference() -> None:
    setup = make_setup(CASES["imagenet_stem"].plan, make_recipe(1, 2))
    outputs, images = reference_of(setup).activations, normalised(setup)
    (pool,) = (step for step in steps(setup.plan) if isinstance(step.node, MaxPool))
    source = pool.inputs[0].name

    def chosen(shown: dict[str, np.ndarray]) -> set[str]:
        return set(choices_of(setup.plan, shown, outputs, lambda name: 0.0, images).made)

    every = chosen(dict(outputs))
    assert pool.node.name in every
    hidden = {name: array for name, array in outputs.items() if name != source}
    cropped = {**outputs, source: outputs[source][:, :, :-1]}
    assert chosen(hidden) == every - {pool.node.name, source}
    assert pool.node.name not in chosen(cropped)


def test_statistics_that_let_a_network_overflow_become_the_batch_s_own() -> None:
    setup = make_setup(CASES["bottleneck"].plan, make_recipe(1, 2))
    fine = reference_of(setup)
    assert within_range(fine) is fine
    far = np.full_like(setup.state["bn1.running_mean"], 1e31)
    given = reference_of(replace(setup, state={**setup.state, "bn1.running_mean": far}))
    found = within_range(given)
    assert max(np.abs(array).max() for array in found.evaluated.values()) < 1e3
    norms = [step for step in steps(setup.plan) if isinstance(step.node, Norm)]
    assert len(norms) > 5
    for step in norms:
        op, x = step.node, given.activations[step.inputs[0].name]
        assert isinstance(op, Norm)
        pixels = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        for name, expected in (
            (op.running_mean.name, pixels.mean(1)),
            (op.running_var.name, pixels.var(1)),
        ):
            np.testing.assert_allclose(found.setup.state[name], expected, rtol=1e-5, atol=1e-6)
