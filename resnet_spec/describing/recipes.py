"""Recipes by name, from files, with overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from resnet_spec.describing.from_text import Fields, is_file_name, merge, override, plain, read_file
from resnet_spec.describing.image_changes import OWN as OWN_OF_POLICIES
from resnet_spec.describing.recipe_table import RECIPES
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import RecipeError, check_kind, did_you_mean
from resnet_spec.optimizers import OWN, Optimizer
from resnet_spec.recipe import Recipe


def list_recipes() -> list[str]:
    """Return the names of all recipes."""
    return list(RECIPES)


Source = str | Path | Mapping[str, object] | Recipe


def load_recipe(source: Source, settings: Texts = ()) -> Recipe:
    """Return a recipe from a name, a `.toml` or `.json` file, a dict or a recipe.

    A file may say `base = "cifar-fast"` and give only what differs. `settings` are `key=value`
    texts such as `schedule.rate=0.05`, or one of them; setting `steps` drops the base's `epochs`
    and the reverse, and another `optimizer.kind` or `augment.policy` what the base sets
    of its own kind alone.

    Raises RecipeError.
    """
    data, where = _read(source)
    data = _with_base(data, where)
    changes = listed(settings, "settings", RecipeError)
    given = override({}, [text for text in changes if _sets_kind(text)], RecipeError)
    changed = override(_for_kinds_of(given, data), changes, RecipeError)
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if _sets(changes, given) and not _sets(changes, other):
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
        hint = did_you_mean(base, RECIPES)
        raise RecipeError(
            f"{prefix} = {base}: is neither a recipe nor a .toml or .json file; {hint}"
        )
    rest = {key: value for key, value in data.items() if key != "base"}
    merged = merge(_for_kinds_of(rest, {"name": base, **RECIPES[base]}), rest)
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if given in rest and other not in rest:
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
)


def _for_kinds_of(changes: Fields, base: Fields) -> Fields:
    """Return `base` without the settings of its optimiser that those of another kind replace.

    The new kind has its own defaults, also of settings that both have: what is a usual `beta2` in
    one is not in another. The same for the policy of its augmentation.
    """
    kept = dict(base)
    for kind in _KINDS:
        old, new = base.get(kind.table), changes.get(kind.table)
        if not isinstance(old, Mapping) or not isinstance(new, Mapping) or kind.field not in new:
            continue
        before = cast(Fields, old)
        if cast(Fields, new)[kind.field] != before.get(kind.field, kind.default):
            kept[kind.table] = {k: value for k, value in before.items() if k not in kind.own}
    return kept


def _sets_kind(setting: str) -> bool:
    return any(_sets([setting], f"{kind.table}.{kind.field}") for kind in _KINDS)


def _sets(settings: Sequence[str], key: str) -> bool:
    return any(setting.partition("=")[0].strip() == key for setting in settings)
