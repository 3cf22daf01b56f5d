"""Which of the ways of being one among others a session takes: alone, with replicas, with parts."""

from __future__ import annotations

import torch

from resnet_spec.errors import BackendError
from resnet_spec.group import Group
from resnet_spec.plan import Plan
from resnet_spec_torch.group import Alone, Several


def others_of(
    plan: Plan, group: Group, device: torch.device, *, shard: bool, compile: bool
) -> Alone:
    """Return what a session does for the others of `group`.

    Raises BackendError where a single process is to keep parts, or `compile` them.
    """
    if not shard:
        return Alone() if group.size == 1 else Several(plan, group, device)
    if group.size == 1:
        raise BackendError("--shard: needs several processes; see resnet-spec launch")
    if compile:
        raise BackendError("--shard: is not tried with --compile; leave one of them out")
    # FSDP2 takes a moment to import.
    from resnet_spec_torch.sharding import Sharded

    return Sharded(plan, group, device)
