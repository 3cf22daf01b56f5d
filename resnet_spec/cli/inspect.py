"""`resnet-spec inspect`: the kind, names, network and numbers of a weight file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.cli.arguments import add_format, add_network
from resnet_spec.files.json_text import json_text
from resnet_spec.printing.columns import hanging
from resnet_spec.printing.consoles import table_width

if TYPE_CHECKING:
    from resnet_spec.weights.recognising.recognise import Recognised


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a weight file of any kind")
    parser.add_argument(
        "--from",
        dest="names",
        default="auto",
        metavar="SCHEME",
        help="whose names it has (default: auto, found from all of them)",
    )
    add_network(parser)
    add_format(parser, ("table", "json", "toml"))


def run(args: argparse.Namespace) -> int:
    """Print what the file holds as a table or JSON, or its spec as TOML."""
    from resnet_spec.describing.spec_files import dump_toml
    from resnet_spec.weights.recognising.recognise import recognise_file

    found = recognise_file(args.file, args.spec, args.names, args.settings, args.part)
    if args.format == "toml":
        print(dump_toml(found.spec), end="")
    elif args.format == "json":
        print(json_text(_fields(found), indent=2))
    else:
        print(_table(found))
    return 0


def _fields(found: Recognised) -> dict[str, Any]:
    from resnet_spec.planning.costs import count_params
    from resnet_spec.weights import finite_problems

    fields: dict[str, Any] = {
        "file": str(found.path),
        "kind": found.kind,
        "part": found.part,
        "scheme": found.scheme.name,
        "has_classifier": found.has_classifier,
        "spec": found.spec.to_dict(),
        "preset": None
        if found.preset is None
        else {"name": found.preset.name, "differs": list(found.preset.differs)},
        "params": count_params(found.plan.tensors),
        "tensors": len(found.tensors),
        "values": sum(array.size for array in found.tensors.values()),
        "dtypes": sorted({str(array.dtype) for array in found.tensors.values()}),
        "not_finite": finite_problems(found.tensors),
        "not_shown_by_tensors": [
            {"field": it.field, "value": it.value, "from": it.source, "set": list(it.remedy)}
            for it in found.open
        ],
        "notes": [*found.notes, *found.scheme.caveats],
    }
    if found.checkpoint is not None:
        fields["checkpoint"] = _run(found)
    return fields


def _run(found: Recognised) -> dict[str, Any]:
    """Return what an own checkpoint says of the run that wrote it."""
    checkpoint = found.checkpoint
    assert checkpoint is not None
    return {
        "recipe": None if checkpoint.recipe is None else checkpoint.recipe.to_dict(),
        "backend": dict(checkpoint.backend),
        "data": checkpoint.data,
        "class_names": list(checkpoint.class_names),
        "dataset": None if checkpoint.dataset is None else checkpoint.dataset.to_dict(),
        "progress": dict(checkpoint.progress),
    }


_FROM = {
    "usual": "assumed, as usual",
    "scheme": "fixed by the project's code",
    "set": "as you set",
    "spec": "as in the spec you gave",
}


def _table(found: Recognised) -> str:
    fields = _fields(found)
    name = "checkpoint of this project" if found.kind == "checkpoint" else found.kind
    spec, preset = found.spec, found.preset
    name += "" if found.has_classifier else ", no classifier"
    draws = f"none: resnet-spec train --pretrained {found.path} draws a classifier"
    rows = [
        ("file", f"{found.path}, {name}"),
        ("names", f"{found.scheme.name} ({found.scheme.about})"),
        ("network", _network(found)),
        ("preset", "none has these tensors" if preset is None else preset.name),
        *(("", f"but {line}") for line in (preset.differs if preset else ())),
        ("classes", f"{spec.classes}" if found.has_classifier else draws),
        ("parameters", f"{fields['params']:,}"),
        ("tensors", f"{fields['tensors']} of {', '.join(fields['dtypes'])}"),
        ("finite", "; ".join(fields["not_finite"][:3]) or "all values"),
        *_run_rows(fields.get("checkpoint", {})),
        *(("note", line) for line in fields["notes"]),
    ]
    page = table_width()
    lines = [line for label, text in rows for line in hanging(f"{label:<11} ", text, page)]
    if found.open:
        lines += ["", "not shown by tensors:"]
        width = max(len(it.text) for it in found.open)
        for it in found.open:
            text = f"{_FROM[it.source]}; else --set {' --set '.join(it.remedy)}"
            lines += hanging(f"  {it.text:<{width}}  ", text, page)
    return "\n".join([*lines, "", "its spec as TOML: --format toml"])


def _network(found: Recognised) -> str:
    spec = found.spec
    blocks = "-".join(str(stage.blocks) for stage in spec.stages)
    widths = "-".join(str(stage.width * spec.expansion) for stage in spec.stages)
    stem = "-".join(map(str, spec.stem.widths))
    parts = [
        f"{spec.order.replace('_', '-')} {spec.block} blocks {blocks}, channels {widths}",
        f"stem {stem} of {spec.stem.kernel}x{spec.stem.kernel}",
        f"shortcut {spec.shortcut}",
    ]
    if spec.groups > 1:
        parts.append(f"{spec.groups} groups")
    if spec.squeeze:
        parts.append(f"squeeze {spec.squeeze:g}")
    return "; ".join(parts)


def _run_rows(run: dict[str, Any]) -> list[tuple[str, str]]:
    if not run:
        return []
    recipe, progress = run["recipe"], run["progress"]
    rows = [("recipe", "none: weights alone" if recipe is None else str(recipe.get("name", "own")))]
    if run["backend"]:
        rows.append(("backend", ", ".join(f"{k} {v}" for k, v in run["backend"].items())))
    if run["data"]:
        rows.append(("data", run["data"]))
    if progress:
        rows.append(("progress", ", ".join(f"{k} {v}" for k, v in progress.items())[:200]))
    return rows
