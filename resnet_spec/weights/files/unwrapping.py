"""From the tree of a file to named tensors: wrappers off, what is no weight of the network out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from resnet_spec.contract import Array
from resnet_spec.errors import did_you_mean
from resnet_spec.files.stand_ins import Built, Opaque
from resnet_spec.weights.files.arrays import HALVES
from resnet_spec.weights.files.source import Origin, shown
from resnet_spec.weights.files.tree import Tensor

_MODELS = (
    "state_dict",
    "model_state_dict",
    "model",
    "model_state",
    "net",
    "network",
    "module",
    "weights",
)
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_state", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_COLLECTIONS = ("params", "batch_stats")
_COUNTERS = ("num_batches_tracked", "n_averaged")
_MOST_NODES = 1_000_000
_DEEPEST = 64

Tree = dict[object, object]


def unwrapped(
    tree: object, source: Origin, part: str | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the named tensors of `tree` and notes on what was taken off and left out.

    part: the key of the part to take, such as "ema"; None takes the model.
    """
    notes: list[str] = []
    top = _mapping(tree)
    if top is None:
        raise source.refused(
            f"holds {_described(tree)} instead of named tensors",
            "save the network's state_dict",
        )
    if part is not None:
        top = _chosen(top, part, source, notes)
    for _ in range(8):
        inner = _inside(top, notes)
        if inner is None:
            break
        top = inner
    if isinstance(top.get("params"), dict):
        top = _collections(top, notes)
    tensors = _tensors(top, source, notes)
    tensors = _without_prefixes(tensors, notes)
    return _without_counters(tensors, notes), notes


def flat(tree: object, source: Origin) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors in `tree` by their dotted paths, and the paths of what is none.

    What is none has "", but a tensor that cannot be read, a sparse one, what it is called. The
    items of a list are named by their numbers. Raises CheckpointError for a tree that is hostile:
    nested too deeply, too large, or with two tensors of one name.
    """
    top = _mapping(tree, lists=True)
    tensors: dict[str, Tensor] = {}
    others: dict[str, str] = {}
    for name, leaf in _leaves(top or {}, "", source, [0], lists=True):
        if not isinstance(leaf, Tensor):
            others[name] = _unread(leaf)
        elif name in tensors:
            raise source.refused(f"has two tensors named {shown(name)}", "get it again")
        elif not name.isprintable():
            raise source.refused(f"has a tensor with the unprintable name {shown(name)}")
        else:
            tensors[name] = leaf
    return tensors, others


def _unread(leaf: object) -> str:
    """Return what a tensor that cannot be read is called; "" where `leaf` is no tensor."""
    if not isinstance(leaf, Opaque | Built) or not leaf.name.startswith(("torch.", "numpy.")):
        return ""
    return "" if leaf.name in _NO_TENSORS else leaf.name


_NO_TENSORS = ("torch.device", "torch.serialization._get_layout", "numpy.dtype")


def loaded(tensors: Mapping[str, Tensor], source: Origin, notes: list[str]) -> dict[str, Array]:
    """Load the tensors, with a note on those that are widened."""
    if not tensors:
        raise source.refused("holds no tensors", "name a file with weights")
    for half in sorted(HALVES):
        number = sum(tensor.element == half for tensor in tensors.values())
        if number:
            notes.append(f"{number} tensors of {half} are widened to float32")
    return {name: tensor.load() for name, tensor in tensors.items()}


def _chosen(top: Tree, part: str, source: Origin, notes: list[str]) -> Tree:
    parts = {key: found for key, value in top.items() if (found := _mapping(value)) is not None}
    keys = [key for key in (part, *(_AVERAGES if part == "ema" else ())) if key in parts]
    if not keys:
        names = [shown(str(key)) for key in parts]
        hint = did_you_mean(part, names) if names else "it holds one network alone"
        raise source.refused(f"has no part {part!r}", hint)
    notes.append(f"taken from {keys[0]!r}")
    _note_left_out([str(key) for key in top if key != keys[0]], notes)
    return parts[keys[0]]


def _inside(top: Tree, notes: list[str]) -> Tree | None:
    """Return the state dict that `top` wraps, or None when it is one itself."""
    found = [key for key in (*_MODELS, *_AVERAGES) if _mapping(top.get(key))]
    if not found and "batch_stats" not in top:
        # A file of Flax nests its parameters; one of torch joins their names with dots.
        inner = _mapping(top.get("params"))
        if inner and any(isinstance(key, str) and "." in key for key in inner):
            found = ["params"]
    if not found:
        return None
    taken = found[0]
    notes.append(f"taken from {taken!r}")
    averages = [key for key in found if key in _AVERAGES and key != taken]
    if averages:
        notes.append(f"the moving average in {averages[0]!r} is left out; ask for it by that name")
    _note_left_out([str(key) for key in top if key != taken and key not in averages], notes)
    return _mapping(top[taken])


def _collections(top: Tree, notes: list[str]) -> Tree:
    _note_left_out([str(key) for key in top if key not in _COLLECTIONS], notes)
    return {key: top[key] for key in _COLLECTIONS if key in top}


def _tensors(top: Tree, source: Origin, notes: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    plain: list[str] = []
    for name, leaf in _leaves(top, "", source, [0]):
        if isinstance(leaf, Tensor):
            if name in tensors:
                raise source.refused(f"has two tensors named {shown(name)}", "get it again")
            if not name.isprintable():
                raise source.refused(f"has a tensor with the unprintable name {shown(name)}")
            tensors[name] = leaf
        elif isinstance(leaf, Opaque | Built) and leaf.name.startswith(("torch.", "numpy.")):
            raise source.refused(
                f"{shown(name)} is a {shown(leaf.name)}, not a plain tensor",
                "save it as a dense tensor",
            )
        else:
            plain.append(name)
    _note_left_out(plain, notes)
    return tensors


def _leaves(
    node: Tree,
    prefix: str,
    source: Origin,
    seen: list[int],
    depth: int = 0,
    *,
    lists: bool = False,
) -> Iterator[tuple[str, object]]:
    """Yield (dotted name, leaf); a file can hold cycles, hence the two limits."""
    if depth > _DEEPEST:
        raise source.refused("is nested too deeply for weights", "get it again")
    for key, value in node.items():
        seen[0] += 1
        if seen[0] > _MOST_NODES:
            raise source.refused(f"holds more than {_MOST_NODES} entries", "get it again")
        name = f"{prefix}{key}" if isinstance(key, str | int) else f"{prefix}?"
        inner = _mapping(value, lists)
        if inner or (inner is not None and not lists):
            yield from _leaves(inner, f"{name}.", source, seen, depth + 1, lists=lists)
        elif isinstance(value, Built) and value.value is not None:
            yield name, value.value
        else:
            yield name, value


def _without_prefixes(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    for _ in range(8):
        prefix = next((p for p in _PREFIXES if _all_start(tensors, p)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"the prefix {prefix!r} is taken off all names")
    return tensors


def _all_start(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether all tensors of the network have `prefix`; a counter beside them may lack it."""
    names = [name for name in tensors if name not in _COUNTERS]
    return bool(names) and all(name.startswith(prefix) and name != prefix for name in names)


def _without_counters(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    kept = {n: tensor for n, tensor in tensors.items() if n.rpartition(".")[2] not in _COUNTERS}
    _note_left_out([name for name in tensors if name not in kept], notes)
    return kept


def _note_left_out(names: list[str], notes: list[str]) -> None:
    if names:
        few = ", ".join(shown(name, 40) for name in names[:4])
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        notes.append(f"left out: {few}{more}")


def _mapping(value: object, lists: bool = False) -> Tree | None:
    """Return a dict, and with `lists` a list as a dict from its numbers; None of anything else."""
    if isinstance(value, dict):
        return cast(Tree, value)
    if lists and isinstance(value, list | tuple):
        items = cast("list[object]", value)
        if any(isinstance(it, dict | list | tuple | Tensor) for it in items):
            return dict(enumerate(items))
    return None


def _described(value: object) -> str:
    if isinstance(value, Opaque | Built):
        return f"an object of the class {shown(value.name)}"
    return "one tensor without a name" if isinstance(value, Tensor) else f"a {type(value).__name__}"
