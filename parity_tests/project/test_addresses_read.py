"""Stage, block and part of a node are read from its address, never out of its canonical name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEYS = ("layer", "layer1", "stages", "blocks", "downsample")
"""What a canonical name has of a stage, a block or a part; compared, they are a parser's."""
INNER = (*KEYS, "se", "fc", "fc1")
"""What it has besides where it is of several parts, as `head.fc`; alone `fc` is a kind of nodes."""
ENDS = ("startswith", "endswith", "removeprefix", "removesuffix")

ALLOWED = {
    "resnet_spec/weights/recognising/unseen.py": "fields of a spec, `stages.stride`",
    "resnet_spec/showing/drift.py": "a parity report names nodes and holds no plan",
    "resnet_spec/weights/recognising/prefixes.py": "names of files, before there is a plan",
}


def parsed_keys(source: str) -> Iterator[str]:
    """Yield the words of canonical names that `source` looks for in strings."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=attr), args=[first]) if attr in ENDS:
                yield from _words(first)
            case ast.Compare(ops=[ast.Eq() | ast.In(), *_]):
                for side in (node.left, *node.comparators):
                    yield from _words(side)
            case ast.MatchSequence():
                for pattern in node.patterns:
                    if isinstance(pattern, ast.MatchValue):
                        yield from _words(pattern.value)
            case _:
                pass


def _words(node: ast.expr) -> Iterator[str]:
    found = [it.value for it in ast.walk(node) if isinstance(it, ast.Constant)]
    for it in found:
        if isinstance(it, str):
            parts = it.strip(".").split(".")
            if not set(parts).isdisjoint(KEYS if len(parts) == 1 else INNER):
                yield it


def built_names(source: str) -> Iterator[str]:
    """Yield f-strings of `source` that put a stage or a block into a canonical name, or a part."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            text = "".join(_piece(it) for it in node.values)
            if re.search(BUILT, text):
                yield text


BUILT = r"^layer\{\}|^stages\.\{\}|\.blocks\.\{\}|\.?\bse\.fc|\.downsample\b"


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


NAMING = ("resnet_spec/weights/naming/", "resnet_spec/planning/lowering/")
"""Where canonical names are given, and others for them."""


def test_a_parser_of_names_is_seen() -> None:
    assert list(parsed_keys('name.startswith("layer")')) == ["layer"]
    assert list(parsed_keys('name.removeprefix("layer1.")')) == ["layer1."]
    assert list(parsed_keys('keys[0].startswith(("layer", "stages"))')) == ["layer", "stages"]
    assert list(parsed_keys('first == "stages" and rest')) == ["stages"]
    case = 'match name.split("."):\n    case ["stages", stage, *_]:\n        pass'
    assert list(parsed_keys(case)) == ["stages"]
    assert list(parsed_keys('name.endswith("se.fc1.weight")')) == ["se.fc1.weight"]
    assert list(parsed_keys('name.rpartition(".")[0] in ("fc", "head.fc")')) == ["head.fc"]
    assert list(parsed_keys('node.address.part == "shortcut"')) == []
    assert list(parsed_keys('node.kind == "fc"')) == []


def test_a_name_that_is_put_together_is_seen() -> None:
    assert list(built_names('f"layer{stage + 1}.{block}."')) == ["layer{}.{}."]
    assert list(built_names('f"stages.{stage}.blocks.{block}."')) == ["stages.{}.blocks.{}."]
    assert list(built_names('tensors[f"{prefix}se.fc1.weight"]')) == ["{}se.fc1.weight"]
    assert list(built_names('f"stages[{i}].stride = {stride}"')) == []


def test_names_are_put_together_where_they_are_given_alone() -> None:
    folders = (ROOT / "resnet_spec", ROOT / "backends")
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    found = {
        str(path.relative_to(ROOT))
        for path in sources
        if list(built_names(path.read_text(encoding="utf-8")))
    }
    assert found
    assert {it for it in found - ALLOWED.keys() if not it.startswith(NAMING)} == set()


def test_names_are_parsed_where_a_reason_stands_and_nowhere_else() -> None:
    folders = (ROOT / "resnet_spec", ROOT / "backends")
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    found = {
        str(path.relative_to(ROOT))
        for path in sources
        if list(parsed_keys(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED.keys()
