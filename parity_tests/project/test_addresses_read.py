"""Stage, block and part of a node are read from its address, never out of its canonical name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEYS = ("layer", "layer1", "stages", "blocks", "downsample")
"""What a canonical name has of a stage, a block or a part; compared, they are a parser's."""

ALLOWED = {
    "resnet_spec/weights/recognising/unseen.py": "fields of a spec, `stages.stride`",
    "resnet_spec/showing/drift.py": "a parity report names nodes and holds no plan",
    "resnet_spec/weights/recognising/prefixes.py": "names of files, before there is a plan",
}


def parsed_keys(source: str) -> Iterator[str]:
    """Yield the words of canonical names that `source` looks for in strings."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="startswith" | "removeprefix"), args=[first]):
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
    yield from (it for it in found if isinstance(it, str) and it.strip(".") in KEYS)


def test_a_parser_of_names_is_seen() -> None:
    assert list(parsed_keys('name.startswith("layer")')) == ["layer"]
    assert list(parsed_keys('name.removeprefix("layer1.")')) == ["layer1."]
    assert list(parsed_keys('keys[0].startswith(("layer", "stages"))')) == ["layer", "stages"]
    assert list(parsed_keys('first == "stages" and rest')) == ["stages"]
    case = 'match name.split("."):\n    case ["stages", stage, *_]:\n        pass'
    assert list(parsed_keys(case)) == ["stages"]
    assert list(parsed_keys('node.address.part == "shortcut"')) == []


def test_names_are_parsed_where_a_reason_stands_and_nowhere_else() -> None:
    folders = (ROOT / "resnet_spec", ROOT / "backends")
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    found = {
        str(path.relative_to(ROOT))
        for path in sources
        if list(parsed_keys(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED.keys()
