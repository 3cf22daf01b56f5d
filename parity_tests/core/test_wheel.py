"""The wheel holds the core and the four backends as top-level packages, and nothing else."""

from __future__ import annotations

import configparser
import os
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
    data = ROOT / "resnet_spec" / "data" / "digits.npz"
    assert data.exists() == ("resnet_spec/data/digits.npz" in wheel.namelist())


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
    for framework in ("torch", "jax", "flax", "mindspore"):
        assert framework not in base
        assert any(framework in line for line in needed)
