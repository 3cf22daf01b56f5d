"""What is read out of files and said of them, where a value stands on its border or is absent."""

from __future__ import annotations

import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.describing.presets import list_presets
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import loading, read_weights, write_weights
from resnet_spec.weights.files import flax_msgpack, hdf5, unwrapping
from resnet_spec.weights.files.folders import replacing_folder
from resnet_spec.weights.files.source import Origin, shown
from resnet_spec.weights.files.torch_pickle import _integer
from resnet_spec.weights.files.tree import as_integers
from resnet_spec.weights.files.zip_writing import opened_member
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.keras_applications import KERAS_APPLICATIONS
from resnet_spec.weights.naming.numbered_nodes import number_nodes
from resnet_spec.weights.published.hub import _with_revision
from resnet_spec.weights.recognising.assumed import assumed
from resnet_spec.weights.recognising.cover import Cover
from resnet_spec.weights.recognising.unseen import UnseenField, _unseen
from resnet_spec.weights.soundness import as_float32


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1])
def test_sizes_are_written_as_pickle_reads_them(value: int) -> None:
    assert pickle.loads(b"\x80\x02" + _integer(value) + b".") == value


@pytest.mark.parametrize(
    ("value", "found"),
    [((2, 3), (2, 3)), ([2], (2,)), ([], ()), (["2"], None), ([True], None), (2, None)],
)
def test_integers_are_lists_of_nothing_else(value: object, found: tuple[int, ...] | None) -> None:
    assert as_integers(value) == found


@pytest.mark.parametrize(
    ("text", "printed"),
    [("größe", "größe"), ("a\nb", "a\\nb"), ("\x1b[1m", "\\x1b[1m"), ("x" * 81, "x" * 77 + "...")],
)
def test_names_out_of_files_are_printed_as_they_are_unless_they_steer(
    text: str, printed: str
) -> None:
    assert shown(text) == printed


def test_a_commit_is_read_out_of_the_cache_s_path() -> None:
    path = "/c/models--a--b/snapshots/0123abc/model.safetensors"
    assert _with_revision(path) == (Path(path), "0123abc")
    assert _with_revision("/d/model.safetensors") == (Path("/d/model.safetensors"), "")


def test_every_fault_of_a_file_counts() -> None:
    shapes = {"b": (1,), "c": (2,), "d": (1,)}
    found = Cover({"a": (1,), "c": (1,)}, shapes, ("a",), ("b", "d"), ("c",))
    assert found.faults == 4
    assert not found.is_exact
    assert found.text(1).endswith(", and 3 more")


def test_blur_pools_are_spoken_of_where_others_have_such_names() -> None:
    own = UnseenField("stem.pool", True, "usual", ("stem.pool=false",))
    common = UnseenField("stem.pool", True, "usual", ("stem.pool=false",), is_common=True)
    said = "assumed: stem.pool = true (else --set stem.pool=false)"
    assert assumed([own]) == said
    assert assumed([common]) == f"{said}, no blur pools"


@pytest.mark.parametrize("name", list_presets())
def test_what_says_otherwise_is_a_setting_that_changes_the_network(name: str) -> None:
    spec = load_spec(name)
    for field, _, *settings in _unseen(spec):
        assert load_spec(name, settings) != spec, field


def test_what_the_child_says_is_no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_weights(path, {"conv1.weight": np.ones((2, 2, 1, 1), np.float32)}, "keras-h5")
    answer = (5).to_bytes(8, "little") + b"no ta"
    monkeypatch.setattr(hdf5, "run_child", lambda *_: (0, answer, ""))
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(path)


def test_images_of_keras_applications_are_less_their_mean_of_0_to_255() -> None:
    given = dict(KERAS_APPLICATIONS.conventions)["input"]
    assert [255 * value for value in given["mean"]] == pytest.approx([123.68, 116.779, 103.939])
    assert [255 * value for value in given["std"]] == pytest.approx([1.0] * 3)


def test_tensors_in_float32_are_not_copied_and_others_are_rounded(tmp_path: Path) -> None:
    single, double = np.ones(2, np.float32), np.full(2, 1.1)
    found = as_float32(tmp_path, {"a": single, "b": double})
    assert found["a"] is single
    assert found["b"].dtype == np.float32 and found["b"][0] == np.float32(1.1)
    with pytest.raises(CheckpointError, match=r"b = 1e\+39: is beyond the range of float32"):
        as_float32(tmp_path, {"a": single, "b": np.full(2, 1e39)})


def test_a_folder_of_weights_can_be_read_by_others(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "net") as folder:
        (folder / "a").write_bytes(b"1")
    assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o755


@pytest.mark.parametrize(("size", "version"), [(1 << 20, 20), (3 << 30, 45)])
def test_members_beyond_2_gib_are_those_of_zip64(size: int, version: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, opened_member(archive, "a", size) as member:
        member.write(b"1")
    assert path.read_bytes()[:6] == b"PK\3\4" + version.to_bytes(2, "little")


def test_what_is_nested_as_deeply_as_may_be_is_read(tmp_path: Path) -> None:
    tree: Any = {"leaf": 1}
    for _ in range(unwrapping._DEEPEST):
        tree = {"a": tree}
    origin = Origin(tmp_path, 1)
    assert [leaf for _, leaf in unwrapping._leaves(tree, "", origin, [0])] == [1]
    with pytest.raises(CheckpointError, match="is nested too deeply for weights"):
        list(unwrapping._leaves({"a": tree}, "", origin, [0]))


def test_an_array_of_a_whole_chunk_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    msgpack = pytest.importorskip("msgpack")
    monkeypatch.setattr(flax_msgpack, "_CHUNK", 16)
    whole, cut = (flax_msgpack._packed(np.zeros(n, np.float32), "float32", msgpack) for n in (4, 5))
    assert isinstance(whole, msgpack.ExtType) and isinstance(cut, dict)


def test_activations_of_mindvision_are_the_third_of_their_features() -> None:
    plan = lower(load_spec("resnet18"))
    modules = scheme("mindvision").paths(number_nodes(plan)).modules
    ends = {name: modules[name].rpartition("features.")[2] for name in ("conv1", "bn1", "act1")}
    assert ends == {"conv1": "0", "bn1": "1", "act1": "2"}


def test_weights_are_fetched_unless_told_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(source: str, *, download: bool) -> None:
        raise CheckpointError(f"{source}: {download}")

    monkeypatch.setattr(loading, "find", find)
    with pytest.raises(CheckpointError, match="a: True"):
        load_pretrained("a")
    with pytest.raises(CheckpointError, match="a: False"):
        load_pretrained("a", download=False)
