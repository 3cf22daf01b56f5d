"""Files that hold the state of a training run and no weights: they are told apart, by name.

The moments of an optimiser have the names and shapes of the weights, and would pass for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from resnet_spec.files.stand_ins import Built, Opaque
from resnet_spec.weights.files.mindspore_ckpt import is_no_weight
from resnet_spec.weights.files.source import Origin, shown
from resnet_spec.weights.files.tree import Tensor, as_list, as_tuple

_OF_OPTIMISERS = """
    optimizer optimizers optimizer_state optimizer_states optimizer_state_dict optim optim_state
    opt opt_state optimiser mu nu trace exp_avg exp_avg_sq max_exp_avg_sq momentum_buffer
"""
_OF_RUNS = """
    scheduler schedulers lr_scheduler lr_schedulers scheduler_state_dict scaler grad_scaler
    rng rng_state rng_states random_states torch_rng_state cuda_rng_state cuda_rng_states
"""
_OPTIMISERS, _OTHERS = frozenset(_OF_OPTIMISERS.split()), frozenset(_OF_RUNS.split())
"""Names of branches: what optimisers keep, torch's and optax's by field, and what runs keep."""
_COUNTERS = frozenset(["count", "step", "epoch", "global_step", "learning_rate", "rng_state"])
_MOST_NODES = 200_000
_DEEPEST = 32
_Tree = dict[object, object]


class _Leaf(NamedTuple):
    """A leaf of a tree. branch: the part of an optimiser or another state that it is in, or ""."""

    name: str
    value: object
    branch: str


def refuse_state_alone(tree: object, origin: Origin) -> None:
    """Raise CheckpointError for a tree that holds the state of a training run and nothing else."""
    if not isinstance(tree, dict):
        return
    leaves: list[_Leaf] = []
    seen = [0]
    for leaf in _leaves(cast(_Tree, tree), "", "", 0, seen):
        is_weight = isinstance(leaf.value, Tensor) and not leaf.branch
        if is_weight and leaf.name.rpartition(".")[2] not in _COUNTERS:
            return
        leaves.append(leaf)
    if seen[0] > _MOST_NODES:
        return
    state = [it for it in leaves if it.branch]
    remedy = "name the file with the network's weights"
    if state:
        is_optimiser = any(it.branch in _OPTIMISERS for it in state)
        what = "an optimiser" if is_optimiser else "a training run"
        names = ", ".join(dict.fromkeys(shown(it.name, 60) for it in state[:3]))
        raise origin.refused(f"holds the state of {what} alone ({names})", remedy)
    if any(_is_array(it.value) for it in leaves):
        return
    others = list(dict.fromkeys(shown(it.name.partition(".")[0], 60) for it in leaves))
    if others:
        has = f"name a file with weights; this one has {', '.join(others[:4])}"
        raise origin.refused("holds no tensors", has)


def _leaves(node: _Tree, prefix: str, branch: str, depth: int, seen: list[int]) -> Iterator[_Leaf]:
    """Yield the leaves; a hostile tree has no end, so that there is one to the nodes `seen`."""
    is_torchs = "param_groups" in node and "state" in node
    for key, value in node.items():
        seen[0] += 1
        if seen[0] > _MOST_NODES or depth > _DEEPEST:
            seen[0] = _MOST_NODES + 1
            return
        name = f"{prefix}{key}" if isinstance(key, str | int) else f"{prefix}?"
        below = branch or _state(key, value) or ("optimizer" if is_torchs else "")
        inner = _branches(value)
        if inner is not None:
            yield from _leaves(inner, f"{name}.", below, depth + 1, seen)
        else:
            found = value.value if isinstance(value, Built) and value.value else value
            yield _Leaf(name, found, below)


def _branches(value: object) -> _Tree | None:
    """Return what is below a dict, a list or a tuple; None for a leaf."""
    if isinstance(value, dict):
        return cast(_Tree, value)
    items = as_list(value) or as_tuple(value)
    return None if items is None else dict(enumerate(items))


def _state(key: object, value: object) -> str:
    """Return the kind of state that a key stands for, "" for none."""
    if not isinstance(key, str):
        return ""
    if isinstance(value, Opaque) and (is_no_weight(key) or value.name == "state of training"):
        return "optimizer"
    if key in _OPTIMISERS and not isinstance(value, Tensor):
        return key
    return key if key in _OTHERS else ""


def _is_array(value: object) -> bool:
    """Whether a leaf is an array, be it one that weights are not made of."""
    return isinstance(value, Tensor) or (
        isinstance(value, Opaque | Built) and value.name.startswith(("torch.", "numpy."))
    )
