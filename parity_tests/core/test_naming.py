"""Naming schemes are maps over the plan: complete, one to one, as the projects write the names."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES

from resnet_spec.errors import CheckpointError
from resnet_spec.initial import initial_state
from resnet_spec.naming import SCHEMES, scheme
from resnet_spec.naming.lifting import lift, to_canonical, to_foreign

PLAN = CASES["bottleneck"].plan


@pytest.mark.parametrize("name", SCHEMES)
def test_every_tensor_has_a_name_of_its_own(name: str) -> None:
    names = scheme(name).names(PLAN)
    assert list(names) == [tensor.name for tensor in PLAN.tensors]
    assert len({foreign.name for foreign in names.values()}) == len(names)


@pytest.mark.parametrize("name", SCHEMES)
def test_there_and_back_is_bit_equal(name: str) -> None:
    names, state = scheme(name).names(PLAN), initial_state(PLAN, 0)
    there = {
        names[t.name].name: to_foreign(t, names[t.name].layout, state[t.name]) for t in PLAN.tensors
    }
    back = lift(PLAN, names, there)
    assert all(np.array_equal(back[key], state[key]) for key in state)
    assert all(array.flags.c_contiguous for array in (*there.values(), *back.values()))


# From the sources named in each scheme's file.
@pytest.mark.parametrize(
    ("name", "canonical", "foreign", "layout"),
    [
        ("timm", "layer2.0.downsample.0.weight", "layer2.0.downsample.0.weight", "OIHW"),
        ("mindcv", "layer2.0.downsample.1.weight", "layer2.0.down_sample.1.gamma", "C"),
        ("mindcv", "bn1.running_var", "bn1.moving_variance", "C"),
        ("mindcv", "fc.weight", "classifier.weight", "OI"),
        ("hf", "conv1.weight", "resnet.embedder.embedder.convolution.weight", "OIHW"),
        (
            "hf",
            "layer2.0.bn3.running_mean",
            "resnet.encoder.stages.1.layers.0.layer.2.normalization.running_mean",
            "C",
        ),
        ("hf", "fc.bias", "classifier.1.bias", "C"),
        ("flax-imagenet", "bn1.weight", "bn_init.scale", "C"),
        (
            "flax-imagenet",
            "layer2.0.conv3.weight",
            "BottleneckResNetBlock_1.Conv_2.kernel",
            "HWIO",
        ),
        (
            "flax-imagenet",
            "layer2.0.downsample.1.running_var",
            "BottleneckResNetBlock_1.norm_proj.var",
            "C",
        ),
        ("flax-imagenet", "fc.weight", "Dense_0.kernel", "IO"),
    ],
)
def test_names_are_those_of_the_project(
    name: str, canonical: str, foreign: str, layout: str
) -> None:
    found = scheme(name).names(PLAN)[canonical]
    assert (found.name, found.layout) == (foreign, layout)


def test_another_framework_has_its_own_words_in_the_same_modules() -> None:
    assert scheme("timm").names(PLAN, "mindspore")["bn1.weight"].name == "bn1.gamma"
    assert scheme("timm").names(PLAN, "flax")["conv1.weight"].layout == "HWIO"


def test_a_kernel_of_one_pixel_may_be_a_matrix() -> None:
    tensor = next(t for t in PLAN.tensors if t.name == "layer1.0.conv1.weight")
    kernel = initial_state(PLAN, 0)[tensor.name]
    matrix = to_foreign(tensor, "IO", kernel)
    assert matrix.shape == kernel.shape[1::-1]
    assert np.array_equal(to_canonical(tensor, "IO", matrix), kernel)


@pytest.mark.parametrize("name", ["mindcv", "hf", "flax-imagenet"])
def test_a_network_without_names_there_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"names = {name}: has no name for stem\.conv"):
        scheme(name).names(CASES["pre_activation_bottleneck"].plan)
