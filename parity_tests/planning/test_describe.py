"""Costs, checked by hand and against published receptive fields."""

from __future__ import annotations

import json

import pytest

from resnet_spec.describing.presets import list_presets
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.ops import Gate
from resnet_spec.planning.costs import MACS_CONVENTION, Description, describe
from resnet_spec.planning.costs_text import description_text
from resnet_spec.planning.dataflow import Step, Value, image, steps
from resnet_spec.planning.lowering import lower


def description_of(preset: str, *settings: str) -> Description:
    return describe(lower(load_spec(preset, settings)))


@pytest.mark.parametrize(
    ("preset", "field"),
    [
        # Araujo et al. 2019, distill.pub/2019/computing-receptive-fields (He's stride on the 1x1).
        ("resnet50_v1", 483),
        ("resnet101_v1", 1027),
        ("resnet152_v1", 1507),
        # By hand: 3x3 convolutions, six in a stage, each seeing 2 steps more; the step doubles.
        ("resnet20_cifar", 3 + 6 * 2 + (2 + 5 * 4) + (4 + 5 * 8)),
    ],
)
def test_receptive_field_of_the_last_stage(preset: str, field: int) -> None:
    assert description_of(preset).stages[-2].receptive_field == field


def test_gates_leave_the_receptive_field_as_it_is() -> None:
    plain, gated = (
        [stage.receptive_field for stage in description_of("resnet50", *more).stages]
        for more in ((), ("squeeze=0.0625",))
    )
    assert gated == plain


def test_the_head_sees_the_whole_image() -> None:
    head = description_of("resnet50").stages[-1]
    assert head.receptive_field >= 224


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("resnetv2_18", ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]),
        ("plain20_cifar", ["stem", "layer1", "layer2", "layer3", "head"]),
    ],
)
def test_stages_sum_up_to_the_whole(preset: str, names: list[str]) -> None:
    it = description_of(preset)
    assert [row.name for row in it.stages] == names
    assert sum(row.params for row in it.stages) == it.params
    assert sum(row.macs for row in it.stages) == it.macs
    assert it.stages[-1].output_shape == (it.classes,)


def test_a_stage_that_ends_in_a_gate_puts_out_what_is_gated() -> None:
    it = description_of("plain20_cifar", "squeeze=0.25", "order=pre_activation")
    assert it.stages[1].output_shape == (16, 32, 32)


def test_counts_of_the_smallest_network_by_hand() -> None:
    it = describe(
        lower(
            load_spec(
                {
                    "block": "basic",
                    "classes": 10,
                    "input": {"size": 8, "channels": 1},
                    "stem": {"widths": [2], "kernel": 3, "stride": 1, "pool": False},
                    "stages": [{"width": 2, "blocks": 1}],
                }
            )
        )
    )
    assert it.params == (2 * 9 + 4) + 2 * (4 * 9 + 4) + (2 * 10 + 10)
    assert it.statistics == 3 * 4
    assert it.macs == 64 * (2 * 9 + 2 * 4 * 9) + 30
    assert it.weight_bytes == 4 * (it.params + it.statistics)
    maps_of_two_channels = 6  # three convolutions' outputs and three activations' outputs
    assert it.activation_bytes == 4 * (64 + maps_of_two_channels * 128 + 2)


def test_memory_agrees_with_what_torch_was_seen_to_keep() -> None:
    """Autograd's saved tensors (torch 2.13) for two images of 224 px: 2 * 20,593,408 bytes.

    Beyond what counts here, each norm keeps a mean and a deviation per channel and batch.
    """
    it = description_of("resnet18")
    channels = it.statistics // 2
    assert 2 * it.activation_bytes + 2 * 4 * channels == 2 * 20_593_408


def test_memory_grows_with_the_area_and_weights_do_not() -> None:
    small, large = (description_of("resnet18", f"input.size={size}") for size in (64, 128))
    assert small.weight_bytes == large.weight_bytes
    head = 4 * 512
    assert large.activation_bytes - head == 4 * (small.activation_bytes - head)


def test_json_has_the_keys_that_are_promised() -> None:
    data = json.loads(json.dumps(description_of("resnet20_cifar").to_dict()))
    assert data["name"] == "resnet20_cifar"
    assert (data["params"], data["macs"]) == (269_722, 40_551_050)
    assert (data["input_size"], data["classes"]) == (32, 10)
    assert data["conventions"]["macs"] == MACS_CONVENTION
    assert data["stages"][1]["output_shape"] == [16, 32, 32]
    assert data["tensors"][0] == {
        "name": "conv1.weight",
        "shape": [16, 3, 3, 3],
        "role": "conv_weight",
    }
    assert len(data["tensors"]) == 1 + 19 * 4 + 18 + 2


def test_json_gives_both_sides_of_an_image_that_is_not_square() -> None:
    assert describe(lower(load_spec("resnet18"), (32, 64))).to_dict()["input_size"] == [32, 64]


def test_the_table_shows_totals_and_conventions() -> None:
    text = description_text(description_of("resnet50"))
    assert "25,557,032" in text
    assert "4,089,185,256" in text
    assert MACS_CONVENTION in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("preset", list_presets())
def test_every_value_is_made_before_it_is_read_and_with_the_shape_it_is_read_with(
    preset: str,
) -> None:
    plan = lower(load_spec(preset))
    made: set[Value] = {image(plan)}
    flow: tuple[Step, ...] = tuple(steps(plan))
    for step in flow:
        assert set(step.inputs) <= made
        if not isinstance(step.node, Gate):
            assert {value.shape for value in step.inputs} == {step.node.in_shape}
        made.add(step.output)
    assert [s.node for s in flow if not isinstance(s.node, Gate)] == list(plan.ops)
    assert [s.node.name for s in flow] == list(plan.observed)
