"""Networks anywhere in a file: below any prefix, in several pieces, one of several, headless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from network_trees import (
    BODY,
    CLASSES,
    FEATURES,
    HEAD,
    NET,
    OTHER,
    PLAN,
    SPEC,
    STATE,
    Tree,
    below,
    found,
    inside,
    layer,
    numbered,
    refusal,
    same,
)

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint
from resnet_spec.weights.converting import load_weights
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file
from resnet_spec.weights.recognising.recognise import recognise_file

torch = pytest.importorskip("torch")


STEM = {"conv1": "layer0.0", "bn1": "layer0.1", "layer1": "layer1", "layer2": "layer2", "fc": "fc"}
SEQUENCE = {"conv1": "0", "bn1": "1", "layer1": "3", "layer2": "4", "fc": "7"}
PREFIXES = ("net", "backbone", "resnet", "classifier", "a.b.c")
KEYS = ("state_dict", "model_dict", "state", "best_model", "anything")
WHOLE: dict[str, Tree] = {
    "plain": NET,
    **{prefix: {"state_dict": below(f"{prefix}.")} for prefix in PREFIXES},
    **{key: {key: NET, "acc": 0.9} for key in KEYS},
    "three times": {"checkpoint": {"model": {"state_dict": below("module.net.")}}, "epoch": 3},
    "fsdp": inside("_fsdp_wrapped_module", below("_fsdp_wrapped_module.")),
    "compiled": below("_orig_mod.module."),
    "parallel parts": inside("module"),
    "a configuration beside": {"model": {"arch": "resnet18"}, "net": NET},
    "a list": {"models": [NET]},
    "numbers": {0: NET},
    "loss weights": {"state_dict": {**below("model."), "criterion.weight": torch.ones(CLASSES)}},
    "a queue": {**NET, "queue": torch.ones(4, 4), "queue_ptr": torch.zeros(1)},
    "mmpretrain": {"state_dict": {**below("backbone.", BODY), **below("head.", HEAD)}},
    "two dicts": {"encoder": BODY, "fc": {"weight": HEAD["fc.weight"], "bias": HEAD["fc.bias"]}},
    "dropout": {**BODY, **{k.replace("fc.", "fc.1."): it for k, it in HEAD.items()}},
    "layer0": numbered(STEM, NET),
    "a sequence": numbered(SEQUENCE, NET),
    "equal twice": {"student": below("module.backbone."), "teacher": below("backbone.")},
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_network_is_found_whatever_is_around_it(name: str, tmp_path: Path) -> None:
    it = found(WHOLE[name], tmp_path)
    assert it.has_classifier and it.spec.classes == CLASSES
    assert same(it.tensors, NET)
    assert len(it.notes) <= 2


@pytest.mark.parametrize("name", ["hf", "mindvision", "kuangliu", "pycls", "timm-v2"])
def test_prefixes_of_every_scheme_come_off(name: str, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"order": "pre_activation"}) if name == "timm-v2" else SPEC
    spec = load_spec({**spec.to_dict(), "block": "bottleneck", "expansion": 4})
    tensors = to_file(lower(spec), scheme(name), initial_state(lower(spec), 0))
    it = found(
        {"state_dict": below("a.b.", {k: torch.tensor(v) for k, v in tensors.items()})}, tmp_path
    )
    assert it.scheme.name == name
    assert same(it.tensors, tensors)


def test_what_is_left_out_is_told_in_one_note(tmp_path: Path) -> None:
    tree = {"epoch": 1, "optimizer": {"state": {}}, **WHOLE["loss weights"]}
    (note,) = found(tree, tmp_path).notes
    assert note == ("taken from state_dict.model; left out: state_dict.criterion, epoch, optimizer")


ENCODERS: dict[str, Tree] = {
    "bare": BODY,
    "below a prefix": {"state_dict": below("encoder.", BODY)},
    "lightly": {"state_dict": below("backbone.", numbered(SEQUENCE))},
    "mlp": {**BODY, **layer("fc.0", 8, FEATURES), **layer("fc.2", 3, 8)},
    "two layers": {**NET, **layer("fc2", 3, CLASSES)},
    "followed": {**below("backbone."), **layer("head", 3, CLASSES)},
    "a projection": {**below("net.", BODY), **layer("projector", 3, FEATURES)},
    "detection": {
        **below("backbone.body.", BODY),
        **layer("backbone.fpn.0", 8, FEATURES, 1, 1),
        **layer("rpn.conv", 8, 8, 3, 3),
    },
    "no bias": {key: it for key, it in NET.items() if key != "fc.bias"},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_found_without_a_classifier(name: str, tmp_path: Path) -> None:
    it = found(ENCODERS[name], tmp_path)
    assert not it.has_classifier
    assert same(it.tensors, BODY)
    assert any("no classifier" in note for note in it.notes)


def test_transformers_encoder_has_no_prefix_of_its_own(tmp_path: Path) -> None:
    spec = load_spec("resnet18", ["stages[0].width=8", "stages[1].width=8"])
    tensors = to_file(lower(spec), scheme("hf"), initial_state(lower(spec), 0))
    tree = {
        name.removeprefix("resnet."): torch.tensor(it)
        for name, it in tensors.items()
        if name.startswith("resnet.")
    }
    it = found(tree, tmp_path)
    assert (it.scheme.name, it.has_classifier) == ("hf", False)
    assert it.tensors.keys() == {name for name in tensors if name.startswith("resnet.")}


NOT_ONE = [
    ({**NET, "attention.weight": torch.ones(4, 4, 3, 3)}, "attention.weight is unexpected"),
    ({**NET, "layer1.0.eca.weight": torch.ones(1, 1, 3)}, "layer1.0.eca.weight is unexpected"),
    ({**NET, "fc.extra": torch.ones(3)}, "fc.extra is unexpected"),
    (
        {"state_dict": below("net.", {k: v for k, v in NET.items() if k != "layer2.0.bn1.bias"})},
        "below 'state_dict.net': its",
    ),
    ({"features.0.weight": torch.ones(2)}, "have the names of no scheme, below no prefix"),
]


@pytest.mark.parametrize(("tree", "line"), NOT_ONE)
def test_what_fits_nowhere_is_refused_by_name(tree: Tree, line: str, tmp_path: Path) -> None:
    said = refusal(tree, tmp_path)
    assert line in said and "--spec" not in said


def test_one_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    tree = {
        "state_dict": {**below("module.encoder_q."), **below("module.encoder_k.", OTHER)},
        "epoch": 1,
    }
    assert refusal(tree, tmp_path).endswith(
        "holds 2 networks: encoder_q, encoder_k; say which with --part, as in --part encoder_q"
    )
    for part, wanted in (("encoder_q", NET), ("module.encoder_k", OTHER), ("encoder_k", OTHER)):
        assert same(found(tree, tmp_path, part).tensors, wanted)
    assert "did you mean 'encoder_k'?" in refusal(tree, tmp_path, "encoder_kk")
    assert "has no network in a part 'epoch'" in refusal(tree, tmp_path, "epoch")


@pytest.mark.parametrize("tree", [{"student": NET, "teacher": OTHER}, [NET, OTHER]])
def test_nothing_is_taken_where_several_could_be_meant(tree: object, tmp_path: Path) -> None:
    assert "holds 2 networks" in refusal(tree, tmp_path)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema", "ema_params", "swa_model"])
def test_the_average_is_left_out_and_can_be_asked_for(key: str, tmp_path: Path) -> None:
    tree = {"state_dict": NET, key: below("module.", OTHER)}
    it = found(tree, tmp_path)
    assert same(it.tensors, NET)
    assert f"the moving average in '{key}' is left out; --part {key} takes it" in it.notes
    for part in (key, "ema"):
        assert same(found(tree, tmp_path, part).tensors, OTHER)


def test_an_average_is_not_taken_for_a_model_that_does_not_fit(tmp_path: Path) -> None:
    broken = {name: it for name, it in NET.items() if name != "bn1.weight"}
    line = refusal({"state_dict": broken, "state_dict_ema": NET}, tmp_path)
    assert "in the moving average 'state_dict_ema' alone; --part state_dict_ema takes it" in line


def flax(prefix: str = "", add: float = 0.0) -> tuple[Tree, Tree]:
    """Return the nested parameters and statistics of a network on Flax."""
    tensors = to_file(PLAN, scheme("jax-resnet"), STATE)
    trees: tuple[Tree, Tree] = ({}, {})
    for name, it in tensors.items():
        collection, *path = name.split(".")
        node = trees[collection == "batch_stats"]
        for part in [*([prefix] if prefix else []), *path[:-1]]:
            node = node.setdefault(part, {})
        node[path[-1]] = torch.tensor(it + np.float32(add))
    return trees


def test_a_train_state_of_flax_is_taken_apart(tmp_path: Path) -> None:
    params, statistics = flax()
    wanted = to_file(PLAN, scheme("jax-resnet"), STATE)
    slots = {"0": {"trace": flax(add=5)[0]}, "1": {"ema": flax(add=1)[0]}}
    tree = {
        "step": 3,
        "params": params,
        "batch_stats": statistics,
        "opt_state": slots,
        "ema_params": flax(add=2)[0],
    }
    it = found({"state": tree}, tmp_path, "state.params")
    assert it.scheme.name == "jax-resnet" and same(it.tensors, wanted)
    average = found({"state": tree}, tmp_path, "ema_params").tensors
    moved = {name: a + 2 if name.startswith("params") else a for name, a in wanted.items()}
    assert same(average, moved)


def test_a_prefix_inside_the_collections_of_flax(tmp_path: Path) -> None:
    params, statistics = flax("backbone")
    it = found({"params": params, "batch_stats": statistics}, tmp_path)
    assert same(it.tensors, to_file(PLAN, scheme("jax-resnet"), STATE))


def test_a_training_network_of_mindspore_holds_moments_too(tmp_path: Path) -> None:
    spec = load_spec("resnet18", [f"stages[{i}].width=8" for i in range(4)])
    file = to_file(lower(spec), scheme("mindcv"), initial_state(lower(spec), 0))
    names = {name: f"network._backbone.{name}" for name in file}
    slots = {f"moments.{there}": file[n] for n, there in names.items() if "moving" not in n}
    write_weights(tmp_path / "w.ckpt", {**{names[n]: file[n] for n in file}, **slots})
    it = recognise_file(tmp_path / "w.ckpt")
    assert it.scheme.name == "mindcv" and same(it.tensors, file)


@pytest.mark.parametrize("step", ["exp_avg", "exp_avg_sq", "optimizer.exp_avg", "grads"])
def test_moments_that_are_named_as_weights_are_no_network(step: str, tmp_path: Path) -> None:
    tree = {**below("model."), **below(f"{step}.", OTHER)}
    it = found(tree, tmp_path)
    assert same(it.tensors, NET)
    assert it.notes == (f"taken from model; left out: {step.partition('.')[0]}",)
    assert "has no network in a part 'ema'" in refusal(tree, tmp_path, "ema")
    assert "has no network in a part" in refusal(tree, tmp_path, step)


@pytest.mark.parametrize("name", ["fc.weight", "layer1.0.conv1.weight"])
@pytest.mark.parametrize("kind", ["sparse", "complex", "float8"])
def test_a_tensor_that_cannot_be_read_is_not_taken_for_absent(
    name: str, kind: str, tmp_path: Path
) -> None:
    odd = {
        "sparse": lambda it: it.to_sparse(),
        "complex": lambda it: it.to(torch.complex64),
        "float8": lambda it: it.to(torch.float8_e4m3fn),
    }[kind](NET[name])
    text = refusal(below("net.", {**NET, name: odd}), tmp_path)
    assert f"net.{name} is a torch." in text and "save it as a dense tensor" in text
    beside = {"net": NET, "optimizer": {"slot": odd}}
    assert same(found(beside, tmp_path).tensors, NET)


def test_whole_numbers_for_weights_are_one_line(tmp_path: Path) -> None:
    torch.save({name: it.to(torch.int8) for name, it in NET.items()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"int8: must hold .*; and .* more$") as caught:
        load_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_a_part_of_a_file_with_one_network_is_refused(tmp_path: Path) -> None:
    line = "has no network in a part 'ema': it holds one alone; leave --part out"
    assert line in refusal(NET, tmp_path, "ema")


def test_a_dense_layer_behind_a_model_of_keras_is_its_classifier(tmp_path: Path) -> None:
    spec = load_spec("resnet50_v1", [f"stages[{i}].width=8" for i in range(4)])
    file = to_file(lower(spec), scheme("keras-applications"), initial_state(lower(spec), 0))
    nested = {
        name.replace("predictions.", "dense_1.")
        if name.startswith("predictions.")
        else f"resnet50.{name}": it
        for name, it in file.items()
    }
    write_weights(tmp_path / "w.npz", nested)
    it = recognise_file(tmp_path / "w.npz")
    assert it.scheme.name == "keras-applications" and same(it.tensors, file)
    assert it.notes == ("taken from resnet50 and dense_1",)


def test_an_own_checkpoint_gives_its_average_or_its_model(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    average = {f"ema/{name}": it + np.float32(1) for name, it in STATE.items()}
    save_checkpoint(path, Checkpoint(SPEC, {**STATE, **average}))
    for part, add in ((None, 1), ("ema", 1), ("model", 0)):
        loaded = load_weights(path, part=part)
        assert np.array_equal(loaded.state["fc.bias"], STATE["fc.bias"] + np.float32(add))
    with pytest.raises(CheckpointError, match="has no part 'emma'; did you mean 'ema'"):
        load_weights(path, part="emma")


def test_a_given_spec_is_looked_for_everywhere(tmp_path: Path) -> None:
    torch.save({"state_dict": below("a.b.", BODY)}, tmp_path / "w.pth")
    it = recognise_file(tmp_path / "w.pth", SPEC)
    assert (it.spec, it.has_classifier) == (SPEC, False)
    assert {taken.source for taken in it.open} <= {"spec", "scheme"}
    with pytest.raises(CheckpointError, match=r"below 'state_dict\.a\.b'.* not those of resnet18"):
        recognise_file(tmp_path / "w.pth", "resnet18")


def endless() -> Tree:
    tree: Tree = {}
    tree["again"] = tree
    return tree


HOSTILE: list[Callable[[], object]] = [
    endless,
    lambda: {str(i): {"layer1.0.conv1.weight": torch.zeros(1)} for i in range(500)},
    lambda: {"a": [[[[]]]] * 10_000},
]


@pytest.mark.parametrize("make", HOSTILE)
def test_a_hostile_tree_is_refused_in_little_time(
    make: Callable[[], object], tmp_path: Path
) -> None:
    assert refusal(make(), tmp_path)
