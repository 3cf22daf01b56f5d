"""Tensors to files and back: bit-equal over every pair of schemes; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch, State
from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.ops import Init, Tensor
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import read_weights
from resnet_spec.weights.naming import SCHEMES, Scheme, scheme
from resnet_spec.weights.naming.dialects import Layout
from resnet_spec.weights.naming.lifting import from_file, lift, to_canonical, to_file, to_foreign


def thin(preset: str) -> Spec:
    """Return a preset with its parts in the smallest widths and at most two blocks a stage."""
    fields = load_spec(preset).to_dict()
    groups, per_group = fields["groups"], fields["width_per_group"]
    fields["groups"] = min(groups, 2)
    fields["width_per_group"] = per_group if per_group >= 64 else 32
    fields["stem"]["widths"] = [4 * (i + 1) for i, _ in enumerate(fields["stem"]["widths"])]
    is_wide = fields["stem"]["widths"][-1] != fields["stages"][0]["width"] and preset[:3] == "wrn"
    for i, stage in enumerate(fields["stages"]):
        first = fields["stem"]["widths"][-1] * (2 if is_wide else 1)
        stage.update(width=first * 2**i, blocks=min(stage["blocks"], 2))
    fields["classes"] = 3
    return Spec.from_dict(fields)


@cache
def plans() -> dict[str, Plan]:
    """Return thin presets, those that are alike but once."""
    found: dict[Any, tuple[str, Plan]] = {}
    for preset in PRESETS:
        plan = lower(thin(preset), 16)
        found.setdefault(plan.tensors, (preset, plan))
    return dict(found.values())


@cache
def state_of(preset: str) -> State:
    return _random(plans()[preset])


def _random(plan: Plan) -> State:
    """Return values that are all different, NaN and the two zeros among them."""
    generator = np.random.default_rng(0)
    state = {t.name: generator.standard_normal(t.shape).astype("float32") for t in plan.tensors}
    first = next(iter(state.values())).reshape(-1)
    first[:3] = [np.nan, -0.0, 0.0]
    return state


def bits(state: State) -> dict[str, str]:
    """Return digests: where CI is set, pytest takes minutes to tell megabytes of bytes apart."""
    return {name: sha256(array.tobytes()).hexdigest() for name, array in sorted(state.items())}


def schemes_of(plan: Plan) -> list[Scheme]:
    return [chosen for chosen in SCHEMES.values() if _names(chosen, plan)]


def _names(chosen: Scheme, plan: Plan) -> bool:
    try:
        chosen.names(plan)
    except CheckpointError:
        return False
    return True


def test_thin_presets_have_names_wherever_the_presets_have() -> None:
    assert len(plans()) > 20
    for preset, plan in plans().items():
        full = {chosen.name for chosen in schemes_of(lower(load_spec(preset)))}
        assert {chosen.name for chosen in schemes_of(plan)} == full, preset


@pytest.mark.parametrize("name", SCHEMES)
def test_to_a_file_and_back_is_bit_equal_for_every_preset(name: str) -> None:
    _assert_there_and_back(name)


def test_axes_in_another_order_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(tensor: Tensor, layout: Layout, array: Array) -> Array:
        there = to_foreign(tensor, layout, array)
        is_square = there.ndim == 4 and there.shape[0] == there.shape[1]
        return np.ascontiguousarray(there.swapaxes(0, 1)) if is_square else there

    monkeypatch.setattr("resnet_spec.weights.naming.lifting.to_foreign", turned)
    with pytest.raises(AssertionError):
        _assert_there_and_back("keras-hub")


def _assert_there_and_back(name: str) -> None:
    chosen = scheme(name)
    tried = 0
    for preset, plan in plans().items():
        if chosen not in schemes_of(plan):
            continue
        state = state_of(preset)
        there = to_file(plan, chosen, state)
        back = from_file(plan, chosen, there)
        assert bits(back) == bits(state), preset
        assert list(back) == [tensor.name for tensor in plan.tensors]
        assert all(array.flags.owndata for array in there.values())
        assert all(array.flags.c_contiguous for array in (*there.values(), *back.values()))
        tried += 1
    assert tried > 0


def test_a_to_b_to_a_is_bit_equal_for_every_ordered_pair() -> None:
    """In the middle one, by size, of the networks that both can name."""
    common: dict[tuple[Scheme, Scheme], list[str]] = {}
    for preset in sorted(plans(), key=lambda name: len(plans()[name].tensors)):
        found = schemes_of(plans()[preset])
        for one, other in product(found, found):
            common.setdefault((one, other), []).append(preset)
    assert {one for one, _ in common} == set(SCHEMES.values())
    assert len(common) > 150
    for (one, other), presets in common.items():
        preset = presets[len(presets) // 2]
        plan = plans()[preset]
        file = to_file(plan, one, state_of(preset))
        there = to_file(plan, other, from_file(plan, one, file))
        again = to_file(plan, one, from_file(plan, other, there))
        assert bits(again) == bits(file), (preset, one.name, other.name)


KERAS = scheme("keras-applications")


def _keras() -> tuple[Plan, State, dict[str, Array]]:
    plan = lower(thin("resnet50_v1"), 16)
    state = _random(plan)
    return plan, state, to_file(plan, KERAS, state)


def test_biases_before_norms_are_written_as_zeros_and_read_into_the_running_mean() -> None:
    plan, _, file = _keras()
    folds = KERAS.folds(plan)
    convolutions = [tensor for tensor in plan.tensors if tensor.role == "conv_weight"]
    assert len(folds) == len(convolutions)
    assert all(not file[fold.name].any() for fold in folds)
    _assert_folded()


def _assert_folded() -> None:
    plan, state, file = _keras()
    generator, folds = np.random.default_rng(1), KERAS.folds(plan)
    for fold in folds:
        file[fold.name] = generator.standard_normal(fold.shape).astype("float32")
    back = from_file(plan, KERAS, file)
    wanted = state | {
        fold.mean: (state[fold.mean].astype("float64") - file[fold.name]).astype("float32")
        for fold in folds
    }
    assert bits(back) == bits(wanted)


def _added(mean: Array, bias: Array) -> Array:
    return (mean.astype("float64") + bias).astype(mean.dtype)


def test_a_bias_folded_with_the_other_sign_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_spec.weights.naming.lifting._less", _added)
    with pytest.raises(AssertionError):
        _assert_folded()


def test_a_file_s_own_biases_come_back_folded_and_then_stay() -> None:
    plan, _, file = _keras()
    for fold in KERAS.folds(plan):
        file[fold.name] += 1.0
    state = from_file(plan, KERAS, file)
    again = to_file(plan, KERAS, state)
    assert bits(again) != bits(file)
    assert bits(from_file(plan, KERAS, again)) == bits(state)


def test_a_bias_that_is_folded_leaves_a_network_s_outputs_as_they_were() -> None:
    """conv(x) + bias, then the norm, by hand; a fold with the other sign would be twice off."""
    plan, _, file = _keras()
    fold = KERAS.folds(plan)[1]
    bias = np.arange(fold.shape[0], dtype="float32")
    file[fold.name] = bias
    norm = fold.mean.removesuffix(".running_mean")
    there = KERAS.names(plan)
    mean = file[there[f"{norm}.running_mean"].name].astype("float64")
    x = np.random.default_rng(2).standard_normal((5, *fold.shape))
    folded = from_file(plan, KERAS, file)[fold.mean].astype("float64")
    np.testing.assert_allclose(x + bias - mean, x - folded, rtol=0, atol=1e-6)
    assert np.abs((x + bias - mean) - (x - (mean + bias))).max() > 1


def _logits(spec: Spec, state: State, images: Array) -> Array:
    session = load_backend("numpy").Session(lower(spec), precision="float64")
    session.load({name: array.astype("float64") for name, array in state.items()})
    places = np.arange(len(images))
    (found,) = session.predict([Batch(images, np.full(len(images), -1), places)])
    return found


BGR = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.mark.parametrize(
    ("name", "preset"), [("keras-applications", "resnet50_v1"), ("pycls", "resnet50")]
)
def test_weights_for_bgr_images_are_turned_to_take_rgb(name: str, preset: str) -> None:
    """The network as it is, on BGR images and their statistics, and the turned one on RGB."""
    _assert_turned(name, preset)


def _assert_turned(name: str, preset: str) -> None:
    fields = thin(preset).to_dict()
    theirs = Spec.from_dict(fields | {"input": fields["input"] | BGR | {"size": 16}})
    reverse = {key: values[::-1] for key, values in BGR.items()}
    ours = Spec.from_dict(fields | {"input": fields["input"] | reverse | {"size": 16}})
    state, chosen = initial_state(lower(theirs), 0), scheme(name)
    file = to_file(lower(ours), replace(chosen, channels="rgb"), state)
    turned = from_file(lower(ours), chosen, file)
    assert bits(to_file(lower(ours), chosen, turned)) == bits(file)
    images = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    wanted = _logits(theirs, state, images[..., ::-1])
    np.testing.assert_allclose(_logits(ours, turned, images), wanted, rtol=0, atol=1e-9)
    assert np.abs(_logits(ours, state, images) - wanted).max() > 1e-3


def test_weights_that_are_not_turned_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_spec.weights.naming.lifting._reversed", np.array)
    with pytest.raises(AssertionError):
        _assert_turned("pycls", "resnet50")


def test_only_images_of_three_channels_have_an_order() -> None:
    grey = thin("resnet50").to_dict()
    plan = lower(Spec.from_dict(grey | {"input": {"channels": 1, "size": 16}}))
    assert scheme("pycls").reversed_weights(plan) == frozenset()


def test_counters_of_steps_are_left_out_wherever_norms_are() -> None:
    plan, chosen = CASES["bottleneck"].plan, scheme("hf")
    state = initial_state(plan, 0)
    file = to_file(plan, chosen, state)
    counters = chosen.counters(plan)
    assert len(counters) == sum(tensor.role == "norm_scale" for tensor in plan.tensors)
    counted = file | {name: np.array(7) for name in counters}
    assert bits(from_file(plan, chosen, counted)) == bits(state)
    for wrong in ({"num_batches_tracked": np.array(7)}, {next(iter(counters)): np.zeros(8)}):
        with pytest.raises(CheckpointError, match="is unexpected"):
            from_file(plan, chosen, file | wrong)


def _problems(plan: Plan, chosen: Scheme, file: dict[str, Array]) -> tuple[str, ...]:
    with pytest.raises(CheckpointError) as caught:
        from_file(plan, chosen, file)
    return caught.value.problems


def test_every_missing_unexpected_and_misshapen_tensor_is_listed() -> None:
    plan, _, file = _keras()
    file["conv1_conv.kernels"] = file.pop("conv1_conv.kernel")
    del file["conv2_block1_1_conv.bias"]
    file["predictions.kernel"] = file["predictions.kernel"].T
    wrong = file["predictions.kernel"].shape
    assert _problems(plan, KERAS, file) == (
        "conv1_conv.kernel: is missing; did you mean 'conv1_conv.kernels'?",
        "conv2_block1_1_conv.bias: is missing; did you mean 'conv1_conv.kernels'?",
        "conv1_conv.kernels: is unexpected; did you mean 'conv1_conv.kernel'?",
        f"predictions.kernel = {list(wrong)}: must have shape {list(wrong[::-1])}",
    )


def test_a_state_that_is_not_the_plan_s_is_written_nowhere() -> None:
    plan, state, _ = _keras()
    with pytest.raises(CheckpointError, match=r"fc\.bias: is missing"):
        to_file(plan, KERAS, {name: a for name, a in state.items() if name != "fc.bias"})
    with pytest.raises(CheckpointError, match=r"momentum/fc\.bias: is unexpected"):
        to_file(plan, KERAS, state | {"momentum/fc.bias": state["fc.bias"]})


@pytest.mark.parametrize("name", ["hf", "keras-hub", "mindcv", "jax-resnet"])
def test_two_names_swapped_or_an_axis_turned_are_seen(name: str) -> None:
    plan, chosen = CASES["bottleneck"].plan, scheme(name)
    state, there = _random(plan), chosen.in_file(plan)
    file = to_file(plan, chosen, state)
    assert bits(from_file(plan, chosen, file)) == bits(state)
    one, other = there["layer1.0.bn1.weight"].name, there["layer1.0.bn1.bias"].name
    swapped = file | {one: file[other], other: file[one]}  # Of one shape: nothing can refuse them.
    assert bits(from_file(plan, chosen, swapped)) != bits(state)
    kernel = there["layer1.0.conv2.weight"].name
    turned = file | {kernel: np.ascontiguousarray(file[kernel].T)}
    if turned[kernel].shape == file[kernel].shape:
        assert bits(from_file(plan, chosen, turned)) != bits(state)
    else:
        assert "must have shape" in _problems(plan, chosen, turned)[0]


def test_a_kernel_of_one_pixel_may_be_a_matrix_and_a_matrix_a_kernel() -> None:
    plan = CASES["bottleneck"].plan
    state = _random(plan)
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    pixel, linear = tensors["layer1.0.conv1.weight"], tensors["fc.weight"]
    out, inputs = linear.shape
    for tensor, layout, shape in (
        (pixel, "IO", pixel.shape[1::-1]),
        (pixel, "OI", pixel.shape[:2]),
        (linear, "OIHW", (out, inputs, 1, 1)),
        (linear, "HWIO", (1, 1, inputs, out)),
    ):
        there = to_foreign(tensor, layout, state[tensor.name])  # type: ignore[arg-type]
        assert there.shape == shape
        back = to_canonical(tensor, layout, there)  # type: ignore[arg-type]
        assert back.tobytes() == state[tensor.name].tobytes()


def test_a_kernel_of_several_pixels_is_no_matrix() -> None:
    tensor = Tensor("conv.weight", (4, 2, 3, 3), "OIHW", "conv_weight", Init("constant", 0.0))
    with pytest.raises(ValueError, match="cannot reshape"):
        to_foreign(tensor, "OI", np.zeros(tensor.shape, "float32"))


FILE = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "resnet20-12fca82f.th"


@pytest.mark.skipif(not FILE.exists(), reason=f"{FILE.name} is not in ../shared")
def test_akamaster_s_own_file_is_resnet20_to_the_last_tensor() -> None:
    file = read_weights(FILE).tensors
    plan, chosen = lower(load_spec("resnet20_cifar")), scheme("akamaster")
    state = from_file(plan, chosen, file)
    assert sum(a.size for a in state.values()) == 269_722 + 2 * 688
    assert bits(to_file(plan, chosen, state)) == bits(file)
    names = chosen.names(plan)
    assert bits(lift(plan, names, file)) == bits(state)
