"""A spec out of names and shapes alone: every preset by every scheme, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError, SpecError
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import SCHEMES, Scheme, scheme
from resnet_spec.weights.naming.lifting import foreign_shape
from resnet_spec.weights.recognising.inference import Inferred, infer, recognise
from resnet_spec.weights.recognising.matching_preset import matching_preset

Shapes = dict[str, tuple[int, ...]]

LARGE = ("resnet1202_cifar", "preact1001_cifar")
QUICK = ("timm-v2", "jax-resnet", "hf", "pycls", "keras-applications", "akamaster")
"""Of a layout, a way of naming and a source of defaults each."""
SAME_NAMES = ("torchvision", "canonical", "keras-applications-rgb")
"""Schemes whose files are timm's."""


def shapes_of(spec: Spec, names: Scheme) -> Shapes:
    """Return the shapes of a file; raises CheckpointError where the project has no such network."""
    plan = lower(spec)
    foreign = names.in_file(plan)
    shapes = {foreign[t.name].name: foreign_shape(t, foreign[t.name].layout) for t in plan.tensors}
    return shapes | {fold.name: fold.shape for fold in names.folds(plan)}


def with_open_fields(found: Inferred, spec: Spec) -> dict[str, Any]:
    """Return what was found, with what it says that tensors leave open as it is in `spec`."""
    fields, theirs = found.spec.to_dict(), spec.to_dict()
    fields["name"] = theirs["name"]
    for unseen in found.open:
        first, _, last = unseen.field.partition(".")
        if first == "stages":
            for mine, other in zip(fields["stages"], theirs["stages"], strict=True):
                mine[last] = other[last]
        elif last:
            fields[first][last] = theirs[first][last]
        else:
            fields[first] = theirs[first]
    return fields


def nameable(names: Scheme, presets: Iterator[str]) -> Iterator[tuple[Spec, Shapes]]:
    for preset in presets:
        spec = load_spec(preset)
        try:
            yield spec, shapes_of(spec, names)
        except CheckpointError:
            continue


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough)
        for name in SCHEMES
        if name not in SAME_NAMES
    ],
)
def test_every_preset_comes_back_from_its_shapes(name: str) -> None:
    presets = (preset for preset in PRESETS if preset not in LARGE)
    cases = list(nameable(scheme(name), presets))
    assert cases
    for spec, shapes in cases:
        found = infer(shapes)
        assert found.scheme.name == name
        assert with_open_fields(found, spec) == spec.to_dict()


@pytest.mark.parametrize(
    ("preset", "name"), [("resnet1202_cifar", "akamaster"), ("preact1001_cifar", "timm-v2")]
)
def test_hundreds_of_blocks_come_back(preset: str, name: str) -> None:
    spec = load_spec(preset)
    found = infer(shapes_of(spec, scheme(name)))
    assert with_open_fields(found, spec) == spec.to_dict()
    assert found.preset is not None
    assert found.preset.name == preset


CLASSES = 11
SMALL = Spec.from_dict(
    {
        "name": "small",
        "classes": CLASSES,
        "stem": {"widths": [8]},
        "stages": [{"width": 8, "blocks": 2}, {"width": 16, "blocks": 3, "stride": 2}],
        "block": "bottleneck",
    }
)


def small(**changes: Any) -> Spec:
    return Spec.from_dict({**SMALL.to_dict(), **changes})


@pytest.mark.parametrize("name", ["timm", "hf", "flax-imagenet", "jax-resnet", "pycls", "mindcv"])
@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        small(classes=2, input={"channels": 1}),
        small(stages=[{"width": 8, "blocks": 1}]),
        small(stages=[{"width": w, "blocks": 1, "stride": 2} for w in (8, 8, 16, 24, 24, 32, 40)]),
    ],
    ids=["small", "grey", "one", "seven"],
)
def test_other_networks_come_back(name: str, spec: Spec) -> None:
    found = infer(shapes_of(spec, scheme(name)))
    assert found.scheme.name == name
    assert with_open_fields(found, spec) == spec.to_dict()


@pytest.mark.parametrize(
    "spec",
    [
        small(shortcut="projection_all"),
        small(squeeze=0.25),
        small(groups=2, width_per_group=48),
        small(stem={"widths": [4, 6, 8], "kernel": 5}),
        small(stem={"widths": [4, 8], "kernel": 3}),
        small(order="pre_activation", shortcut="projection_all", squeeze=0.5),
        small(block="basic", expansion=2, shortcut="zero_pad"),
        small(block="basic", expansion=1, shortcut="none"),
        small(block="basic", expansion=3),
    ],
    ids=lambda spec: f"{spec.block}-{spec.shortcut}-{spec.squeeze}-{spec.expansion}",
)
def test_own_networks_come_back(spec: Spec) -> None:
    found = infer(shapes_of(spec, scheme("canonical")), schemes=[scheme("canonical")])
    assert with_open_fields(found, spec) == spec.to_dict()
    assert found.spec.name == "custom"


def test_conventions_of_the_source_are_in_the_spec() -> None:
    found = infer(shapes_of(load_spec("resnet50"), scheme("keras-applications")))
    assert (found.spec.norm.eps, found.spec.stride_position) == (1.001e-5, "1x1")
    sources = {unseen.field: unseen.source for unseen in found.open}
    assert sources["norm.eps"] == sources["stride_position"] == "scheme"
    assert sources["stages.stride"] == "usual"
    pool = infer(shapes_of(load_spec("resnet18"), scheme("mindcv"))).spec.stem.pool_padding
    assert pool == "same"


def test_a_preset_is_named_with_its_differences() -> None:
    spec = load_spec("resnet50", ["classes=10"])
    found = infer(shapes_of(spec, scheme("timm")))
    assert found.preset is not None
    assert (found.preset.name, found.preset.differs) == ("resnet50", ("classes = 10",))
    assert found.spec.name == "resnet50"
    assert infer(shapes_of(SMALL, scheme("timm"))).preset is None


def test_shortcuts_without_tensors_are_one_to_the_preset_and_those_with_are_not() -> None:
    plain = matching_preset(load_spec("resnet1202_cifar", ["shortcut=none"]))
    assert plain is not None
    assert (plain.name, plain.differs) == ("resnet1202_cifar", ("shortcut = none",))
    assert matching_preset(load_spec("resnet50", ["shortcut=projection_all"])) is None


def test_settings_say_what_tensors_do_not() -> None:
    shapes = shapes_of(SMALL, scheme("timm"))
    found = infer(shapes, ["stride_position=1x1", "norm.eps=0.001", "stages[1].stride=1"])
    assert (found.spec.stride_position, found.spec.norm.eps) == ("1x1", 0.001)
    said = {unseen.field for unseen in found.open if unseen.source == "set"}
    assert said == {"stride_position", "norm.eps", "stages.stride"}
    with pytest.raises(CheckpointError, match=r"--set classes=3: .* fc\.weight = \[11, 64\] must"):
        infer(shapes, ["classes=3"])
    with pytest.raises(SpecError, match=r"stride_positon = \"1x1\": unknown key"):
        infer(shapes, ["stride_positon=1x1"])


def test_every_remedy_can_be_set() -> None:
    for names in ("timm", "mindcv", "flax-imagenet"):
        shapes = shapes_of(SMALL, scheme(names))
        for unseen in infer(shapes).open:
            if (
                unseen.field != "stages.stride"
            ):  # Without its stride the stage may lose a projection.
                changed = infer(shapes, unseen.remedy)
                assert changed.spec != infer(shapes).spec


def test_a_given_spec_finds_the_scheme() -> None:
    for name in ("timm", "hf-flax", "mindvision", "keras-hub"):
        assert recognise(SMALL, shapes_of(SMALL, scheme(name))).name == name
    other = small(stages=[{"width": 8, "blocks": 2}, {"width": 16, "blocks": 4, "stride": 2}])
    refused = r"not those of small: by hf's names .*stages\.1\.layers\.3\..* is missing"
    with pytest.raises(CheckpointError, match=refused):
        recognise(other, shapes_of(SMALL, scheme("hf")))


def fault(shapes: Shapes, names: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        infer(shapes)
    (line,) = caught.value.problems
    assert f"by {names}'s names" in line
    return line


@pytest.mark.parametrize("names", ["timm", "hf", "mindcv", "flax-imagenet", "jax-resnet"])
def test_every_missing_tensor_is_named(names: str) -> None:
    shapes = shapes_of(SMALL, scheme(names))
    for name in list(shapes)[::7]:
        assert f"{name} is missing" in fault({k: s for k, s in shapes.items() if k != name}, names)


@pytest.mark.parametrize("names", ["timm", "pycls", "keras-applications", "flax-imagenet"])
def test_every_other_shape_is_named(names: str) -> None:
    shapes = shapes_of(SMALL, scheme(names))
    for name, shape in list(shapes.items())[::7]:
        wrong = (shape[0] + 1, *shape[1:])
        line = fault(shapes | {name: wrong}, names)
        if CLASSES not in shape:  # Two show the classes: either of them may be named.
            assert f"{name} = {list(wrong)} must have shape {list(shape)}" in line


def test_one_tensor_too_many_is_named() -> None:
    shapes = shapes_of(SMALL, scheme("timm"))
    line = fault(shapes | {"layer2.0.conv4.weight": (16, 16, 1, 1)}, "timm")
    assert "layer2.0.conv4.weight is unexpected" in line
    line = fault({**shapes, "fc.weights": shapes["fc.weight"]} | {}, "timm")
    assert "fc.weights is unexpected" in line


def test_a_misspelt_tensor_comes_with_the_right_name() -> None:
    shapes = shapes_of(SMALL, scheme("timm"))
    moved = {
        name.replace("layer1.1.bn2.bias", "layer1.1.bn2.bais"): s for name, s in shapes.items()
    }
    assert "layer1.1.bn2.bias is missing (did you mean 'layer1.1.bn2.bais'?)" in fault(
        moved, "timm"
    )


def test_blocks_of_two_stages_moved_are_named() -> None:
    shapes = shapes_of(SMALL, scheme("timm"))
    swap = {"layer1.1.": "layer2.1.", "layer2.1.": "layer1.1."}
    moved = {swap.get(name[:9], name[:9]) + name[9:]: shape for name, shape in shapes.items()}
    assert moved.keys() == shapes.keys()
    assert "layer1.1.conv1.weight = [16, 64, 1, 1] must have shape [8, 32, 1, 1]" in fault(
        moved, "timm"
    )


def test_a_stage_that_is_not_there_is_named() -> None:
    shapes = shapes_of(load_spec("resnet18"), scheme("timm"))
    line = fault({k: s for k, s in shapes.items() if not k.startswith("layer2.")}, "timm")
    assert "layer3.0.conv1.weight" in line or "is unexpected" in line


def test_what_is_no_residual_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"its tensors \(features\.0\.weight.*of no scheme"):
        infer({"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)})
    with pytest.raises(CheckpointError, match="of no scheme; say what it is with --spec"):
        infer({})
