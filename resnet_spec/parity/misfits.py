"""Why a person's model does not have a network's tensors, in one line, where there is one reason.

Compares names and shapes alone; `wrapping` asks once the tensors do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from resnet_spec.errors import CheckpointError, problem
from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec.planning.fine_tuning import classifier
from resnet_spec.weights.naming import SCHEMES, Foreign
from resnet_spec.weights.naming.lifting import shapes_of

Shapes = Mapping[str, Shape]


def reason(
    plan: Plan, tensors: Mapping[str, Foreign], called: str, kind: str, found: Shapes
) -> str | None:
    """Return the one reason why `found` is not the plan's, None where there are several.

    tensors: what the plan's are called, by canonical name. called: the scheme, or "the mapping".
    kind: the framework whose names the schemes have. found: the model's shapes by its own names.
    """
    if line := _classes(plan, tensors, found):
        return line
    if called in SCHEMES or called == "the mapping":
        for other in SCHEMES:
            if other != called and _wanted(plan, other, kind) == dict(found):
                return problem("names", called, "are not the model's", f"use names = {other}")
    return _prefix(plan, tensors, kind, found)


def _classes(plan: Plan, tensors: Mapping[str, Foreign], found: Shapes) -> str | None:
    """Return a line where nothing but the number of classes differs."""
    wanted = shapes_of(plan, tensors)
    if wanted.keys() != found.keys():
        return None
    last = {tensors[tensor.name].name for tensor in classifier(plan).tensors}
    counts: set[int] = set()
    for name, shape in wanted.items():
        there = tuple(found[name])
        if there == shape:
            continue
        if name not in last or len(there) != len(shape):
            return None
        counts.update(b for a, b in zip(shape, there, strict=True) if a != b)
    if len(counts) != 1:
        return None
    (count,) = counts
    return problem("classes", plan.classes, f"the model has {count}", f"use --classes {count}")


def _prefix(plan: Plan, tensors: Mapping[str, Foreign], kind: str, found: Shapes) -> str | None:
    """Return a line where the names are right behind a beginning that they have in common."""
    candidates = {tensor.name for tensor in tensors.values()}, *_other_names(plan, kind)
    for prefix in _prefixes(found):
        inner = {name.removeprefix(prefix) for name in found if name.startswith(prefix)}
        if inner and any(inner == names for names in candidates):
            every = all(name.startswith(prefix) for name in found)
            names = "all names begin" if every else "the network's names begin"
            place = prefix.replace("/", ".").rstrip(".")
            return f"model: {names} with '{prefix}'; give what it wraps, model.{place}"
    return None


def _prefixes(found: Shapes) -> list[str]:
    """Return the beginnings of names up to a separator, the shortest first."""
    starts = {name[: sign.end()] for name in found for sign in re.finditer(r"[./]", name)}
    return sorted(starts, key=lambda start: (len(start), start))


def _other_names(plan: Plan, kind: str) -> list[set[str]]:
    return [set(wanted) for name in SCHEMES if (wanted := _wanted(plan, name, kind))]


def _wanted(plan: Plan, scheme: str, kind: str) -> dict[str, Shape]:
    """Return the shapes by the scheme's names; {} where it has none for the network."""
    try:
        return shapes_of(plan, SCHEMES[scheme].names(plan, kind))
    except CheckpointError:
        return {}
