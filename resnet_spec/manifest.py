"""What a backend says of itself in its `manifest.toml`, read without importing it.

A file beside the package's `__init__.py`, as data: finding a framework, its formats or its
precisions costs no import, and a package that cannot be imported can still be told of. Every key is
checked; a file with a fault is one line that names the file, the key and the rule.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from resnet_spec.contract import Precision
from resnet_spec.errors import BackendError, did_you_mean
from resnet_spec.losses import Kind
from resnet_spec.manifest_bench import Bench, read_bench
from resnet_spec.manifest_reader import TableReader

FILE = "manifest.toml"

ImageLayout = Literal["NCHW", "NHWC"]
DialectName = Literal["torch", "flax", "mindspore", "keras"]
"""The names of `weights.naming.dialects`, which is below: a test holds them equal."""
Compiles = Literal["always", "asked", "never"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exported models that the backend's module `export` writes and reads.

    ending: of its files, with the dot. layout: of the normalised images that its models take.
    needs: top-level packages beside the backend's own. install: the command that installs them.
    """

    backend: str
    ending: str
    layout: ImageLayout
    needs: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backend, in its own words.

    requires: top-level packages that it needs, as they are imported. install: the command that
    installs them.
    precisions: what its sessions compute in. modules: the framework's own classes of networks, as
    `module.Class`; a model of one of them is for the backend's module that takes people's own
    networks; empty where it takes none. dialect: what their layers call their tensors, by a name of
    `weights.naming.dialects`. formats: by name, what its module `export` writes. shards: whether
    its sessions take `shard`. compiles: when a session compiles its first step, which then takes
    long: "asked" is by its argument `compile`, which "never" refuses. losses: by which kinds of
    `losses.Loss` its sessions compare logits with targets for every class; all have the
    cross-entropy of labels. keeps: whether their `train` takes `keeps`, and so averages that vary.
    teachers: whether they learn from a teacher's logits, too, where a batch has them. notices:
    whether one of several processes notices at once that another is lost, on whatever machine.
    bench: what it brings to `resnet-spec bench`.
    """

    requires: tuple[str, ...]
    install: str
    precisions: tuple[Precision, ...]
    modules: tuple[str, ...] = ()
    dialect: str = ""
    formats: Mapping[str, Format] = field(default_factory=dict[str, Format])
    shards: bool = False
    compiles: Compiles = "never"
    losses: tuple[str, ...] = ()
    keeps: bool = False
    teachers: bool = False
    notices: bool = False
    bench: Bench = field(default_factory=Bench)


def read_manifest(path: Path, backend: str) -> Manifest:
    """Return what the file says of `backend`. Raises BackendError, a line for each fault."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        why = " ".join(str(cause).split())
        raise BackendError(f"{path}: cannot be read as TOML: {why}") from cause
    reader = _Reader(path)
    reader.check_keys("", table, [one.name for one in fields(Manifest)])
    requires = reader.packages(table, "requires", required=True)
    modules = reader.classes(table)
    manifest = Manifest(
        requires=requires,
        install=reader.text(table, "install", required=bool(requires)),
        precisions=cast("tuple[Precision, ...]", reader.precisions(table)),
        modules=modules,
        dialect=reader.dialect(table, required=bool(modules)),
        formats=reader.formats(table, backend),
        shards=reader.flag(table, "shards"),
        compiles=reader.compiles(table),
        losses=reader.losses(table),
        keeps=reader.flag(table, "keeps"),
        teachers=reader.flag(table, "teachers"),
        notices=reader.flag(table, "notices"),
        bench=read_bench(reader, table, backend),
    )
    if reader.lines:
        raise BackendError(*reader.lines)
    return manifest


def claimed_formats(path: Path) -> tuple[str, ...]:
    """Return the names of formats in a file that may break rules; none where it is no TOML."""
    try:
        tables: object = tomllib.loads(path.read_text(encoding="utf-8")).get("formats")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ()
    return tuple(cast("dict[str, Any]", tables)) if isinstance(tables, dict) else ()


class _Reader(TableReader):
    """Reads values of a table; keeps a line for each that breaks a rule."""

    def classes(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        found = self.names(table, "modules")
        for name in found:
            parts = name.split(".")
            if len(parts) < 2 or not all(part.isidentifier() for part in parts):
                rule = f"{name!r} is no class as module.Class"
                self.say("modules", rule, "write it as 'torch.nn.modules.module.Module' is")
        return found

    def dialect(self, table: Mapping[str, Any], required: bool) -> str:
        found = self.text(table, "dialect", required=required)
        if found and found not in get_args(DialectName):
            rule = f"{found!r} is no dialect"
            self.say("dialect", rule, did_you_mean(found, get_args(DialectName)))
        return found

    def compiles(self, table: Mapping[str, Any]) -> Compiles:
        found: Any = table.get("compiles", "never")
        if found not in get_args(Compiles):
            self.say("compiles", f"must be one of {', '.join(get_args(Compiles))}, not {found!r}")
        return found

    def losses(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        found = self.names(table, "losses")
        for name in found:
            if name not in get_args(Kind):
                rule = f"{name!r} is not one of {', '.join(get_args(Kind))}"
                self.say("losses", rule, did_you_mean(name, get_args(Kind)))
        return found

    def precisions(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        before = len(self.lines)
        found, known = self.names(table, "precisions", required=True), get_args(Precision)
        if len(self.lines) == before and "float32" not in found:
            self.say("precisions", "must have float32, in which backends are compared")
        for name in found:
            if name not in known:
                shown = name if name.isprintable() else repr(name)
                self.say("precisions", f"{shown} is no precision", did_you_mean(name, known))
        return found

    def formats(self, table: Mapping[str, Any], backend: str) -> dict[str, Format]:
        tables: Any = table.get("formats", {})
        if not isinstance(tables, dict):
            self.say("formats", self.rule(tables, "a table for each format"))
            return {}
        rows = cast("dict[str, Any]", tables)
        return {name: self._format(name, row, backend) for name, row in rows.items()}

    def _format(self, name: str, row: Any, backend: str) -> Format:
        if not re.fullmatch(r"[\w-]+", name, re.ASCII):
            self.say("formats", f"{name!r} is no plain word", "use letters, digits, - and _")
        where = f"formats.{name}" if name.isprintable() else f"formats.{name!r}"
        if not isinstance(row, dict):
            self.say(where, self.rule(row, "a table"))
            return Format(backend, "", "NCHW")
        values, start = cast("dict[str, Any]", row), f"{where}."
        self.check_keys(start, values, ("ending", "layout", "needs", "install"))
        ending = self.text(values, "ending", start)
        if ending and not re.fullmatch(r"\.\w[\w.-]*", ending):
            self.say(f"{start}ending", f"must be a dot and a word, as '.onnx', not {ending!r}")
        layout = self.text(values, "layout", start)
        layouts = get_args(ImageLayout)
        if layout and layout not in layouts:
            self.say(f"{start}layout", f"must be one of {', '.join(layouts)}, not {layout!r}")
        needs = self.packages(values, "needs", start)
        install = self.text(values, "install", start, required=bool(needs))
        return Format(backend, ending, cast("ImageLayout", layout), needs, install)
