"""Published weights: the table, and from a name to a file: downloads, digests, the hub."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Server

from resnet_spec.data import load_data
from resnet_spec.data.at_size import viewed
from resnet_spec.data.views import View, central
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.costs import count_params
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file
from resnet_spec.weights.published import PUBLISHED, Published, published, with_digest
from resnet_spec.weights.published.entry import HUB
from resnet_spec.weights.published.finding import find
from resnet_spec.weights.published.hub import HubAddress

# Millions of parameters, of timm's results-imagenet.csv.
MILLIONS = {
    "resnet10t": 5.44,
    "resnet14t": 10.08,
    "resnet18": 11.69,
    "resnet18d": 11.71,
    "resnet26": 16.00,
    "resnet26d": 16.01,
    "resnet26t": 16.01,
    "resnet34": 21.80,
    "resnet34d": 21.82,
    "resnet50": 25.56,
    "resnet50c": 25.58,
    "resnet50d": 25.58,
    "resnet50s": 25.68,
    "resnet101": 44.55,
    "resnet101c": 44.57,
    "resnet101d": 44.57,
    "resnet101s": 44.67,
    "resnet152": 60.19,
    "resnet152c": 60.21,
    "resnet152d": 60.21,
    "resnet152s": 60.32,
    "resnet200d": 64.69,
    "wide_resnet50_2": 68.88,
    "wide_resnet101_2": 126.89,
    "resnext50_32x4d": 25.03,
    "resnext50d_32x4d": 25.05,
    "resnext101_32x4d": 44.18,
    "resnext101_64x4d": 83.46,
    "resnext101_32x8d": 88.79,
    "resnext101_32x16d": 194.03,
    "seresnet50": 28.09,
    "seresnet152d": 66.84,
    "seresnext50_32x4d": 27.56,
    "seresnext101_32x4d": 48.96,
    "seresnext101_32x8d": 93.57,
    "seresnext101_64x4d": 88.23,
    "resnetv2_50": 25.55,
    "resnetv2_101": 44.54,
}
# Of MindCV, which counts the running statistics, too; of its seresnet18 the README says 11.80, and
# the network that its code makes has 11,789,224.
WITH_STATISTICS = {"resnext152_64x4d": 115.27, "seresnet18": 11.79}
# No count is published beside their weights.
UNCOUNTED = {
    *("resnetv2_18", "resnetv2_18d", "resnetv2_34", "resnetv2_34d"),
    *("seresnet34", "seresnext26_32x4d"),
}


@pytest.mark.parametrize("network", sorted({name.partition(".")[0] for name in PUBLISHED}))
def test_every_entry_is_a_network_whose_scheme_names_it(network: str) -> None:
    entries = [it for it in PUBLISHED.values() if it.name.partition(".")[0] == network]
    for entry in {it.names: it for it in entries}.values():
        plan = lower(entry.spec())
        assert len(scheme(entry.names).in_file(plan)) == len(plan.tensors)
        params = count_params(plan.tensors) / 1e6
        if network in WITH_STATISTICS:
            params = sum(math.prod(tensor.shape) for tensor in plan.tensors) / 1e6
            assert params == pytest.approx(WITH_STATISTICS[network], abs=0.006)
        elif network not in UNCOUNTED:
            assert params == pytest.approx(MILLIONS[network], abs=0.0051)


def test_every_entry_says_what_is_known() -> None:
    assert {it.names for it in PUBLISHED.values()} == {
        *("torchvision", "timm", "timm-v2", "hf", "mindcv", "mindvision"),
    }
    for entry in PUBLISHED.values():
        network, _, tag = entry.name.partition(".")
        assert network and tag
        assert entry.address.startswith(("https://", HUB))
        assert (entry.top1 is None) == (entry.top5 is None)
        assert entry.top1 is None or 60 < entry.top1 < (entry.top5 or 0) < 100
        assert entry.view.crop <= entry.view.side
        has_none = entry.address.startswith(HUB) or entry.names == "mindvision"
        assert (entry.sha256 == "") == has_none, entry.name
        if entry.address.startswith(HUB):
            assert str(HubAddress.parse(entry.address)) == entry.address
    files = [it.file for it in PUBLISHED.values() if not it.address.startswith(HUB)]
    assert len(set(files)) == len(files), "they share one folder"


def test_an_entry_s_spec_has_its_images_and_what_its_code_fixes() -> None:
    spec = published("resnet50.mindcv_in1k").spec()
    assert (spec.name, spec.input.size, spec.stem.pool_padding) == ("resnet50", 224, "same")
    assert spec.input.mean == (0.485, 0.456, 0.406)
    spec = published("resnetv2_50.a1h_in1k").spec()
    assert (spec.input.size, spec.input.mean, spec.input.std) == (288, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("resnet50.a1_in1", "did you mean 'resnet50.a1_in1k'?"),
        ("resnet26t", "is a network, and weights have a tag, too; resnet26t. with ra2_in1k"),
        ("nothing.pth", "nothing.pth: there is no such file"),
        ("some/where", "some/where: there is no such file"),
        ("hf:one", "hf:one: must be of the form hf:OWNER/NAME[/FILE][@REVISION]"),
        ("hf:one/../two", "must be of the form"),
    ],
)
def test_what_is_no_weights_gives_one_line(name: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find(name, root=tmp_path)
    assert len(caught.value.problems) == 1 and line in str(caught.value)


def test_a_name_of_no_repository_gives_one_line(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    with pytest.raises(CheckpointError, match=r"^pretrained = hf:a/-b: Repo id must use") as caught:
        find("hf:a/-b", root=tmp_path)
    assert len(caught.value.problems) == 1


def test_an_address_on_the_hub() -> None:
    assert HubAddress.parse("hf:a/b.c") == HubAddress("a/b.c", "", "main")
    assert HubAddress.parse("hf:a/b/c/d.bin@v1") == HubAddress("a/b", "c/d.bin", "v1")
    assert str(HubAddress("a/b", "c", "v1")) == "hf:a/b/c@v1"


TINY = {"block": "basic", "stages": [{"width": 4, "blocks": 1}], "stem": {"widths": [4]}}


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    """Return a small weight file's bytes."""
    plan = lower(load_spec(TINY))
    path = tmp_path / "source.pth"
    write_weights(path, to_file(plan, scheme("timm"), initial_state(plan)))
    return path.read_bytes()


@pytest.fixture
def entry(server: Server, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Return an entry of the table whose file the server has."""
    server.content = weights
    digits = hashlib.sha256(weights).hexdigest()[:8]
    file = f"{server.base}tiny-{digits}.pth"
    made = replace(published("resnet18.tv_in1k"), name="tiny.test", address=file)
    monkeypatch.setitem(PUBLISHED, "tiny.test", made)
    return made


@pytest.mark.parametrize("resumes", [True, False])
def test_a_download_is_resumed_checked_and_kept(
    entry: Published,
    server: Server,
    weights: bytes,
    tmp_path: Path,
    resumes: bool,
) -> None:
    server.cut = 1000
    with pytest.raises(CheckpointError, match=r"ended after 1000 of \d+ bytes; run again to res"):
        find("tiny.test", root=tmp_path)
    server.cut, server.resumes = None, resumes
    found, again = (find("tiny.test", root=tmp_path) for _ in range(2))
    assert found == again
    assert found.path == tmp_path / "weights" / entry.file
    assert found.path.read_bytes() == weights
    assert [path.name for path in found.path.parent.iterdir()] == [entry.file]
    assert server.asked == [None, "bytes=1000-"]
    assert found.notes == () and found.entry is entry


def test_a_wrong_digest_leaves_nothing(
    entry: Published,
    server: Server,
    weights: bytes,
    tmp_path: Path,
) -> None:
    server.content = weights[:-1] + b"?"
    with pytest.raises(CheckpointError, match=f"not {entry.sha256}...; the file was removed"):
        find("tiny.test", root=tmp_path)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_file_placed_by_hand_is_checked_and_kept(entry: Published, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / entry.file).write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"is not tiny.test, whose .*; remove or rename it"):
        find("tiny.test", root=tmp_path)
    assert (tmp_path / "weights" / entry.file).read_bytes() == b"other"


def test_without_a_digest_the_one_found_is_told(
    entry: Published,
    weights: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = entry.address.replace(f"-{entry.sha256}", "")
    monkeypatch.setitem(PUBLISHED, "tiny.test", replace(entry, address=address))
    digest = hashlib.sha256(weights).hexdigest()
    note = f"tiny.test: no digest is published; the SHA-256 found is {digest}"
    assert find("tiny.test", root=tmp_path).notes == (note,)


def test_a_local_file_is_known_by_its_digest(entry: Published, tmp_path: Path) -> None:
    found = find(str(tmp_path / "source.pth"), root=tmp_path)
    assert found.entry is entry
    assert found.notes == ("source.pth is tiny.test, by its digest",)
    assert with_digest("0" * 64) is None


def test_published_weights_of_a_thousand_classes_name_them(
    entry: Published, tmp_path: Path
) -> None:
    loaded = load_pretrained(tmp_path / "source.pth", spec=TINY)
    assert loaded.entry is entry and loaded.spec.classes == 1000
    assert [loaded.class_names[i] for i in (0, 281, 999)] == ["tench", "tabby", "toilet tissue"]
    assert len(set(loaded.class_names)) == 1000
    assert replace(loaded, entry=None).class_names == ()


def test_offline_one_line_says_what_to_place_where(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find("resnet18.tv_in1k", root=tmp_path, download=False)
    address = PUBLISHED["resnet18.tv_in1k"].address
    assert str(caught.value) == (
        f"resnet18.tv_in1k: {tmp_path}/weights/resnet18-f37072fd.pth is missing and was not "
        f"downloaded (downloads are off); get it from {address} and place it there"
    )


def test_offline_the_hub_s_file_may_be_placed_by_hand(tmp_path: Path, weights: bytes) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    place = tmp_path / "weights" / "microsoft--none-18" / "model.safetensors"
    with pytest.raises(CheckpointError) as caught:
        find("hf:microsoft/none-18", root=tmp_path, download=False)
    assert str(caught.value).startswith(
        "pretrained = hf:microsoft/none-18: was not downloaded (downloads are off); get https://"
    )
    assert str(caught.value).endswith(f"/model.safetensors and place it at {place}")
    place.parent.mkdir(parents=True)
    place.write_bytes(weights)
    found = find("hf:microsoft/none-18", root=tmp_path, download=False)
    assert found.path == place
    assert "placed by hand" in found.notes[0] and "SHA-256 found is" in found.notes[1]


def test_a_view_is_what_torchvision_s_transforms_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    view = published("resnet50.tv2_in1k").view
    # Resize(232 * 100 / 224), CenterCrop(100): floors and halves as there.
    scaled = image.resize((137, 103), Image.Resampling.BILINEAR).crop((18, 2, 118, 102))
    assert np.array_equal(central(image, 100, view), np.asarray(scaled))
    bicubic = replace(view, interpolation="bicubic")
    assert not np.array_equal(central(image, 100, bicubic), np.asarray(scaled))
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        image.save(tmp_path / part / "a" / "x.png")
    for asked, side in ((view, view), (None, View())):
        test = viewed(load_data(tmp_path, size=100), asked).test
        assert np.array_equal(test.images(np.array([0]))[0], central(image, 100, side))


COMMIT = "c" * 40


@pytest.fixture
def hub(weights: bytes) -> Iterator[str]:
    """Return the address of a server that answers as the hub does, for one repository."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            is_there = self.path == "/some/tiny/resolve/main/pytorch_model.bin"
            self.send_response(200 if is_there else 404)
            if not is_there:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(weights).hexdigest()}"')
            self.send_header("Content-Length", str(len(weights) if is_there else 0))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(weights)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_comes_from_the_hub_and_is_kept(hub: str, tmp_path: Path) -> None:
    """The library reads its settings when it is imported: in a process of its own."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    code = (
        "import json, sys\n"
        "from resnet_spec.weights.published.finding import find\n"
        "found = [find('hf:some/tiny', download=online) for online in (True, False)]\n"
        "print(json.dumps([[str(it.path), it.notes] for it in found]))\n"
    )
    home = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "RESNET_SPEC_DATA": str(tmp_path / "d")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **home, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (first, notes), again = json.loads(done.stdout)
    assert again == [first, notes]
    assert first.endswith(f"snapshots/{COMMIT}/pytorch_model.bin")
    assert notes[0] == f"hf:some/tiny: revision {COMMIT}"
