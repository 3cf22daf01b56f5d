"""Specs, recipes and grids in the encodings that editors and shells write."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from resnet_spec.comparing.sources import load_grid
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import GridError, RecipeError, SpecError

ENCODINGS = {
    "plain": (b"", "utf-8"),
    "notepad": (codecs.BOM_UTF8, "utf-8"),
    "powershell": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "big-endian": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "utf-32": (codecs.BOM_UTF32_LE, "utf-32-le"),
    "utf-32-be": (codecs.BOM_UTF32_BE, "utf-32-be"),
}
NAME = "réseau"


def written(path: Path, text: str, encoding: str) -> Path:
    mark, codec = ENCODINGS[encoding]
    path.write_bytes(mark + text.encode(codec))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".toml", ".json", ".TOML", ".JSON"])
def test_a_spec_is_read(tmp_path: Path, encoding: str, ending: str, suffix: str) -> None:
    text = f'base = "resnet18"\nname = "{NAME}"\nclasses = 7\n'
    if suffix.lower() == ".json":
        fields = {"base": "resnet18", "name": NAME, "classes": 7}
        text = json.dumps(fields, ensure_ascii=False, indent=1)
    path = written(tmp_path / f"net{suffix}", text.replace("\n", ending), encoding)
    spec = load_spec(path)
    assert (spec.name, spec.classes) == (NAME, 7)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_recipes_and_grids_are_read(tmp_path: Path, encoding: str) -> None:
    recipe = written(tmp_path / "r.toml", f'base = "demo"\nname = "{NAME}"\n', encoding)
    assert load_recipe(recipe).name == NAME
    text = 'networks = ["resnet20"]\nbackends = ["numpy"]\nrecipe = "r.toml"\n'
    grid = load_grid(str(written(tmp_path / "g.toml", text, encoding)), {})
    assert grid.recipe == str(recipe)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("# é\n".encode("latin-1"), r"is not UTF-8 text \(byte 0xe9 in line 1; perhaps Latin-1\)"),
        (b"a = 1\r\n# \x80\r\n", r"is not UTF-8 text \(byte 0x80 in line 2; perhaps Latin-1\)"),
        ("a = 1\n".encode("utf-16-le"), "holds zero bytes, as UTF-16 without a byte order mark"),
        ("a = 1\n".encode("utf-16-be"), "holds zero bytes, as UTF-16 without a byte order mark"),
        (codecs.BOM_UTF16_LE + b"a", "has the byte order mark of UTF-16 and is not UTF-16 text"),
        (codecs.BOM_UTF8 + b"\xe9", "has the byte order mark of UTF-8 and is not UTF-8 text"),
    ],
)
def test_other_encodings_are_named_with_the_remedy(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    for suffix in (".toml", ".json"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        for load, error in (
            (load_spec, SpecError),
            (load_recipe, RecipeError),
            (lambda source: load_grid(str(source), {}), GridError),
        ):
            with pytest.raises(error, match=rf"x\{suffix}: cannot be read: {reason}") as caught:
                load(path)
            assert str(caught.value).endswith("; save it as UTF-8")
            assert "\n" not in str(caught.value)
