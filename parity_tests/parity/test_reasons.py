"""Tensors that do not fit: the one reason in one line, and never a line for each of hundreds."""

from __future__ import annotations

from typing import Any, cast

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import MOST_LINES, BackendError, few
from resnet_spec.parity.compare import compare_backends
from resnet_spec.parity.misfits import reason
from resnet_spec.parity.setup import make_recipe
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import SCHEMES
from resnet_spec.weights.naming.lifting import shapes_of

PLAN = lower(load_spec("resnet18"), 32)
NAMES = SCHEMES["timm"].names(PLAN, "torch")


Shapes = dict[str, tuple[int, ...]]


def shapes(scheme: str = "timm", classes: int = 1000, prefix: str = "") -> Shapes:
    """Return what a model by the scheme's names has."""
    plan = lower(load_spec("resnet18", [f"classes={classes}"]), 32)
    found = shapes_of(plan, SCHEMES[scheme].names(plan, "torch"))
    return {prefix + name: shape for name, shape in found.items()}


def told(found: Shapes, called: str = "timm") -> str | None:
    return reason(PLAN, SCHEMES[called].names(PLAN, "torch"), called, "torch", found)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (shapes(classes=10), "classes = 1000: the model has 10; use --classes 10"),
        (shapes("hf"), "names = timm: are not the model's; use names = hf"),
        (
            shapes(prefix="module."),
            "model: all names begin with 'module.'; give what it wraps, model.module",
        ),
        (
            shapes(prefix="_orig_mod.module."),
            "model: all names begin with '_orig_mod.module.'; give what it wraps, "
            "model._orig_mod.module",
        ),
        (
            {**shapes(prefix="model."), "loss.weight": (3,)},
            "model: the network's names begin with 'model.'; give what it wraps, model.model",
        ),
        (
            shapes("hf", prefix="net."),
            "model: all names begin with 'net.'; give what it wraps, model.net",
        ),
        (
            shapes(classes=10, prefix="module."),
            "model: all names begin with 'module.'; give what it wraps, model.module",
        ),
        (shapes() | {"conv1.weight": (64, 1, 7, 7)}, None),
        ({}, None),
    ],
)
def test_the_one_reason_is_named(found: Shapes, line: str | None) -> None:
    assert told(found) == line


def test_a_few_lines_stay_and_many_become_one() -> None:
    lines = [f"a{i}: is missing" for i in range(MOST_LINES)]
    assert few(lines) == lines
    more = [*lines, "b = [1]: must have shape [2]", "c: is unexpected"]
    assert few(more) == [
        "tensors: 10 do not fit (8 missing, 1 unexpected, 1 of another shape); is it another "
        "network? The first: a0: is missing; and 9 more"
    ]


def test_a_state_of_another_network_is_one_line() -> None:
    from resnet_spec.planning.initial_weights import initial_state
    from resnet_spec.weights.checkpoint import mismatches

    other = lower(load_spec("resnet50"), 32)
    expected = {tensor.name: tensor.shape for tensor in PLAN.tensors}
    (line,) = mismatches(expected, initial_state(other, 0))
    assert "unexpected" in line and "is it another network?" in line


def test_a_session_refuses_another_networks_state_in_one_line() -> None:
    from resnet_spec.errors import CheckpointError
    from resnet_spec.loader import load_backend
    from resnet_spec.planning.initial_weights import initial_state

    small = lower(load_spec("resnet20_cifar"), 8)
    with pytest.raises(CheckpointError) as raised:
        load_backend("numpy").Session(small).load(initial_state(PLAN, 0))
    assert len(raised.value.problems) == 1


def test_a_network_of_nan_is_one_line() -> None:
    import numpy as np

    from resnet_spec.weights.checkpoint import Checkpoint, _problems

    spec = load_spec("resnet20_cifar")
    state = {t.name: np.full(t.shape, np.nan, np.float32) for t in lower(spec).tensors}
    (line,) = _problems(Checkpoint(spec, state), is_known_finite=False)
    assert "hold NaN or infinite values; the first: conv1.weight: " in line


def test_a_precision_that_cannot_be_judged_is_refused_before_anything_is_computed() -> None:
    rule = "precision = float16: is not computed by numpy, or cannot be judged; use float32 or"
    with pytest.raises(BackendError, match=rule):
        compare_backends(PLAN, make_recipe(), "numpy", "logits", cast(Any, "float16"))
