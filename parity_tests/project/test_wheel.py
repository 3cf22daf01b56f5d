"""The wheel holds the core and the four backends as top-level packages, and nothing else."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "resnet_spec",
    "resnet_spec_numpy",
    "resnet_spec_torch",
    "resnet_spec_flax",
    "resnet_spec_mindspore",
}

EMBEDDED = (".npz", ".css", ".js", ".toml")
"""How the files end that are read when the program runs, and are no Python."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)  # The build interface of PEP 517 works on the current folder.
    try:
        name = build_wheel(str(folder))
    finally:
        os.chdir(before)
    return zipfile.ZipFile(folder / name)


def _folder(distribution: zipfile.ZipFile) -> str:
    (folder,) = {
        name.partition("/")[0]
        for name in distribution.namelist()
        if name.partition("/")[0].endswith(".dist-info")
    }
    return folder


def test_top_level_names(wheel: zipfile.ZipFile) -> None:
    assert {name.partition("/")[0] for name in wheel.namelist()} == {*PACKAGES, _folder(wheel)}
    assert not any("backends" in Path(name).parts for name in wheel.namelist())


def test_every_source_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    sources = {
        path.relative_to(base).as_posix()
        for base in (ROOT, ROOT / "backends")
        for package in PACKAGES
        for path in (base / package).rglob("*.py")
    }
    assert len(sources) > 20
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == sources


def test_the_embedded_data_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    sources = {
        path.relative_to(base).as_posix()
        for ending in EMBEDDED
        for base in (ROOT, ROOT / "backends")
        for package in PACKAGES
        for path in (base / package).rglob(f"*{ending}")
    }
    assert {"resnet_spec/data/digits.npz", "resnet_spec/reporting/html/page.css"} <= sources
    manifests = {name for name in sources if name.endswith("/manifest.toml")}
    assert manifests == {f"{name}/manifest.toml" for name in PACKAGES - {"resnet_spec"}}
    packed = {name for name in wheel.namelist() if name.endswith(EMBEDDED)}
    assert packed == sources
    digits = (ROOT / "resnet_spec" / "data" / "digits.npz").read_bytes()
    assert wheel.read("resnet_spec/data/digits.npz") == digits


def test_every_package_in_the_wheel_is_typed(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.endswith("py.typed")}
    assert packed == {f"{package}/py.typed" for package in PACKAGES}


def test_the_wheel_s_digits_are_read_where_nothing_else_is_there(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)
    code = "from resnet_spec import load_data; print(len(load_data('digits').train))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1437\n", done.stderr


def test_entry_points(wheel: zipfile.ZipFile) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(f"{_folder(wheel)}/entry_points.txt").decode())
    assert dict(parser["console_scripts"]) == {"resnet-spec": "resnet_spec.cli.main:main"}
    names = ("numpy", "torch", "flax", "mindspore")
    assert dict(parser["resnet_spec.backends"]) == {n: f"resnet_spec_{n}" for n in names}


def test_the_base_install_needs_no_framework(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"{_folder(wheel)}/METADATA").decode()
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    base = " ".join(line for line in needed if "extra ==" not in line)
    assert "numpy" in base
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert f"Classifier: Programming Language :: Python :: {version}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    for framework in ("torch", "jax", "flax", "mindspore"):
        assert framework not in base
        assert any(framework in line for line in needed)
