"""Recipes by name, from files, with overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_spec.describing.descriptions import is_none
from resnet_spec.describing.from_text import (
    Fields,
    is_file_name,
    merge,
    override,
    plain,
    read_file,
    table_at,
)
from resnet_spec.describing.image_changes import OWN as OWN_OF_POLICIES
from resnet_spec.describing.recipe_table import RECIPES
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import RecipeError, check_kind, did_you_mean
from resnet_spec.losses import OF_TEACHERS, Loss
from resnet_spec.losses import OWN as OWN_OF_LOSSES
from resnet_spec.optimizers import CLIPS, OWN, Optimizer
from resnet_spec.recipe import Recipe


def list_recipes() -> list[str]:
    """Return the names of all recipes."""
    return list(RECIPES)


Source = str | Path | Mapping[str, object] | Recipe


def load_recipe(source: Source, settings: Texts = ()) -> Recipe:
    """Return a recipe from a name, a `.toml` or `.json` file, a dict or a recipe.

    A file may say `base = "cifar-fast"` and give only what differs. `settings` are `key=value`
    texts such as `schedule.rate=0.05`, or one of them; setting `steps` drops the base's `epochs`
    and the reverse, and another `optimizer.kind`, `augment.policy` or `loss.kind` what the base
    sets of its own kind alone; another way of clipping takes the place of the base's, and with
    `schedule.warmup=0` its `warmup_start` goes, too, as the digest does with another teacher, and
    with `loss.teacher=none` all that is of one. `none` stands for no value where there may be none.

    Raises RecipeError.
    """
    data, where = _read(source)
    data = _with_base(data, where)
    changes = listed(settings, "settings", RecipeError)
    given = override({}, [text for text in changes if _replaces(text)], RecipeError)
    changed = override(_left_by(given, data), changes, RecipeError)
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if _sets(changes, given) and not _sets(changes, other) and not is_none(changed.get(given)):
            changed.pop(other, None)
    return Recipe.from_dict(changed, where)


def _read(source: Source) -> tuple[Fields, str]:
    if isinstance(source, Recipe):
        return source.to_dict(), ""
    if isinstance(source, Mapping):
        return plain(source), ""
    rule = "must be a recipe's name, a file, a table or a Recipe"
    check_kind(RecipeError, "recipe", source, [str, Path], rule)
    path = Path(source)
    if is_file_name(path):
        return read_file(path, RecipeError), path.name
    return {"base": str(source)}, ""


def _with_base(data: Fields, where: str) -> Fields:
    if "base" not in data:
        return data
    base = str(data["base"])
    if base not in RECIPES:
        prefix = f"{where}: base" if where else "recipe"
        hint = did_you_mean(base, RECIPES) or "see: resnet-spec list --recipes"
        raise RecipeError(
            f"{prefix} = {base}: is neither a recipe nor a .toml or .json file; {hint}"
        )
    rest = {key: value for key, value in data.items() if key != "base"}
    merged = merge(_left_by(rest, {"name": base, **RECIPES[base]}), rest)
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if not is_none(rest.get(given)) and other not in rest:
            merged.pop(other, None)
    return merged


class _Kind(NamedTuple):
    """A field that says which of its table's settings are read. own: those of some kinds alone."""

    table: str
    field: str
    default: str
    own: tuple[str, ...]


_KINDS = (
    _Kind("optimizer", "kind", Optimizer().kind, OWN),
    _Kind("augment", "policy", "none", OWN_OF_POLICIES),
    _Kind("loss", "kind", Loss().kind, OWN_OF_LOSSES),
)


def _left_by(changes: Fields, base: Fields) -> Fields:
    """Return `base` without the settings that make no sense beside `changes`.

    Another kind has its own defaults, also of settings that both have: what is a usual `beta2` in
    one optimiser is not in another. None of them could be taken back by hand: TOML has no null.
    """
    kept = dict(base)
    for kind in _KINDS:
        before, new = table_at(base, kind.table), table_at(changes, kind.table)
        if kind.field in new and new[kind.field] != before.get(kind.field, kind.default):
            kept = _without(kept, kind.table, kind.own)
    clips = table_at(changes, "optimizer")
    if any(not is_none(clips.get(name)) for name in CLIPS):
        kept = _without(kept, "optimizer", CLIPS)
    loss = table_at(changes, "loss")
    if "teacher" in loss:
        gone = OF_TEACHERS if is_none(loss["teacher"]) else ("teacher_digest",)
        kept = _without(kept, "loss", gone)
    if table_at(changes, "schedule").get("warmup") == 0:
        kept = _without(kept, "schedule", ("warmup_start",))
    return kept


def _without(data: Fields, name: str, keys: Sequence[str]) -> Fields:
    """Return `data` whose table `name` has none of `keys`."""
    if not isinstance(data.get(name), Mapping):
        return data
    return {**data, name: {k: value for k, value in table_at(data, name).items() if k not in keys}}


_REPLACING = (
    *(f"{kind.table}.{kind.field}" for kind in _KINDS),
    *(f"optimizer.{name}" for name in CLIPS),
    "schedule.warmup",
    "loss.teacher",
)
"""Settings beside which some of a base's make no sense."""


def _replaces(setting: str) -> bool:
    return any(_sets([setting], name) for name in _REPLACING)


def _sets(settings: Sequence[str], key: str) -> bool:
    return any(setting.partition("=")[0].strip() == key for setting in settings)
