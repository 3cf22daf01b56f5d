"""The rooms of the core stand in one order, and arrows between them point back along it.

The order is written once: in the table of rooms of CONTRIBUTING.md. A module may import what stands
above its own room, and nothing below.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from test_imports import CORE, find_circle, imports_of, modules_below

ROOT = Path(__file__).parents[2]
DOORS = {"__init__", "__main__", "former"}
"""What only names other modules: the package's own names, and their former ones."""


def rooms() -> list[str]:
    """Return the rooms and the modules at the top, in the order of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]


def room_of(module: str) -> str:
    """Return the room of a module; those at the top that share a row of the table are one room."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return "describing" if name in ("recipe", "optimizers", "losses") else name


def wrong_arrows(graph: dict[str, set[str]], order: list[str]) -> list[str]:
    """Return `module -> module` for each import of what stands below the importer's room."""
    place = {name: at for at, name in enumerate(order)}
    found: list[str] = []
    for module, imported in sorted(graph.items()):
        here = room_of(module)
        for other in sorted(imported & graph.keys()):
            there = room_of(other)
            if not {here, there} & DOORS and place[there] > place[here]:
                found.append(f"{module} -> {other}")
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return modules_below(CORE, "resnet_spec", type_checking=True)


def test_every_arrow_between_rooms_points_one_way(graph: dict[str, set[str]]) -> None:
    assert wrong_arrows(graph, rooms()) == []


def test_folders_inside_a_room_form_no_circle(graph: dict[str, set[str]]) -> None:
    inner: dict[str, set[str]] = {}
    for module, imported in graph.items():
        if module.count(".") > 1:
            inner.setdefault(_inner(module), set()).update(map(_inner, imported & graph.keys()))
    for name, others in inner.items():
        others.discard(name)
    assert "resnet_spec.weights.files" in inner
    assert find_circle(inner) == []


def _inner(module: str) -> str:
    """Return `resnet_spec.weights.files` of `resnet_spec.weights.files.npz`."""
    return ".".join(module.split(".")[:3])


def test_an_arrow_the_wrong_way_is_found() -> None:
    graph = {
        "resnet_spec.data.cifar": {"resnet_spec.errors", "resnet_spec.running.fit"},
        "resnet_spec.errors": set[str](),
        "resnet_spec.running.fit": {"resnet_spec.data.cifar"},
    }
    wrong = wrong_arrows(graph, ["errors", "data", "running"])
    assert wrong == ["resnet_spec.data.cifar -> resnet_spec.running.fit"]


def test_every_room_stands_in_the_table_once() -> None:
    there = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or path.is_dir()}
    there -= DOORS | {"__pycache__", "py"}
    listed = rooms()
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_the_pages_show_the_same_rooms_in_the_same_order() -> None:
    picture = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").partition("## Rooms")[2]
    shown = re.findall(r"^\| `(\w+)/` ", picture, re.MULTILINE)
    assert shown == [name for name in rooms() if (CORE / name).is_dir()]
    drawn = picture.partition("```text\n")[2].partition("```")[0]
    assert set(shown) <= set(re.findall(r"\w+", drawn))
    assert drawn in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_tests_stand_in_folders_that_mirror_the_rooms() -> None:
    others = {"against", "backends", "known_deviations", "out_of_tree", "project"}
    folders = {path.name for path in (ROOT / "parity_tests").iterdir() if path.is_dir()}
    assert folders - others - {"__pycache__"} <= set(rooms())


def test_a_former_name_is_the_module_that_it_names_now() -> None:
    import importlib

    from resnet_spec.former import FORMER

    for old, new in FORMER.items():
        present = importlib.import_module(f"resnet_spec.{new}")
        assert importlib.import_module(f"resnet_spec.{old}") is present
        assert present.__spec__ is not None
        assert present.__spec__.name == f"resnet_spec.{new}"
        assert sys.modules[f"resnet_spec.{new}"] is present


def test_imports_that_only_a_type_checker_reads_count_here() -> None:
    source = "if TYPE_CHECKING:\n    import hidden\n"
    assert imports_of(source, "top") == set()
    assert imports_of(source, "top", type_checking=True) == {"hidden"}
