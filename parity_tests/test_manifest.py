"""What a backend says of itself: read as data, checked key by key, and true of its package."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from resnet_spec import loader, lower
from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError
from resnet_spec.exporting import format_of
from resnet_spec.loader import (
    faults_of,
    installed_backends,
    load_backend,
    manifest_of,
    not_installed,
)
from resnet_spec.manifest import DialectName, Format, Manifest, read_manifest
from resnet_spec.manifest_bench import Bench, Peer
from resnet_spec.weights.naming.dialects import DIALECTS

GOOD = """
requires = ["ab", "cd"]
install = "pip install ab"
precisions = ["float32", "float16"]
modules = ["ab.nn.Module"]
dialect = "torch"
shards = true
compiles = "asked"
losses = ["binary_cross_entropy"]
keeps = true
teachers = true
notices = true
[formats.abx]
ending = ".abx"
layout = "NHWC"
needs = ["abx"]
install = "pip install abx"
[bench]
product = "rs_ab.benching:product"
profile = "rs_ab.profiling:profile"
[bench.peers.other]
make = "rs_ab.peers:other"
needs = ["cde"]
install = "pip install cde"
modes = ["predict"]
"""


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(GOOD)
    abx = Format("ab", ".abx", "NHWC", ("abx",), "pip install abx")
    modules, formats = ("ab.nn.Module",), {"abx": abx}
    precisions = ("float32", "float16")
    texts = ("ab", "cd"), "pip install ab", precisions, modules, "torch"
    losses = ("binary_cross_entropy",)
    flags = {"shards": True, "keeps": True, "teachers": True, "notices": True}
    other = Peer("ab", "rs_ab.peers:other", ("cde",), "pip install cde", ("predict",))
    functions = {"product": "rs_ab.benching:product", "profile": "rs_ab.profiling:profile"}
    bench = Bench(**functions, peers={"other": other})
    expected = Manifest(*texts, formats, compiles="asked", losses=losses, bench=bench, **flags)
    assert read_manifest(path, "ab") == expected


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("requires =", "require =", "require: is no key of a manifest; did you mean 'requires'?"),
        ('requires = ["ab", "cd"]', "", "requires: is missing"),
        ('requires = ["ab", "cd"]', "requires = 3", "requires: must be a list of names, not 3"),
        ('install = "pip install ab"', "", "install: is missing"),
        (
            '"float16"]',
            '"float160"]',
            "precisions: float160 is no precision; did you mean 'float16'?",
        ),
        ('"float32", ', "", "precisions: must have float32, in which backends are compared"),
        ('["ab.nn.Module"]', "[1]", "modules: must be a list of names, not [1]"),
        ('dialect = "torch"', "", "dialect: is missing"),
        ('ending = ".abx"', 'ending = "abx"', "formats.abx.ending: must be a dot and a word, as"),
        ('ending = ".abx"', 'ending = "."', "formats.abx.ending: must be a dot and a word, as"),
        ("shards = true", "shards = 1", "shards: must be true or false, not 1"),
        ("teachers = true", "teachers = 2", "teachers: must be true or false, not 2"),
        (
            'compiles = "asked"',
            'compiles = "ask"',
            "compiles: must be one of always, asked, never, not 'ask'",
        ),
        ("[formats.abx]", '[formats."a b/c"]', "formats: 'a b/c' is no plain word; use letters"),
        ('"cd"]', '"cd.ef"]', "requires: 'cd.ef' is no top-level import name; write 'cd'"),
        ('"cd"]', '".ef"]', "requires: '.ef' is no top-level import name"),
        ('"cd"]', '"__main__"]', "requires: '__main__' is no top-level import name"),
        ('"cd"]', '""]', "requires: must be a list of names, not ['ab', '']"),
        ('["abx"]', '["abx.io"]', "formats.abx.needs: 'abx.io' is no top-level import name; write"),
        ('["float32", "float16"]', "[]", "precisions: must have float32, in which backends"),
        ('["ab.nn.Module"]', '["nodots"]', "modules: 'nodots' is no class as module.Class; write"),
        ('"torch"', '"tourch"', "dialect: 'tourch' is no dialect; did you mean 'torch'?"),
        ('"NHWC"', '"NHCW"', "formats.abx.layout: must be one of NCHW, NHWC, not 'NHCW'"),
        ("needs =", "need =", "formats.abx.need: is no key of a manifest; did you mean 'needs'?"),
        ('install = "pip install abx"', "", "formats.abx.install: is missing"),
        ("[formats.abx]", "[formats", "cannot be read as TOML: "),
        ("product =", "products =", "bench.products: is no key of a manifest; did you mean"),
        (
            '"rs_ab.benching:product"',
            '"rs_ab.benching"',
            "bench.product: 'rs_ab.benching' is no function as module:function",
        ),
        ("profile =", "profiles =", "bench.profiles: is no key of a manifest; did you mean"),
        (
            '"rs_ab.profiling:profile"',
            "3",
            "bench.profile: must be a text, not 3",
        ),
        ('make = "rs_ab.peers:other"', "", "bench.peers.other.make: is missing"),
        ('make = "rs_ab.peers:other"', "make = 3", "bench.peers.other.make: must be a text, not 3"),
        ('install = "pip install cde"', "", "bench.peers.other.install: is missing"),
        ("modes =", "mode =", "bench.peers.other.mode: is no key of a manifest; did you mean"),
        ('["predict"]', '["predicts"]', "bench.peers.other.modes: 'predicts' is not one of train"),
        ("[bench.peers.other]", '[bench.peers."a b"]', "bench.peers: 'a b' is no plain word"),
        (
            '[bench]\nproduct = "rs_ab.benching:product"\nprofile = "rs_ab.profiling:profile"\n'
            "[bench.peers.other]",
            "[other]",
            "other: is no key of a manifest",
        ),
    ],
)
def test_a_fault_names_the_file_the_key_and_the_rule(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    path = tmp_path / "manifest.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BackendError) as raised:
        read_manifest(path, "ab")
    assert any(told.startswith(f"{path}: {line}") for told in raised.value.problems)


@pytest.mark.parametrize("backend", installed_backends())
def test_the_manifest_is_true_of_the_package(backend: str) -> None:
    found = manifest_of(backend)
    if found is None:
        pytest.skip(f"{backend} comes without a manifest")
    assert found.precisions == load_backend(backend).PRECISIONS


def test_manifests_are_read_without_importing_a_backend() -> None:
    code = (
        "import sys\n"
        "from resnet_spec.loader import export_formats, module_classes, precisions_of\n"
        "assert {'onnx', 'mindir'} <= export_formats().keys() and module_classes()['torch']\n"
        "assert precisions_of('numpy') == ('float32', 'float64')\n"
        "assert not any(name.startswith('resnet_spec_') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def installed(folder: Path, distribution: str, name: str, package: str) -> None:
    """Lay out in `folder` the metadata of a distribution with one backend."""
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[{loader.GROUP}]\n{name} = {package}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which distributions are found, for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    loader._entries.cache_clear()
    monkeypatch.setattr(loader, "_entries", loader._entries.__wrapped__)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def test_two_backends_of_one_name_are_told(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed(site, "other", "torch", "other_torch")
    line = (
        "backend = torch: is the name of 2 backends, of other (other_torch) and "
        "resnet-spec (resnet_spec_torch); uninstall all but one"
    )
    with pytest.raises(BackendError) as raised:
        load_backend("torch")
    assert raised.value.problems == (line,)
    assert "torch" not in installed_backends()
    assert main(["backends"]) == 0
    assert f"note: torch: {line}" in capsys.readouterr().out.splitlines()


def test_a_broken_manifest_stops_its_backend_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "own_backend").mkdir()
    (site / "own_backend" / "__init__.py").write_text("raise SystemExit('imported')")
    path = site / "own_backend" / "manifest.toml"
    path.write_text('requires = []\nprecisions = ["float32"]\nlayout = "NCHW"\n')
    installed(site, "own", "own", "own_backend")
    with pytest.raises(BackendError) as raised:
        load_backend("own")
    assert str(raised.value).startswith(f"{path}: layout: is no key of a manifest")
    assert main(["backends"]) == 0
    assert f"note: own: {path}: layout: is no key" in capsys.readouterr().out
    assert "own" not in installed_backends() and "numpy" in installed_backends()


def test_a_missing_framework_is_told_by_the_manifest(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "own_backend2").mkdir()
    (site / "own_backend2" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "own_backend2" / "manifest.toml").write_text(
        'requires = ["nosuchframework"]\ninstall = "pip install own[all]"\n'
        'precisions = ["float32"]\n'
    )
    installed(site, "own2", "own2", "own_backend2")
    with pytest.raises(BackendError) as raised:
        load_backend("own2")
    rule = "needs nosuchframework, not installed; run: pip install own[all]"
    assert str(raised.value) == f"backend = own2: {rule}"
    assert main(["backends"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("own2 "))
    assert row.split()[1] == "missing"
    assert row.endswith(", nosuchframework (missing); pip install own[all]")


@pytest.mark.parametrize("value", ["nosuchbackend", "nosuchbackend.inner", "nosuchbackend:x"])
def test_a_package_that_is_not_there_is_not_installed(
    site: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    installed(site, "own-dist", "gone", value)
    rule = f"its entry point names {value!r}, which is not there"
    line = f"backend = gone: {rule}; reinstall or uninstall own-dist"
    assert "gone" not in installed_backends() and "numpy" in installed_backends()
    with pytest.raises(BackendError) as raised:
        load_backend("gone")
    assert raised.value.problems == (line,)
    assert main(["backends"]) == 0
    assert f"note: gone: {line}" in capsys.readouterr().out.splitlines()


def sound(site: Path, name: str, more: str) -> None:
    """Lay out a backend that is as it should be, as far as its manifest goes."""
    package = f"{name}_backend"
    (site / package).mkdir()
    (site / package / "__init__.py").write_text(
        "Session, build, REQUIRES, PRECISIONS = object, object, (), ('float32',)\n"
    )
    text = f'requires = []\nprecisions = ["float32"]\n{more}'
    (site / package / "manifest.toml").write_text(text)
    installed(site, name, name, package)


def test_two_backends_that_write_one_format_are_told(site: Path) -> None:
    sound(site, "quarrel", '[formats.onnx]\nending = ".onnx"\nlayout = "NCHW"\n')
    with pytest.raises(BackendError) as raised:
        format_of("onnx")
    told = str(raised.value)
    assert told.startswith("--to = onnx: is written by several backends, ")
    assert "quarrel" in told and "torch" in told
    assert format_of("mindir").backend == "mindspore"


def test_a_format_whose_backend_cannot_be_used_is_told_with_the_cause(site: Path) -> None:
    installed(site, "other", "torch", "other_torch")
    with pytest.raises(BackendError) as raised:
        format_of("onnx")
    (cause,) = faults_of("torch")
    rule = "is written by torch, which cannot be used"
    assert raised.value.problems == (f"--to = onnx: {rule}; {cause}",)
    sound(site, "faulty", 'layout = "NCHW"\n[formats.own]\nending = ".own"\nlayout = "NCHW"\n')
    with pytest.raises(BackendError, match=r"own: is written by faulty, .*layout: is no key of"):
        format_of("own")
    with pytest.raises(BackendError, match="owm: is no format of exported models"):
        format_of("owm")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "class Session:\n    def __init__(self, plan): pass\ndef build(plan, state=None): pass",
            "Session(plan): too many positional arguments; the contract wants Session(plan, "
            "recipe=None, *, device='auto', precision='float32', compile=False)",
        ),
        (
            "def Session(plan, recipe=None, **more): pass\ndef build(): pass",
            "build(): too many positional arguments; the contract wants build(plan, state=None)",
        ),
        (
            "def Session(plan, recipe=None, **more): pass\nbuild = 3",
            "build, which cannot be called; the contract wants build(plan, state=None)",
        ),
    ],
)
def test_what_cannot_be_called_as_the_contract_says_is_told(
    site: Path, source: str, told: str
) -> None:
    sound(site, "callable", "")
    (site / "callable_backend" / "__init__.py").write_text(source)
    with pytest.raises(BackendError) as raised:
        load_backend("callable")
    assert raised.value.problems == (f"backend = callable: callable_backend offers {told}",)


def test_an_error_inside_a_sound_session_is_its_own(site: Path) -> None:
    sound(site, "within", "")
    source = "def Session(plan, recipe=None, **more): return 1 + ''\ndef build(*more): pass"
    (site / "within_backend" / "__init__.py").write_text(source)
    with pytest.raises(TypeError, match="unsupported operand"):
        load_backend("within").Session(lower("resnet20_cifar"))


def test_a_dialect_of_a_manifest_is_one_of_names_of_tensors() -> None:
    assert {*get_args(DialectName)} == DIALECTS.keys()


def test_a_dotted_requirement_stops_its_backend_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound(site, "dotted", "")
    path = site / "dotted_backend" / "manifest.toml"
    needs = 'requires = ["nosuchparent.sub"]\ninstall = "pip install x"\n'
    path.write_text(f'{needs}precisions = ["float32"]\n')
    line = f"{path}: requires: 'nosuchparent.sub' is no top-level import name; "
    assert main(["backends"]) == 0
    assert f"note: dotted: {line}write 'nosuchparent'" in capsys.readouterr().out.splitlines()
    assert "dotted" not in installed_backends() and "numpy" in installed_backends()


def test_a_loaded_package_without_a_word_of_its_place_is_there() -> None:
    """As `__main__` of a script, and as stand-ins: Python raises where they are looked for."""
    module = ModuleType("placeless")
    assert module.__spec__ is None
    with pytest.MonkeyPatch.context() as patching:
        patching.setitem(sys.modules, "placeless", module)
        assert not_installed(["placeless", "nosuchpackage"]) == ["nosuchpackage"]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("0", "ends the process with 0"),
        ("", "ends the process"),
        ("'no'", "ends the process with no"),
    ],
)
def test_code_that_ends_the_process_ends_its_backend_alone(
    site: Path, capsys: pytest.CaptureFixture[str], word: str, why: str
) -> None:
    sound(site, "ending", "")
    (site / "ending_backend" / "conditions.py").write_text(f"raise SystemExit({word})\n")
    (site / "ending_backend" / "__init__.py").write_text(f"raise SystemExit({word})\n")
    assert main(["backends"]) == 0
    line = f"note: ending: backend = ending: conditions.py cannot be run: {why}"
    assert line in capsys.readouterr().out.splitlines()
    with pytest.raises(BackendError) as raised:
        load_backend("ending")
    where = "backend = ending: cannot be imported from ending_backend"
    assert raised.value.problems == (f"{where}: {why}",)


def test_the_core_names_no_framework_but_where_it_has_a_reason() -> None:
    named = re.compile(r"""["'](torch|flax|jax|mindspore)["']""")
    found = {
        path.relative_to(CORE).as_posix()
        for path in CORE.rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    }
    places = {name for name in found if not name.startswith(KNOWLEDGE_OF_FILES)}
    assert places == NAMES.keys()


CORE = Path(__file__).parents[1] / "resnet_spec"
KNOWLEDGE_OF_FILES = ("weights/naming/", "weights/files/", "weights/recognising/")
"""Rooms that know other projects' files, whatever backends there are."""
NAMES = {
    "contract.py": "an example in the text for a backend's author",
    "running/building.py": "types of what our own backends give, for type checkers",
    "weights/__init__.py": "the table of kinds of weight files",
    "cli/show_weights.py": "which of our backends starts quickest, as it was measured",
    "cli/hints.py": "what people type by habit",
    "manifest.py": "the names of dialects, which are those of the files' naming",
}
"""Other sources that may name one, each with a reason."""
