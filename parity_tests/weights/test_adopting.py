"""Pretrained weights in a network of one's own: the head, refusals, and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.contract import State
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import dump_json, load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.adopting import adopt
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint
from resnet_spec.weights.loading import Pretrained, load_pretrained
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file

STEM = {"widths": [4], "kernel": 3, "stride": 1, "pool": False}
SPEC = {
    "name": "tiny",
    "block": "basic",
    "classes": 7,
    "input": {"size": 16},
    "stem": STEM,
    "stages": [{"width": 4, "blocks": 1}, {"width": 8, "blocks": 1, "stride": 2}],
}


def spec(**changes: object) -> Spec:
    return load_spec({**SPEC, **changes})


@pytest.fixture(scope="module")
def state() -> State:
    return initial_state(lower(spec()), seed=3)


@pytest.fixture(scope="module")
def folder(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the weights in two schemes, one of which fixes the images' mean."""
    made = tmp_path_factory.mktemp("weights")
    plan = lower(spec())
    for name in ("timm", "kuangliu"):
        write_weights(made / f"{name}.pth", to_file(plan, scheme(name), state))
    (made / "tiny.json").write_text(dump_json(spec()))
    (made / "same.json").write_text(dump_json(spec(padding="same")))
    return made


@pytest.fixture(scope="module")
def kuangliu(folder: Path) -> Pretrained:
    return load_pretrained(folder / "kuangliu.pth")


def test_equal_classes_keep_the_head(kuangliu: Pretrained, state: State) -> None:
    adopted = adopt(kuangliu, spec())
    assert adopted.notes == ()
    assert adopted.state.keys() == state.keys()
    assert all(np.array_equal(adopted.state[name], state[name]) for name in state)


@pytest.mark.parametrize(("classes", "head"), [(10, "auto"), (10, "replace"), (7, "replace")])
def test_a_head_is_drawn_anew_from_the_seed(
    classes: int, head: str, kuangliu: Pretrained, state: State
) -> None:
    wanted = spec(classes=classes)
    adopted = adopt(kuangliu, wanted, head=head, seed=5)  # pyright: ignore[reportArgumentType]
    assert adopted.notes == (f"fc: 7 -> {classes} classes, drawn anew from seed 5",)
    drawn = initial_state(lower(wanted), seed=5)
    for name, array in adopted.state.items():
        expected = drawn if name.startswith("fc.") else state
        assert np.array_equal(array, expected[name]), name


def test_a_head_that_must_be_kept_and_cannot_is_refused(kuangliu: Pretrained) -> None:
    with pytest.raises(CheckpointError, match="--head = keep: the weights have 7 classes, and 10"):
        adopt(kuangliu, spec(classes=10), head="keep")


def test_classes_are_matched_by_name_unless_they_are_ignored(
    kuangliu: Pretrained, state: State
) -> None:
    names = tuple("abcdefg")
    checkpoint = Checkpoint(kuangliu.spec, kuangliu.state, class_names=names)
    named = replace(kuangliu, checkpoint=checkpoint)
    adopted = adopt(named, spec(), classes=names[::-1])
    assert np.array_equal(adopted.state["fc.weight"], state["fc.weight"][::-1])
    adopted = adopt(named, spec(), classes=names[::-1], ignore_classes=True)
    assert np.array_equal(adopted.state["fc.weight"], state["fc.weight"])


def test_the_mean_is_the_weights_unless_it_was_set(kuangliu: Pretrained) -> None:
    adopted = adopt(kuangliu, spec())
    assert adopted.spec.input.mean == (0.4914, 0.4822, 0.4465)
    own = {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    adopted = adopt(kuangliu, spec(input=own))
    assert adopted.spec.input.mean == (0.5, 0.5, 0.5)
    assert [note.partition(":")[0] for note in adopted.notes] == [
        "input.mean = [0.5, 0.5, 0.5]",
        "input.std = [0.5, 0.5, 0.5]",
    ]


def test_every_tensor_that_does_not_fit_is_listed_or_counted(kuangliu: Pretrained) -> None:
    with pytest.raises(CheckpointError) as caught:
        adopt(kuangliu, spec(shortcut="zero_pad", classes=10))
    first, *lines = caught.value.problems
    assert first.endswith("is custom, and its tensors do not fit tiny")
    projection = [name for name in kuangliu.state if ".downsample." in name]
    assert sorted(line.partition(":")[0] for line in lines) == sorted(projection)
    wider = [{"width": 4, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]
    with pytest.raises(CheckpointError) as caught:
        adopt(kuangliu, spec(stages=wider, classes=10))
    first, line = caught.value.problems
    assert first.endswith("is custom, and its tensors do not fit tiny")
    stage = [name for name in kuangliu.state if name.startswith("layer2.")]
    assert f"tensors: {len(stage)} do not fit ({len(stage)} of another shape)" in line


CONVENTIONS = [
    ({"padding": "same"}, "--set padding=explicit"),
    ({"norm": {"eps": 1e-3}}, "--set norm.eps=1e-05"),
    ({"stem": {**STEM, "pool": True}}, "--set stem.pool=false"),
    (
        {"stem": {**STEM, "padding": "same", "stride": 2}},
        "--set stem.padding=explicit --set stem.stride=1",
    ),
]


@pytest.mark.parametrize(("changes", "remedy"), CONVENTIONS)
def test_other_conventions_are_refused_in_one_line(
    changes: dict[str, object], remedy: str, kuangliu: Pretrained
) -> None:
    with pytest.raises(CheckpointError) as caught:
        adopt(kuangliu, spec(**changes))
    (line,) = caught.value.problems
    assert line.endswith(f"leave the spec out, or say {remedy}")


def test_other_conventions_that_were_set_are_told(kuangliu: Pretrained) -> None:
    adopted = adopt(kuangliu, spec(padding="same"), settings=["padding=same"])
    (note,) = adopted.notes
    assert note.startswith("padding = same:") and "the logits are not theirs" in note


def test_training_may_differ_and_is_told(kuangliu: Pretrained) -> None:
    (note,) = adopt(kuangliu, spec(norm={"decay": 0.99})).notes
    assert note.startswith("norm.decay = 0.99:") and note.endswith("(training differs)")


def test_a_checkpoint_fixes_what_tensors_do_not_show(tmp_path: Path, state: State) -> None:
    from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "own.safetensors", Checkpoint(spec(), state))
    weights = load_pretrained(tmp_path / "own.safetensors")
    assert adopt(weights, spec()).notes == ()
    with pytest.raises(CheckpointError, match=r"has stem.stride = 2.* has stem.stride = 1"):
        adopt(weights, spec(stem={**STEM, "stride": 2}))


def test_a_session_with_pretrained_weights(folder: Path, state: State) -> None:
    made = resnet_spec.session(
        SPEC, "numpy", "fine-tune", classes=3, seed=4, pretrained=folder / "kuangliu.pth"
    )
    found = made.state()
    assert np.array_equal(found["conv1.weight"], state["conv1.weight"])
    head = initial_state(lower(spec(classes=3)), seed=4)["fc.weight"]
    assert np.array_equal(found["fc.weight"], head)


def train(folder: Path, out: Path, *more: str) -> int:
    options = ["--data", "synthetic", "--input-size", "8", "--set", "steps=1", "--set", "batch=4"]
    weights = ["--pretrained", str(folder / "kuangliu.pth"), "--backend", "numpy"]
    return main(["train", *more, *weights, *options, "--recipe", "fine-tune", "--out", str(out)])


def test_train_with_pretrained_weights_is_one_command(
    folder: Path, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ["--freeze", "stages=1", "--head-rate", "10"]
    assert train(folder, out, str(folder / "tiny.json"), *more) == 0
    shown = capsys.readouterr().out
    assert "note: fc: 7 -> 10 classes, drawn anew from seed 0" in shown
    best = load_checkpoint(out / "best.safetensors")
    assert np.array_equal(best.state["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert not np.array_equal(best.state["layer2.0.conv1.weight"], state["layer2.0.conv1.weight"])
    assert best.recipe is not None
    assert (best.recipe.freeze, best.recipe.head_rate) == ("stages=1", 10.0)
    assert best.spec.input.mean == (0.4914, 0.4822, 0.4465)
    record = json.loads((out / "pretrained.json").read_text())
    assert record["scheme"] == "kuangliu" and len(record["sha256"]) == 64


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--head", "keep"], "--head = keep: the weights have 7 classes"),
        (["same.json"], "--set padding=explicit"),
        (["--freeze", "stages=3"], "freeze = stages=3: the network has 2 stages"),
        (["--freeze", "head"], "freeze = head: must be none, stem, stages=N"),
        (["--head-rate", "0"], "head_rate = 0"),
    ],
)
def test_a_refusal_leaves_the_old_run_alone(
    more: list[str], line: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last.safetensors").write_bytes(b"old")
    arguments = [str(folder / it) if it.endswith(".json") else it for it in more]
    assert train(folder, tmp_path, *arguments, "--overwrite") == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_options_without_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--backend", "numpy", "--out", str(tmp_path / "x")]) == 2
    assert "SPEC: is required without --pretrained" in capsys.readouterr().err
    assert main(["train", "resnet18", "--backend", "numpy", "--head", "keep"]) == 2
    assert "--head: is of pretrained weights" in capsys.readouterr().err
    assert main(["evaluate", "--backend", "numpy"]) == 2
    assert "one must be given, and neither is" in capsys.readouterr().err


def test_evaluate_and_predict_take_foreign_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(np.full((20, 12, 3), 90, np.uint8)).save(image)
    file, tail = str(folder / "kuangliu.pth"), ["--backend", "numpy", "--format", "json"]
    assert main(["predict", file, str(image), *tail]) == 0
    positional = capsys.readouterr().out
    assert main(["predict", str(image), "--pretrained", file, *tail]) == 0
    assert capsys.readouterr().out == positional
    assert main(["evaluate", file, "--backend", "numpy"]) == 2
    assert "--data: is required" in capsys.readouterr().err
    assert main(["evaluate", file, *tail, "--data", "synthetic"]) == 2
    assert "has 10 classes, and the network was made for 7" in capsys.readouterr().err
    small = ["--set", "input.size=8", "--data", "digits", "--spec", str(folder / "tiny.json")]
    assert main(["evaluate", file, *tail, *small]) == 2
    assert "digits: has 10 classes" in capsys.readouterr().err


def test_evaluate_writes_predictions(
    tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    ten = {**initial_state(lower(spec(classes=10))), "fc.weight": np.zeros((10, 8), np.float32)}
    ten["fc.bias"] = np.zeros(10, np.float32)  # Every image is a tie.
    write_weights(tmp_path / "w.pth", to_file(lower(spec(classes=10)), scheme("timm"), ten))
    out = tmp_path / "found" / "p.npz"
    options = ["--data", "synthetic", "--set", "input.size=8", "--out", str(out)]
    assert main(["evaluate", str(tmp_path / "w.pth"), "--backend", "numpy", *options]) == 0
    shown = capsys.readouterr().out
    assert "note: input.mean, input.std: the weights do not say; those of synthetic" in shown
    assert "512 images, 512 ties" in shown
    with np.load(out) as found:
        assert found["predictions"].tolist() == [0] * 512
        assert not found["margins"].any() and found["labels"].shape == (512,)


def test_list_pretrained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--pretrained", "resnet50.tv*"]) == 0
    shown = capsys.readouterr().out
    assert "resnet50.tv2_in1k  torchvision    224  232  bilinear  80.858  95.434" in shown
    assert main(["list", "--pretrained", "resnet50.tv*", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["resnet50.tv_in1k", "resnet50.tv2_in1k"]
    assert main(["list", "--pretrained", "resnet51"]) == 2
    assert "matches no published weights; did you mean 'resnet" in capsys.readouterr().err


def test_parity_takes_weights_in_place_of_a_spec_or_with_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(folder / "kuangliu.pth")
    tail = ["--input-size", "8", "--backends", "numpy", "--level", "names", "--format", "json"]
    for words in (
        [file],
        ["--pretrained", file],
        [str(folder / "tiny.json"), "--pretrained", file],
    ):
        assert main(["parity", *words, *tail]) == 0, words
        assert json.loads(capsys.readouterr().out)["verdict"] == "agree"
    for words, line in (
        ([file, "--pretrained", file], "both are weights; leave one out"),
        ([file, "--classes", "3"], "has its own 7"),
        ([str(folder / "same.json"), "--pretrained", file], "--set padding=explicit"),
        ([], "SPEC, --pretrained: one must be given"),
    ):
        assert main(["parity", *words, *tail]) == 2
        assert line in capsys.readouterr().err
