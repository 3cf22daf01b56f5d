"""The import directions of the design, read from the sources.

Core modules form a line without circles and know no framework; a backend knows its own framework
and the core's contract; nobody reaches a backend but through the loader.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from border import CONTRACT

ROOT = Path(__file__).parents[2]
CORE = ROOT / "resnet_spec"
FRAMEWORKS = {"torch", "torchvision", "jax", "jaxlib", "flax", "optax", "mindspore"}
OWN_FRAMEWORK = {
    "resnet_spec_numpy": set[str](),
    "resnet_spec_torch": {"torch"},
    "resnet_spec_flax": {"jax", "jaxlib", "flax", "optax"},
    "resnet_spec_mindspore": {"mindspore"},
}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if _is_type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from _nodes(other)
        else:
            yield from _nodes(child)


def imports_of(
    source: str, module: str, is_package: bool = False, type_checking: bool = False
) -> set[str]:
    """Return the dotted names that `source` imports, also inside functions.

    type_checking: whether what only a type checker reads counts, too.
    """
    found: set[str] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree) if type_checking else _nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            kept = parents[: len(parents) - node.level + is_package] if node.level else []
            base = ".".join([*kept, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return found


def modules_below(folder: Path, package: str, type_checking: bool = False) -> dict[str, set[str]]:
    """Return {dotted module name: what it imports} for every source in `folder`."""
    result: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        result[name] = imports_of(path.read_text(encoding="utf-8"), name, is_package, type_checking)
    assert result, f"no sources in {folder}"
    return result


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def core() -> dict[str, set[str]]:
    return modules_below(CORE, "resnet_spec")


def backend_folders() -> list[Path]:
    folders = sorted(path for path in (ROOT / "backends").iterdir() if path.is_dir())
    return [path for path in folders if path.name.startswith("resnet_spec_")]


def test_the_reader_sees_imports_wherever_they_stand() -> None:
    source = (
        "import a.b\nfrom c import d\nfrom . import e\nfrom .f import g\n"
        "if TYPE_CHECKING:\n    import hidden\n"
        "def run():\n    import inner\n"
    )
    found = imports_of(source, "top.sub")
    assert found == {"a.b", "c", "c.d", "top", "top.e", "top.f", "top.f.g", "inner"}
    assert "top.sub.e" in imports_of(source, "top.sub", is_package=True)


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle in order, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name] & graph.keys()):
            circle = visit(other, [*path, name])
            if circle:
                return circle
        done.add(name)
        return []

    for name in graph:
        circle = visit(name, [])
        if circle:
            return circle
    return []


def test_a_circle_is_found() -> None:
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def between(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those of parent packages and of the module itself.

    Every module imports its parent packages' `__init__` first; those edges say nothing.
    """
    return {
        name: {other for other in imported if not name.startswith(f"{other}.") and other != name}
        for name, imported in modules.items()
    }


def test_core_modules_form_no_circle(core: dict[str, set[str]]) -> None:
    assert find_circle(between(core)) == []


def test_core_modules_form_no_circle_that_only_a_type_checker_sees() -> None:
    every = modules_below(CORE, "resnet_spec", type_checking=True)
    every["resnet_spec"] = set()  # Public names, which it imports when they are asked for.
    assert find_circle(between(every)) == []


@pytest.mark.parametrize("folder", backend_folders(), ids=lambda path: path.name)
def test_modules_of_a_backend_form_no_circle(folder: Path) -> None:
    assert find_circle(between(modules_below(folder, folder.name, type_checking=True))) == []


def test_a_circle_that_only_a_type_checker_sees_is_found(tmp_path: Path) -> None:
    hidden = "if TYPE_CHECKING:\n    from made.one import One\n"
    (tmp_path / "one.py").write_text("from made.two import Two\n", encoding="utf-8")
    (tmp_path / "two.py").write_text(hidden, encoding="utf-8")
    assert find_circle(between(modules_below(tmp_path, "made"))) == []
    every = between(modules_below(tmp_path, "made", type_checking=True))
    assert find_circle(every) == ["made.one", "made.two", "made.one"]


def test_core_imports_no_framework_and_no_backend(core: dict[str, set[str]]) -> None:
    forbidden = FRAMEWORKS | OWN_FRAMEWORK.keys()
    found = {name: tops(imported) & forbidden for name, imported in core.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_the_innermost_modules_stay_innermost(core: dict[str, set[str]]) -> None:
    def inside(name: str) -> set[str]:
        return {other for other in core[f"resnet_spec.{name}"] if other in core} - {"resnet_spec"}

    assert inside("errors") == set()
    assert inside("ops") == set()
    assert inside("describing.presets") == set()
    assert inside("plan") == {"resnet_spec.ops"}


@pytest.mark.parametrize("folder", backend_folders(), ids=lambda path: path.name)
def test_a_backend_imports_its_framework_and_the_contract_alone(folder: Path) -> None:
    allowed = {"numpy", folder.name, "resnet_spec", *OWN_FRAMEWORK[folder.name]}
    for name, imported in modules_below(folder, folder.name).items():
        assert tops(imported) - sys.stdlib_module_names <= allowed, name
        from_core = {other for other in imported if other.partition(".")[0] == "resnet_spec"}
        modules = {".".join(other.split(".")[:2]) for other in from_core} - {"resnet_spec"}
        assert modules <= CONTRACT, name


def test_all_four_backends_were_looked_at() -> None:
    assert {path.name for path in backend_folders()} == OWN_FRAMEWORK.keys()


def _outsiders() -> list[Path]:
    sources = [*(ROOT / "parity_tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    # The tests of one backend may look inside that backend.
    own = ROOT / "parity_tests" / "backends"
    return sorted(path for path in sources if own not in path.parents)


@pytest.mark.parametrize("path", _outsiders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_and_scripts_reach_backends_through_the_loader(path: Path) -> None:
    imported = tops(imports_of(path.read_text(encoding="utf-8"), path.stem))
    assert imported & OWN_FRAMEWORK.keys() == set()


def test_a_backend_s_own_tests_look_into_that_backend_only() -> None:
    for path in sorted((ROOT / "parity_tests" / "backends").glob("test_*.py")):
        own = f"resnet_spec_{path.stem.removeprefix('test_').partition('_')[0]}"
        imported = tops(imports_of(path.read_text(encoding="utf-8"), path.stem))
        assert imported & OWN_FRAMEWORK.keys() <= {own}, path.name


def _loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return tops(set(json.loads(result.stdout.splitlines()[-1])))


@pytest.mark.parametrize(
    "code",
    [
        "from resnet_spec.loader import backend_names, installed_backends\n"
        "assert len(backend_names()) >= 4 and installed_backends()",
        "from resnet_spec.cli.main import main\nmain(['backends'])",
    ],
)
def test_listing_backends_imports_none(code: str) -> None:
    assert _loaded_by(code) & (FRAMEWORKS | OWN_FRAMEWORK.keys()) == set()


def test_importing_the_package_imports_next_to_nothing() -> None:
    heavy = FRAMEWORKS | {"numpy", "pydantic", "rich", "PIL", "safetensors"}
    assert _loaded_by("import resnet_spec\ndir(resnet_spec)") & heavy == set()
    assert "numpy" not in _loaded_by("import resnet_spec\nresnet_spec.lower")


def test_every_public_name_can_be_had() -> None:
    import resnet_spec

    for name in resnet_spec.__all__:
        assert getattr(resnet_spec, name) is not None
    assert set(resnet_spec.__all__) <= set(dir(resnet_spec))
    assert resnet_spec.__version__
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        resnet_spec.biuld  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
