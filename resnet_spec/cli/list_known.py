"""`resnet-spec list --recipes | --data | --schemes | --engines`: names that other options take."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from resnet_spec.errors import ResnetSpecError, SpecError, did_you_mean, problem
from resnet_spec.printing.columns import GAP, Column, fitted, hanging, padded
from resnet_spec.printing.consoles import table_width

DATASETS = {
    "digits": "1,797 handwritten digits, 10 classes, 16 px; comes with the package",
    "cifar10": "60,000 photographs, 10 classes, 32 px; 171 MB are downloaded once",
    "cifar100": "60,000 photographs, 100 classes, 32 px; 169 MB are downloaded once",
    "mnist": "70,000 handwritten digits, 10 classes, 28 px; 12 MB are downloaded once",
    "fashion_mnist": "70,000 pictures of clothes, 10 classes, 28 px; 31 MB are downloaded once",
    "synthetic": "2,560 drawn patterns, 10 classes, any size; made when it is read",
}
_PATHS = "or a path: train/CLASS/ and val/CLASS/ folders of images, Parquet, CIFAR, IDX files"


def matching(
    names: Sequence[str],
    pattern: str,
    what: str,
    hint: str = "",
    error: type[ResnetSpecError] = SpecError,
) -> list[str]:
    """Return the names with the part, or of the pattern, `pattern`. Raises `error` for none."""
    is_glob = any(sign in pattern for sign in "*?[")
    found = [n for n in names if (fnmatchcase(n, pattern) if is_glob else pattern in n)]
    if not found:
        remedy = did_you_mean(pattern, names) or hint
        raise error(problem("pattern", pattern, f"matches no {what}", remedy))
    return found


def recipes(pattern: str) -> list[dict[str, Any]]:
    """Return the recipes whose names match, all fields of each."""
    from resnet_spec.describing.recipes import list_recipes, load_recipe

    return [load_recipe(name).to_dict() for name in matching(list_recipes(), pattern, "recipe")]


def recipes_table(rows: list[dict[str, Any]]) -> str:
    """Return the recipes as a table."""
    columns = [
        Column("name"),
        Column("length"),
        Column("batch", right=True),
        Column("schedule", least=12),
        Column("optimizer", drop=3),
        Column("decay", right=True, drop=2),
        Column("augmentation", least=12, drop=1),
    ]
    return "\n".join(fitted(columns, [_recipe_cells(row) for row in rows], table_width()))


_COLOURS = ("brightness", "contrast", "saturation", "hue")


def _recipe_cells(row: dict[str, Any]) -> tuple[str, ...]:
    steps = row.get("steps")
    schedule, augment = row["schedule"], row["augment"]
    changes = [
        "crop" if augment["random_resized_crop"] else "",
        f"pad {augment['pad']}" if augment["pad"] else "",
        "flip" if augment["flip"] else "",
        augment["policy"] if augment["policy"] != "none" else "",
        "colours" if any(augment[name] for name in _COLOURS) else "",
        "erase" if augment["erase"] else "",
        "mixup" if augment["mixup"] else "",
        "cutmix" if augment["cutmix"] else "",
        f"{augment['repeats']} times" if augment["repeats"] > 1 else "",
    ]
    return (
        row["name"],
        f"{row['epochs']} epochs" if steps is None else f"{steps:,} steps",
        str(row["batch"]),
        f"{schedule['kind']} {schedule['rate']:g}",
        row["optimizer"]["kind"],
        f"{row['optimizer']['weight_decay']:g}",
        ", ".join(filter(None, changes)) or "none",
    )


def datasets(pattern: str) -> list[dict[str, Any]]:
    """Return the datasets whose names match."""
    found = matching(list(DATASETS), pattern, "dataset")
    return [{"name": name, "about": DATASETS[name]} for name in found]


def datasets_table(rows: list[dict[str, Any]]) -> str:
    """Return the datasets as a table, and what may stand in a name's place."""
    return "\n".join([*_about(rows), "", *hanging("", _PATHS, table_width())])


def schemes(pattern: str) -> list[dict[str, Any]]:
    """Return the naming schemes whose names match."""
    from resnet_spec.weights.naming import SCHEMES

    found = matching(list(SCHEMES), pattern, "naming scheme")
    return [{"name": name, "about": SCHEMES[name].about} for name in found]


def engines(pattern: str) -> list[dict[str, Any]]:
    """Return the engines whose names match."""
    from resnet_spec.loader import not_installed
    from resnet_spec.running.engines import ENGINES

    found = {name: ENGINES[name] for name in matching(list(ENGINES), pattern, "engine")}
    return [
        {
            "name": name,
            "about": f"{engine.title}, on the CPU, from an ONNX file that is exported and checked",
            "installed": not not_installed(engine.needs),
            "install": engine.install,
        }
        for name, engine in found.items()
    ]


def engines_table(rows: list[dict[str, Any]]) -> str:
    """Return the engines as a table, and how those that are missing are installed."""
    return "\n".join(_about([{**row, "about": _with_install(row)} for row in rows]))


def _with_install(row: dict[str, Any]) -> str:
    return row["about"] if row["installed"] else f"{row['about']}; missing, run: {row['install']}"


def schemes_table(rows: list[dict[str, Any]]) -> str:
    """Return the schemes as a table."""
    return "\n".join(_about(rows))


def _about(rows: list[dict[str, Any]]) -> list[str]:
    """Return names with a text behind each, which is wrapped."""
    cells = [("name", "about"), *((row["name"], row["about"]) for row in rows)]
    start, width = max(len(name) for name, _ in cells), table_width()
    return [
        line for name, about in cells for line in hanging(padded(name, start) + GAP, about, width)
    ]
