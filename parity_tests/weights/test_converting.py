"""Weights from file to file: bits kept, faults refused, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import State
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError, SpecError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import read_weights, write_weights
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from resnet_spec.weights.converting import convert, load_weights
from resnet_spec.weights.naming import SCHEMES, scheme
from resnet_spec.weights.naming.conventions import applied
from resnet_spec.weights.naming.lifting import to_file

CHECKPOINTS = Path(__file__).parents[3] / "shared" / "data" / "checkpoints"

SMALL = Spec.from_dict(
    {
        "name": "small",
        "classes": 5,
        "input": {"size": 32},
        "stem": {"widths": [8]},
        "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 2, "stride": 2}],
        "block": "bottleneck",
    }
)


def spec_for(*schemes: str) -> Spec:
    """Return the small network as the projects' code has it; later ones win."""
    spec = SMALL
    for name in schemes:
        spec = applied(scheme(name), spec)
    return spec


def state_of(spec: Spec, seed: int = 0) -> State:
    """Return weights whose every tensor is unlike every other, statistics included."""
    state = initial_state(lower(spec), seed)
    for i, (name, array) in enumerate(state.items()):
        draw = np.random.default_rng([seed, i]).uniform(0.5, 1.5, array.shape)
        if not name.endswith(("conv1.weight", "conv2.weight", "conv3.weight")):
            state[name] = draw.astype(np.float32)
    return state


def file_of(path: Path, spec: Spec, names: str, **changes: Any) -> Path:
    tensors = to_file(lower(spec), scheme(names), state_of(spec))
    write_weights(path, {**tensors, **changes})
    return path


def assert_equal(got: State, expected: State) -> None:
    assert got.keys() == expected.keys()
    assert all(np.array_equal(got[name], expected[name]) for name in expected)


def only(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


PAIRS = [
    ("timm", ".pth", "hf", ".safetensors"),
    ("timm", ".safetensors", "pycls", ".npz"),
    ("torchvision", ".pt", "hf-flax", ".msgpack"),
    ("hf-flax", ".msgpack", "jax-resnet", ".msgpack"),
    ("mindcv", ".ckpt", "mindvision", ".ckpt"),
    ("timm", ".pth", "canonical", ".npz"),
]


@pytest.mark.parametrize(("one", "ending", "other", "other_ending"), PAIRS)
def test_there_and_back_keeps_every_bit(
    tmp_path: Path, one: str, ending: str, other: str, other_ending: str
) -> None:
    spec = spec_for(one, other)
    first = file_of(tmp_path / f"first{ending}", spec, one)
    there = convert(first, tmp_path / f"there{other_ending}", to=other)
    back = convert(there.path, tmp_path / f"back{ending}", to=one)
    before, after = read_weights(first).tensors, read_weights(back.path).tensors
    assert list(after) == list(before)
    assert_equal(after, before)
    assert first.read_bytes() == back.path.read_bytes()
    for done in (there, back):
        assert (done.proof.difference, done.proof.rounded) == (0.0, 0)
        assert "logits equal bit by bit" in done.proof.line


ENDINGS = {
    "hf-flax": ".msgpack",
    "flax-imagenet": ".orbax",
    "jax-resnet": ".msgpack",
    "keras-hub": ".weights.h5",
    "keras-applications": ".h5",
    "keras-applications-rgb": ".h5",
    "mindcv": ".ckpt",
    "mindvision": ".ckpt",
    "mindspore-tutorial": ".ckpt",
}
"""The kind of file that a scheme's project writes; torch's for the others."""
OTHERS = {
    "akamaster": {"block": "basic", "expansion": 1, "shortcut": "zero_pad"},
    "kuangliu": {"block": "basic", "expansion": 1},
    "timm-v2": {"order": "pre_activation"},
    "canonical": {"shortcut": "projection_all", "squeeze": 0.25},
}


@pytest.mark.parametrize("names", SCHEMES)
def test_every_scheme_there_and_back_by_way_of_an_own_checkpoint(
    tmp_path: Path, names: str
) -> None:
    if ".h5" in ENDINGS.get(names, ""):
        pytest.importorskip("h5py")
    fields = {**SMALL.to_dict(), **OTHERS.get(names, {})}
    spec = applied(scheme(names), Spec.from_dict(fields))
    first = file_of(tmp_path / f"a{ENDINGS.get(names, '.pth')}", spec, names)
    loaded = load_weights(first, scheme=names).state
    assert all(array.flags.aligned and array.flags.c_contiguous for array in loaded.values())
    own = convert(first, tmp_path / "b.safetensors", names=names)
    assert own.proof.difference == 0.0
    assert_equal(load_checkpoint(own.path).state, state_of(spec))
    back = convert(own.path, tmp_path / f"c{ENDINGS.get(names, '.pth')}", to=names)
    assert back.proof.difference == 0.0
    assert_equal(read_weights(back.path).tensors, read_weights(first).tensors)


@pytest.mark.parametrize("names", ["timm", "mindcv", "flax-imagenet", "keras-hub"])
def test_an_own_checkpoint_carries_the_source_s_conventions(tmp_path: Path, names: str) -> None:
    ending = {"timm": ".pth", "mindcv": ".ckpt", "keras-hub": ".npz"}.get(names, ".msgpack")
    spec = spec_for(names)
    done = convert(file_of(tmp_path / f"a{ending}", spec, names), tmp_path / "b.safetensors")
    found = load_checkpoint(tmp_path / "b.safetensors")
    assert done.spec == found.spec
    assert_equal(found.state, state_of(spec))
    same = ("norm", "padding", "stride_position", "stages")
    assert [getattr(found.spec, it) for it in same] == [getattr(spec, it) for it in same]
    assert found.spec.stem == spec.stem


def test_folded_biases_keep_the_logits(tmp_path: Path) -> None:
    spec = spec_for("keras-applications")
    tensors = to_file(lower(spec), scheme("keras-applications"), state_of(spec))
    rng = np.random.default_rng(0)
    folded = {fold.name for fold in scheme("keras-applications").folds(lower(spec))}
    assert len(folded) == 12
    for name in folded:
        tensors[name] = rng.standard_normal(tensors[name].shape).astype(np.float32)
    write_weights(tmp_path / "a.npz", tensors)
    done = convert(tmp_path / "a.npz", tmp_path / "b.safetensors")
    assert 0 < done.proof.difference < 1e-5
    assert done.proof.rounded == 12
    assert "12 tensors are rounded to float32" in done.proof.line
    assert load_checkpoint(tmp_path / "b.safetensors").spec.norm.eps == 1.001e-5


def test_what_the_target_s_code_does_otherwise_is_refused(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.ckpt", spec_for("mindcv"), "mindcv")
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "b.pth", to="timm")
    (line,) = caught.value.problems
    assert "--to timm: its code has stem.pool_padding = explicit, and the logits would" in line
    assert "--set stem.pool_padding=explicit" in line
    only(tmp_path, "a.ckpt")
    done = convert(source, tmp_path / "b.pth", to="timm", settings=["stem.pool_padding=explicit"])
    assert any("the logits are not the source's" in note for note in done.notes)


def test_a_given_spec_gets_the_source_s_conventions(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.ckpt", SMALL, "mindcv")
    loaded = load_weights(source, SMALL)
    assert loaded.scheme == "mindcv"
    assert loaded.spec.stem.pool_padding == "same"
    assert loaded.spec.norm.variance == SMALL.norm.variance
    assert any("stem.pool_padding = same: mindcv's code fixes it" in it for it in loaded.notes)
    said = load_weights(source, SMALL, settings=["stem.pool_padding=explicit"])
    assert said.spec.stem.pool_padding == "explicit"


def test_an_own_checkpoint_loads_as_it_is(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(SMALL, state_of(SMALL)))
    loaded = load_weights(tmp_path / "a.safetensors")
    assert (loaded.spec, loaded.scheme, loaded.notes) == (SMALL, "canonical", ())
    assert_equal(loaded.state, state_of(SMALL))
    other = load_weights(tmp_path / "a.safetensors", settings=["stride_position=1x1"])
    assert other.notes == ("the network as given is another than the checkpoint's own",)
    with pytest.raises(CheckpointError, match=r"a checkpoint of small: .*must have"):
        load_weights(tmp_path / "a.safetensors", "resnet18")
    with pytest.raises(CheckpointError, match="leave --from out"):
        load_weights(tmp_path / "a.safetensors", scheme="mindcv")


def test_the_moving_average_is_taken_where_there_is_one(tmp_path: Path) -> None:
    average = {f"ema/{name}": array for name, array in state_of(SMALL, seed=1).items()}
    state = state_of(SMALL) | average
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(SMALL, state))
    assert_equal(load_weights(tmp_path / "a.safetensors").state, state_of(SMALL, seed=1))


def test_a_wide_file_is_rounded_once(tmp_path: Path) -> None:
    state = {name: array.astype(np.float64) / 3 for name, array in state_of(SMALL).items()}
    write_weights(tmp_path / "a.npz", state)
    done = convert(tmp_path / "a.npz", tmp_path / "b.safetensors")
    assert 0 < done.proof.difference < 1e-5
    assert any("are rounded to float32" in note for note in done.notes)
    rounded = {name: array.astype(np.float32) for name, array in state.items()}
    assert_equal(load_checkpoint(tmp_path / "b.safetensors").state, rounded)


def nan(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"bn1.bias": nan((8,))}, {}, r"bn1\.bias: 8 of 8 values are NaN or infinite"),
        ({"fc.extra": np.ones(3, np.float32)}, {}, r"fc\.extra is unexpected"),
        ({"bn1.bias": np.ones(9, np.float32)}, {}, r"bn1\.bias = \[9\] must have shape \[8\]"),
        ({"bn1.bias": np.ones(8, np.int64)}, {}, r"bn1\.bias = int64: must hold floating-point"),
        ({}, {"spec": "resnet18"}, r"are not those of resnet18: by timm's names"),
        ({}, {"spec": SMALL, "settings": ["classes=4"]}, r"fc\.weight = \[5, 48\] must have shape"),
        ({}, {"names": "hf"}, r"of no scheme|of no residual network"),
        ({}, {"names": "timmm"}, r"timmm: is no naming scheme; did you mean 'timm'"),
        ({}, {"to": "akamaster"}, r"akamaster: has basic blocks only"),
        ({}, {"to": "kuangliu"}, r"--to kuangliu: its code has stem\.stride = 1"),
        ({}, {"to": "timm", "kind": "zip"}, r"kind = zip: is no kind of weight file"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    source = file_of(tmp_path / "a.npz", SMALL, "timm", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(source, tmp_path / "b.safetensors", **options)
    assert len(caught.value.problems) == 1
    only(tmp_path, "a.npz")


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.npz", SMALL, "timm")
    with pytest.raises(SpecError, match="blokc"):
        load_weights(source, settings=["blokc=basic"])


def test_a_file_that_exists_is_kept_where_the_new_one_is_refused(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.npz", SMALL, "timm", **{"bn1.bias": nan((8,))})
    (tmp_path / "b.safetensors").write_bytes(b"before")
    with pytest.raises(CheckpointError):
        convert(source, tmp_path / "b.safetensors", overwrite=True)
    assert (tmp_path / "b.safetensors").read_bytes() == b"before"


def test_a_folder_of_weights_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    spec, to = spec_for("flax-imagenet"), tmp_path / "net.orbax"
    for i in (1, 2):
        bias = np.full(8, i, np.float32)
        source = file_of(tmp_path / f"{i}.npz", spec, "canonical", **{"bn1.bias": bias})
        convert(source, to, spec=spec, names="canonical", to="flax-imagenet", overwrite=True)
    assert np.array_equal(load_weights(to).state["bn1.bias"], np.full(8, 2))
    only(tmp_path, "1.npz", "2.npz", "net.orbax")


def test_the_new_file_s_name_must_say_what_it_is(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.npz", SMALL, "timm")
    with pytest.raises(CheckpointError, match=r"b\.pth: needs to know whose names to write"):
        convert(source, tmp_path / "b.pth")
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "b.foo", to="timm")
    assert str(caught.value).startswith(f"{tmp_path / 'b.foo'}: ")
    only(tmp_path, "a.npz")


def test_a_wrong_write_is_caught_by_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(path: Path, tensors: State, kind: str | None = None) -> None:
        names = {"layer2.0.bn1.weight": "layer2.0.bn1.bias"}
        names |= {other: name for name, other in names.items()}
        write_weights(path, {names.get(name, name): a for name, a in tensors.items()}, kind)

    monkeypatch.setattr("resnet_spec.weights.converting.write_weights", swapped)
    source = file_of(tmp_path / "a.npz", SMALL, "timm")
    with pytest.raises(CheckpointError, match=r"layer2\.0\.bn1\.weight: the written file does not"):
        convert(source, tmp_path / "b.pth", to="timm")
    only(tmp_path, "a.npz")


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("resnet20-12fca82f.th", "resnet20_cifar"),
        ("resnet56-4bfd9763.th", "resnet56_cifar"),
    ],
)
def test_published_checkpoints_are_recognised(tmp_path: Path, file: str, preset: str) -> None:
    path = CHECKPOINTS / file
    if not path.is_file():
        pytest.skip(f"{file}, a published checkpoint, is not in {CHECKPOINTS}")
    done = convert(path, tmp_path / "a.safetensors")
    assert (done.source.scheme.name, done.spec.name) == ("akamaster", preset)
    expected = load_spec(preset, ["zero_pad_at=both"]).to_dict()
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert done.spec.to_dict() == {**expected, "input": {**expected["input"], **statistics}}
    assert done.proof.difference == 0.0
    back = convert(tmp_path / "a.safetensors", tmp_path / "b.th", to="akamaster")
    assert_equal(read_weights(back.path).tensors, read_weights(path).tensors)
