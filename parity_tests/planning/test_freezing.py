"""Fine-tuning in the plan: what a recipe freezes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.cli.main import main
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import RecipeError
from resnet_spec.ops import Dropout, DropPath, Norm
from resnet_spec.plan import Plan
from resnet_spec.planning.costs import count_params, describe
from resnet_spec.planning.fine_tuning import classifier, fine_tuned
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.weights.checkpoint import load_checkpoint

NOISY: dict[str, Any] = {"stochastic_depth": 0.2, "dropout": 0.5}


def plan_of(order: str = "post_activation", **more: object) -> Plan:
    return lower(
        Spec(
            name="small",
            order=order,
            block="basic",
            stem={"widths": [4], "kernel": 3, "stride": 1, "pool": False},
            stages=[{"width": 4, "blocks": 1}, {"width": 8, "blocks": 2, "stride": 2}],
            input={"size": 8},
            **more,
        )
    )


def tuned(plan: Plan, freeze: str, head_rate: float = 1.0) -> Plan:
    return fine_tuned(plan, Recipe(steps=1, freeze=freeze, head_rate=head_rate))


def test_without_fine_tuning_the_plan_is_the_same_object() -> None:
    plan = plan_of()
    assert tuned(plan, "none") is plan
    assert not any(tensor.frozen or tensor.rate != 1.0 for tensor in plan.tensors)


@pytest.mark.parametrize(
    ("order", "freeze", "first"),
    [
        ("post_activation", "stem", "layer1.0.conv1.weight"),
        ("post_activation", "stages=1", "layer2.0.conv1.weight"),
        ("post_activation", "stages=2", "fc.weight"),
        ("post_activation", "backbone", "fc.weight"),
        ("pre_activation", "stem", "stages.0.blocks.0.norm1.weight"),
        ("pre_activation", "stages=1", "stages.1.blocks.0.norm1.weight"),
        ("pre_activation", "stages=2", "norm.weight"),
        ("pre_activation", "backbone", "head.fc.weight"),
    ],
)
def test_everything_before_the_first_trained_tensor_is_frozen(
    order: str, freeze: str, first: str
) -> None:
    before = plan_of(order)
    plan = tuned(before, freeze)
    names = [tensor.name for tensor in plan.tensors]
    at = names.index(first)
    assert [tensor.frozen for tensor in plan.tensors] == [i < at for i in range(len(names))]
    assert plan.trainable[0] == first
    norms = [op for op in plan.ops if isinstance(op, Norm)]
    assert all(op.frozen == op.scale.frozen == op.running_var.frozen for op in norms)
    assert plan.batch_norms == tuple(op for op in norms if not op.frozen)
    assert not any(tensor.frozen for tensor in before.tensors)


def test_counts_are_those_of_the_network_whatever_is_frozen() -> None:
    plan = plan_of()
    frozen = tuned(plan, "backbone")
    assert count_params(frozen.tensors) == count_params(plan.tensors)
    assert describe(frozen).statistics == describe(plan).statistics > 0
    assert frozen.observed == plan.observed


@pytest.mark.parametrize("order", ["post_activation", "pre_activation"])
def test_the_rate_is_the_classifiers_alone(order: str) -> None:
    plan = tuned(plan_of(order), "none", 10.0)
    head = classifier(plan).name
    assert head == ("fc" if order == "post_activation" else "head.fc")
    rates = {tensor.name: tensor.rate for tensor in plan.tensors if tensor.rate != 1.0}
    assert rates == {f"{head}.weight": 10.0, f"{head}.bias": 10.0}


@pytest.mark.parametrize("order", ["post_activation", "pre_activation"])
def test_rates_fall_with_each_group_from_the_head_to_the_stem(order: str) -> None:
    """timm's groups: the stem, each block, the head; here the last norm is in the head's."""
    recipe = Recipe(steps=1, layer_decay=0.5, head_rate=10.0)
    plan = fine_tuned(plan_of(order), recipe)
    found: dict[str, set[float]] = {}
    for tensor in plan.tensors:
        if not tensor.is_statistic:
            # layer1.0.bn1.weight, stages.0.blocks.0.norm1.weight, stem.conv1.weight, fc.bias
            block = re.match(r"layer\d\.\d|stages\.\d\.blocks\.\d|", tensor.name)
            assert block is not None
            found.setdefault(block[0] or tensor.name.partition(".")[0], set()).add(tensor.rate)
    if order == "post_activation":
        stem = {"conv1": {0.0625}, "bn1": {0.0625}}
        names, head = ["layer1.0", "layer2.0", "layer2.1"], {"fc": {10.0}}
    else:
        stem = {"stem": {0.0625}}
        names = ["stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1"]
        head = {"norm": {1.0}, "head": {10.0}}
    rates = ({0.125}, {0.25}, {0.5})
    assert found == {**stem, **dict(zip(names, rates, strict=True)), **head}
    assert {tensor.rate for tensor in plan.tensors if tensor.is_statistic} == {1.0}


def test_what_is_frozen_has_no_rate_and_does_not_move_the_others() -> None:
    recipe = Recipe(steps=1, layer_decay=0.5, freeze="stages=1")
    rates = {it.name: it.rate for it in fine_tuned(plan_of(), recipe).tensors}
    assert rates["layer2.0.conv1.weight"] == 0.25
    assert rates["conv1.weight"] == rates["layer1.0.conv1.weight"] == 1.0


def test_patterns_spare_weights_from_decay() -> None:
    recipe = Recipe(steps=1, optimizer={"no_decay": ["fc.*", "layer?.[0]*.conv1.weight"]})
    plan = fine_tuned(plan_of(), recipe)
    assert plan.tensors == plan_of().tensors
    spared = [it.name for it in plan.tensors if it.trainable and not recipe.decays(it)]
    assert spared == [
        "layer1.0.conv1.weight",
        "layer2.0.conv1.weight",
        "fc.weight",
        "fc.bias",
    ]
    assert {recipe.decay_of(it) for it in plan.tensors if it.name in spared} == {0.0}


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("head.*", "optimizer.no_decay = head.*: matches no weight of small; there is fc.bias"),
        ("fc.wieght", "matches no weight of small; did you mean 'fc.weight'?"),
        ("FC.*", "matches no weight of small"),
        ("*.running_mean", "matches no weight of small"),
    ],
)
def test_a_pattern_of_nothing_is_refused(pattern: str, line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        fine_tuned(plan_of(), Recipe(steps=1, optimizer={"no_decay": ["fc.*", pattern]}))
    assert line in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("kind", ["lamb", "lars"])
def test_patterns_that_leave_a_trust_ratio_nothing_are_refused(kind: str) -> None:
    optimizer = {"kind": kind, "no_decay": ["*"]}
    rule = f"spare every weight, and {kind} adapts only those that have weight decay"
    with pytest.raises(RecipeError) as caught:
        fine_tuned(plan_of(), Recipe(steps=1, optimizer=optimizer))
    assert str(caught.value) == f"optimizer.no_decay = *: {rule}; let some decay"
    fine_tuned(plan_of(), Recipe(steps=1, optimizer={**optimizer, "kind": "adamw"}))
    fine_tuned(plan_of(), Recipe(steps=1, optimizer={**optimizer, "no_decay": ["fc.*"]}))


@pytest.mark.parametrize("value", [0.0, 1.5, -0.5])
def test_what_layer_decay_may_be(value: float) -> None:
    with pytest.raises(RecipeError, match=f"layer_decay = {value}: must be"):
        Recipe(steps=1, layer_decay=value)


def test_a_run_with_a_pattern_of_nothing_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "resnet20_cifar", "--backend", "numpy", "--out", str(out)]
    assert main([*words, "--set", 'optimizer.no_decay=["head.*"]']) == 2
    assert "no_decay = head.*: matches no weight of resnet20_cifar" in capsys.readouterr().err
    assert not out.exists()


def test_frozen_blocks_are_never_dropped() -> None:
    plan = plan_of(**NOISY)
    drops = [op.name for op in plan.noises if isinstance(op, DropPath)]
    assert drops == ["layer2.0.drop_path", "layer2.1.drop_path"]
    assert tuned(plan, "stages=1").noises == plan.noises
    # What is dropped before the classifier is part of training it.
    assert [type(op) for op in tuned(plan, "backbone").noises] == [Dropout]
    assert not any("drop_path" in name for name in tuned(plan, "backbone").observed)


def test_frozen_tensors_do_not_decay() -> None:
    recipe = Recipe(steps=1, freeze="stages=1")
    for tensor in fine_tuned(plan_of(), recipe).tensors:
        assert recipe.decays(tensor) == tensor.trainable


def test_more_stages_than_there_are() -> None:
    with pytest.raises(RecipeError) as caught:
        tuned(plan_of(), "stages=3")
    expected = "freeze = stages=3: the network has 2 stages; freeze fewer, or the backbone"
    assert str(caught.value) == expected


@pytest.mark.parametrize("freeze", ["", "stages", "stages=0", "stages=-1", "stages=1 ", "Stem"])
def test_what_freeze_may_be(freeze: str) -> None:
    with pytest.raises(RecipeError, match="must be none, stem, stages=N"):
        Recipe(steps=1, freeze=freeze)


def test_a_run_trains_what_is_not_frozen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.toml").write_text(
        'block = "basic"\nstem = {widths = [4], kernel = 3, stride = 1, pool = false}\n'
        "stages = [{width = 4, blocks = 1}, {width = 4, blocks = 1}]\n"
    )
    out = tmp_path / "run"
    settings = ["steps=2", "freeze=stages=1", "head_rate=10", "ema.decay=0.5"]
    sets = [word for setting in settings for word in ("--set", setting)]
    more = ["--backend", "numpy", "--input-size", "8", "--out", str(out)]
    assert main(["train", str(tmp_path / "small.toml"), *more, *sets]) == 0
    last = load_checkpoint(out / "last.safetensors")
    assert last.recipe is not None and last.recipe.freeze == "stages=1"
    first = initial_state(last.plan(), last.recipe.seed)
    for tensor in fine_tuned(last.plan(), last.recipe).tensors:
        for name in (tensor.name, f"ema/{tensor.name}"):
            is_kept = last.state[name].tobytes() == first[tensor.name].tobytes()
            assert is_kept == tensor.frozen, name
    assert main(["train", "--resume", str(out)]) == 0  # Its velocities are those of that plan.
    assert main(["evaluate", str(out / "best.safetensors"), "--backend", "numpy"]) == 0
    capsys.readouterr()
    sets = ["--set", "freeze=stages=7", "--overwrite"]
    assert main(["train", str(tmp_path / "small.toml"), *more, *sets]) == 2
    assert "the network has 2 stages" in capsys.readouterr().err
