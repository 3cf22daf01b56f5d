"""Who is measured: backends, peers by name, a person's own; and whether a network is a preset's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import load_spec
from resnet_spec.benchmarking import entries
from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry, entries_of, peers
from resnet_spec.errors import BackendError
from resnet_spec.loader import installed_backends, manifest_of
from resnet_spec.manifest_bench import Peer


def refused(*given: Any) -> str:
    with pytest.raises(BackendError) as raised:
        entries_of(*given)
    (line,) = raised.value.problems
    return line


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Peer]:
    """Peers of which one is there, one is not, and one only predicts."""
    found = {
        "here": Peer("numpy", "a.b:c", ("json",)),
        "absent": Peer("numpy", "a.b:d", ("no_such_package",), "pip install it"),
        "predictor": Peer("", "a.b:e", (), modes=("predict",)),
    }
    monkeypatch.setattr(entries, "peers", lambda: found)
    return found


def test_backends_come_first_and_peers_as_they_are_named(known: dict[str, Peer]) -> None:
    found = entries_of(["numpy"], ["predictor", "here"], "predict", "float32")
    assert found.left_out == []
    assert found.all == [
        Entry("numpy", "numpy"),
        Entry("predictor", "", "a.b:e"),
        Entry("here", "numpy", "a.b:c"),
    ]
    assert [entry.is_ours for entry in found.all] == [True, False, False]


def test_who_cannot_be_started_is_left_out_with_a_line(known: dict[str, Peer]) -> None:
    found = entries_of(["numpy"], ["absent", "predictor", "here"], "train", "float32")
    assert [entry.name for entry in found.all] == ["numpy", "here"]
    assert found.left_out == [
        "absent: left out: no_such_package, not installed; run: pip install it",
        "predictor: left out: it does not train, but predicts",
    ]


def test_an_unknown_peer_is_told_the_nearest_and_who_is_there(known: dict[str, Peer]) -> None:
    line = refused(["numpy"], ["hear"], "train", "float32")
    remedy = "did you mean 'here'? installed to train: here; or give package.module:factory"
    assert line == f"--against = hear: is no peer; {remedy}"
    line = refused(["numpy"], ["xyzzy"], "predict", "float32")
    assert line.startswith("--against = xyzzy: is no peer; installed to predict: here, predictor;")
    assert refused(["numpy"], ["torch"], "train", "float32").endswith("give it to --backends")


def test_names_are_given_once_and_a_factory_in_its_form(
    known: dict[str, Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(["numpy", "numpy"], [], "train", "float32")
    assert line == "--backends = numpy: is named twice; name it once"
    line = refused(["numpy"], ["here", "here"], "train", "float32")
    assert line == "--against = here: is named twice; name it once"
    line = refused(["numpy"], ["a b:c"], "train", "float32")
    assert line == "--against = a b:c: must be package.module:factory"
    line = refused(["numpy"], ["not_here:make"], "train", "float32")
    assert "there is no module not_here; run it from the folder of not_here" in line
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise SystemExit  # Nobody imports it to look at its name.")
    own = entries_of(["numpy"], ["mine:make"], "train", "float32").all[1]
    assert own == Entry("mine:make", "", "mine:make") and not own.is_ours


def test_a_backend_must_compute_in_the_precision() -> None:
    line = refused(["numpy"], [], "train", "bfloat16")
    assert line.startswith("--precision = bfloat16: numpy computes in float32, float64")
    assert "did you mean 'numpy'" in refused(["nunpy"], [], "train", "float32")


def test_two_backends_that_claim_a_peer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "RUNTIMES", {"timm": Peer("", "a:b")})
    with pytest.raises(BackendError, match="peer = timm: is claimed by this project and torch"):
        peers()


def test_peers_are_listed_without_importing_a_framework() -> None:
    code = (
        "import sys\nfrom resnet_spec.benchmarking.entries import peers\n"
        "assert {'torchvision', 'timm', 'linen', 'mindcv', 'onnxruntime'} <= set(peers())\n"
        "assert not {'torch', 'jax', 'mindspore', 'onnxruntime'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("backend", installed_backends())
def test_functions_that_a_manifest_names_are_there(backend: str) -> None:
    import importlib

    found = manifest_of(backend)
    if found is None:
        pytest.skip(f"{backend} comes without a manifest")
    named = [found.bench.product, found.bench.memory]
    named += [peer.make for peer in found.bench.peers.values()]
    for target in filter(None, named):
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), target


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ([], "resnet18"),
        (["classes=10", "input.size=32"], "resnet18"),
        (["stride_position=1x1"], ""),
        (["norm.eps=1e-3"], ""),
    ],
)
def test_a_changed_network_is_no_preset_for_who_knows_presets_by_name(
    settings: list[str], preset: str
) -> None:
    assert (
        Asked(load_spec("resnet50" if "stride" in str(settings) else "resnet18", settings)).preset
        == preset
    )


def test_a_question_is_read_back_as_it_was_asked() -> None:
    asked = Asked(load_spec("resnet18", ["classes=10"]), "predict", 3, "float64", "cpu", 2, 7, 0.5)
    assert Asked.from_dict(asked.to_dict()) == asked
    assert asked.title == "predict resnet18, 224 px, batch 3, float64"
