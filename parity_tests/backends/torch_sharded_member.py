"""One of several processes that keep parameters in parts: all that the tests look at."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import resnet_spec_torch.group
import resnet_spec_torch.sharding
import torch
from resnet_spec_torch.session import Session
from resnet_spec_torch.weights import part_of
from several import Found, evaluated, with_gradients, write
from several import trained as steps_of
from small_plans import SIZE, small_plan
from torch_member import IMAGES, STEPS, setup_of

from resnet_spec.contract import Batch
from resnet_spec.data.batches import share_of
from resnet_spec.group import ALONE, Group
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.planning.rematerialisation import rematerialised
from resnet_spec.running.together import Together

sharding: Any = resnet_spec_torch.sharding


def flattening() -> Setup:
    """Return a network that ends in a view of its logits, every block of which runs again."""
    recipe = make_recipe(STEPS, IMAGES, accumulate=2, ema={"decay": 0.9}, remat="all")
    plan = small_plan({"order": "pre_activation", "block": "bottleneck", "stochastic_depth": 0.5})
    return make_setup(rematerialised(plan, recipe), recipe)


OPTIMIZERS = ("adamw", "lamb", "lars", "rmsprop", "lion")


def optimised(kind: str) -> Setup:
    """Return a network whose step asks for norms of whole tensors, of units or of all gradients."""
    clip = {"clip_adaptive": 0.01} if kind == "lion" else {"clip_norm": 0.5}
    settings = {"kind": kind, "weight_decay": 0.02, "decay_norms": False, **clip}
    recipe = make_recipe(STEPS, IMAGES, accumulate=2, optimizer=settings)
    return make_setup(small_plan({}), recipe)


def session_of(setup: Setup, group: Group, precision: Any = "float64", **more: Any) -> Any:
    """Return a session in parts, unless told otherwise, that holds the setup's weights."""
    fixed = {"device": "cpu", "group": group, "shard": group.size > 1, **more}
    made = Session(setup.plan, setup.recipe, precision=precision, **fixed)
    made.load(setup.state)
    return made


def shares(setup: Setup, group: Group) -> list[Batch]:
    """Return this process's share of every batch."""
    return [share_of(batch, group, setup.recipe.accumulate) for batch in setup.batches]


def trained(setup: Setup, group: Group, precision: Any = "float64", **more: Any) -> Found:
    """Take all steps; return the state and the log."""
    made = session_of(setup, group, precision, **more)
    return steps_of(made, shares(setup, group), setup.rates)


def handed_over(setup: Setup, group: Group) -> Found:
    """Train two steps in parts, one in a process alone, and the last one whole in every process."""
    ways: list[tuple[Group, bool, slice]] = [
        (group, True, slice(0, 2)),
        (ALONE, False, slice(2, 3)),
        (group, False, slice(3, STEPS)),
    ]
    state = setup.state
    for one, shard, cut in ways:
        made = session_of(setup, one, shard=shard)
        made.load(state)
        made.train(shares(setup, one)[cut], setup.rates[cut])
        state = made.state()
    return state


def held(session: Any) -> Found:
    """Return bytes here and in all, of parameters, of slots and of averages of parameters."""
    kinds: dict[str, list[Any]] = {"parameters": list(session.native.parameters())}
    for name, tensors in session._slots().items():
        if ".running_" not in name:
            kinds.setdefault(name.partition("/")[0], []).extend(tensors)
    return {
        kind: np.array([sum(part_of(t).nbytes for t in them), sum(t.numel() * 8 for t in them)])
        for kind, them in kinds.items()
    }


def overflowing(setup: Setup, group: Group) -> Found:
    """Take two steps in float16, in the first of which the loss of rank 1 alone overflows."""
    made = session_of(setup, group, "float16")
    mine, loss = shares(setup, group), made._loss_of

    def overflowed(*compared: Any) -> torch.Tensor:
        return loss(*compared) * (torch.inf if group.rank == 1 else 1.0)

    with mock.patch.object(made, "_loss_of", overflowed):
        made.train(mine[:1], setup.rates[:1])
    skipped = made.state()
    made.train(mine[1:2], setup.rates[:1])
    kept = {f"skipped/{name}": skipped[name] for name in ("fc.weight", "loss_scale/scale")}
    return {**made.state(), **kept}


def predicted(session: Any, batch: Batch, group: Group) -> Found:
    """Predict a batch in the first process, and nothing in the others."""
    return {"count": np.array(len(list(session.predict([batch] if group.rank == 0 else []))))}


def faulty(setup: Setup, group: Group) -> dict[str, Found]:
    """Return what processes come to with a fault in them."""
    train = partial(trained, setup, group)
    found: dict[str, Found] = {}
    shard = sharding.fully_shard

    def summed(part: Any, **kinds: Any) -> None:
        shard(part, **kinds).set_gradient_divide_factor(1.0)

    with mock.patch.object(sharding, "fully_shard", summed):
        found["sums for means"] = train()
    step = torch.optim.SGD.step

    def but_one(optimizer: Any, closure: None = None) -> None:
        part = part_of(optimizer.param_groups[0]["params"][0])
        before = part.clone()
        step(optimizer)
        if group.rank == 1:
            part.copy_(before)

    with mock.patch.object(torch.optim.SGD, "step", but_one):
        found["a part that stays"] = train()
    return found


def take_part(rank: int, size: int, port: int, file: str) -> None:
    """Leave all that the tests look at in `file`."""
    torch.set_num_threads(1)
    group = Group(rank, size, f"127.0.0.1:{port}", rank)
    members = resnet_spec_torch.group.join(group)
    setup, once = setup_of("plain", 2), setup_of("plain")
    made = session_of(setup, group)
    found: dict[str, Found] = {"loaded": made.state()}
    found["plain"] = steps_of(made, shares(setup, group), setup.rates)
    found["held"] = held(made)
    found["info"] = {name: np.array(text) for name, text in made.info.items()}
    found["flattening"] = trained(flattening(), group)
    found["replica"] = trained(setup_of("replica"), group)
    found |= {kind: trained(optimised(kind), group) for kind in OPTIMIZERS}
    found["handed over"] = handed_over(setup, group)
    made = session_of(once, group)
    found["gradients"] = with_gradients(made, share_of(once.batches[0], group))
    found["evaluated"] = evaluated(made, Together(group, members), SIZE, once.plan.classes)
    found["predicted"] = predicted(made, once.batches[0], group)
    if size == 2:
        found["bfloat16"] = trained(setup, group, "bfloat16")
        found["overflow"] = overflowing(once, group)
        found |= faulty(setup, group)
    members.leave()
    write(found, file)
