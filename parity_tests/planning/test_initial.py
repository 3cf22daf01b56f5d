"""Initial weights: pinned values, the right spread, and independence of the other layers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower


def spec(**changes: object) -> Spec:
    fields: dict[str, object] = {
        "block": "bottleneck",
        "classes": 50,
        "input": {"size": 32},
        "stages": [{"width": 32, "blocks": 2}],
        "squeeze": 0.25,
    }
    return Spec(**{**fields, **changes})


def test_the_drawn_numbers_are_pinned() -> None:
    """NumPy promises stable bit streams but not stable methods: a change must not go unseen."""
    state = initial_state(lower(spec(init="lecun")), seed=3) | {
        f"he.{name}": array for name, array in initial_state(lower(spec()), seed=3).items()
    }
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].tobytes())
    assert digest.hexdigest() == GOLDEN


def test_a_layer_more_changes_no_other_layers_draw() -> None:
    small = initial_state(lower(spec()), seed=1)
    large = initial_state(lower(spec(stages=[{"width": 32, "blocks": 3}])), seed=1)
    assert set(small) < set(large)
    assert all(np.array_equal(small[name], large[name]) for name in small)


def test_another_seed_or_name_draws_other_numbers() -> None:
    one, two = (initial_state(lower(spec()), seed=s) for s in (1, 2))
    assert not np.array_equal(one["conv1.weight"], two["conv1.weight"])
    a, b = one["layer1.1.conv1.weight"], one["layer1.1.conv3.weight"]
    assert not np.array_equal(a.ravel(), b.ravel())


@pytest.mark.parametrize(
    ("init", "name", "deviation"),
    [
        ("he_fan_out", "layer1.0.conv2.weight", (2 / (32 * 9)) ** 0.5),
        ("he_fan_in", "conv1.weight", (2 / (3 * 49)) ** 0.5),
        ("lecun", "conv1.weight", (1 / (3 * 49)) ** 0.5),
        ("lecun", "fc.weight", (1 / 128) ** 0.5),
        ("he_fan_out", "fc.weight", (1 / 128 / 3) ** 0.5),
    ],
)
def test_spread(init: str, name: str, deviation: float) -> None:
    values = initial_state(lower(spec(init=init)))[name]
    assert values.std() == pytest.approx(deviation, rel=0.04)
    assert abs(values.mean()) < 0.06 * deviation


def test_lecun_is_cut_at_two_deviations_of_the_uncut_normal() -> None:
    values = initial_state(lower(spec(init="lecun")))["conv1.weight"]
    limit = 2 * (1 / 147) ** 0.5 / 0.8796256610342398
    assert 0.98 * limit < np.abs(values).max() <= limit


def test_norms_start_as_the_identity_and_the_last_one_at_zero_on_request() -> None:
    state = initial_state(lower(spec(zero_init_last_norm=True)))
    assert np.all(state["layer1.0.bn2.weight"] == 1)
    assert np.all(state["layer1.0.bn3.weight"] == 0)
    assert np.all(state["layer1.0.downsample.1.weight"] == 1)
    assert np.all(state["bn1.running_var"] == 1)


def test_sessions_of_any_precision_start_alike() -> None:
    single = initial_state(lower(spec()))
    double = initial_state(lower(spec()), dtype=np.float64)
    assert double["fc.weight"].dtype == np.float64
    assert all(np.array_equal(single[name], double[name]) for name in single)


GOLDEN = "0a8afea40084f2af31da32df48d280c2fe6b72ac019ddef3cc5214040b0c64c4"
