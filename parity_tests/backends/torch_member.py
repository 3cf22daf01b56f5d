"""One of several processes of the torch backend: all that its tests look at, into one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import resnet_spec_torch.group
import torch
from resnet_spec_torch.session import Session
from several import BITS, Found, evaluated, flat, with_gradients, write
from several import trained as steps_of
from small_plans import SIZE, small_plan

from resnet_spec.contract import Batch
from resnet_spec.data.batches import share_of
from resnet_spec.group import ALONE, Group
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.running.found_group import found_group
from resnet_spec.running.together import Together

STEPS, IMAGES = 4, 8
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biased": {"variance": "biased"},
    "replica": {"sync": "replica"},
}


def setup_of(variant: str, parts: int = 1) -> Setup:
    """Return a network with both kinds of noise, its batches, and a recipe with an average."""
    noisy = {"stochastic_depth": 0.5, "dropout": 0.5}
    plan = small_plan({"norm": VARIANTS[variant], **noisy})
    recipe = make_recipe(STEPS, IMAGES, accumulate=parts, ema={"decay": 0.9})
    return make_setup(plan, recipe)


def session_of(setup: Setup, group: Group, precision: Any = "float64") -> Session:
    """Return a session that holds the setup's weights."""
    made = Session(setup.plan, setup.recipe, device="cpu", precision=precision, group=group)
    made.load(setup.state)
    return made


def trained(
    setup: Setup, group: Group, cuts: Iterable[int] = (STEPS,), precision: Any = "float64"
) -> Found:
    """Train in chunks of so many steps; between them the state goes through a new session."""
    made = session_of(setup, group, precision)
    shares = [share_of(batch, group, setup.recipe.accumulate) for batch in setup.batches]
    found: Found = {}
    at = 0
    for steps in cuts:
        if at:
            state = made.state()
            made = session_of(setup, group, precision)
            made.load(state)
        found = steps_of(made, shares[at : at + steps], setup.rates[at:])
        at += steps
    return found


def sound(group: Group, together: Together) -> dict[str, Found]:
    """Return what one process and several must agree on."""
    found = {variant: trained(setup_of(variant, 2), group) for variant in ("plain", "biased")}
    setup = setup_of("plain")
    made = session_of(setup, group)
    found["gradients"] = with_gradients(made, share_of(setup.batches[0], group))
    found["evaluated"] = evaluated(made, together, SIZE, setup.plan.classes)
    return found


def overlapping(group: Group) -> Found:
    """Train as on an accelerator, where gradients are sent during the backward pass."""
    with mock.patch.object(resnet_spec_torch.group, "overlaps", lambda device: True):
        return trained(setup_of("plain", 2), group)


def overflowing(group: Group) -> Found:
    """Take two steps in float16, in the first of which a gradient of rank 1 alone overflows."""
    several: Any = resnet_spec_torch.group.Several
    send = several.send

    def overflowed(it: Any, parameters: Iterable[torch.Tensor]) -> None:
        first, *others = parameters
        if group.rank == 1 and first.grad is not None:
            first.grad.fill_(torch.inf)
        send(it, [first, *others])

    setup = setup_of("plain")
    made = session_of(setup, group, "float16")
    shares = [share_of(batch, group) for batch in setup.batches[:2]]
    with mock.patch.object(several, "send", overflowed):
        made.train(shares[:1], setup.rates[:1])
    skipped = made.state()
    made.train(shares[1:], setup.rates[:1])
    kept = {f"skipped/{name}": skipped[name] for name in ("fc.weight", "loss_scale/scale")}
    return {**made.state(), **kept}


def faulty(group: Group) -> dict[str, Found]:
    """Return what several processes come to with a fault in them."""
    several: Any = resnet_spec_torch.group.Several
    train = partial(trained, setup_of("plain", 2), group)
    found: dict[str, Found] = {"statistics of a replica": trained(setup_of("replica", 2), group)}
    with mock.patch.object(Group, "shares", _contiguous):
        found["a contiguous share of all parts"] = train()
    with mock.patch.object(several, "send"):
        found["gradients that are not sent"] = train()
    setup = setup_of("plain", 2)
    other = tuple(_other_noise(batch, group.rank) for batch in setup.batches)
    found["noise of each process's own"] = trained(replace(setup, batches=other), group)
    return found


def _contiguous(group: Group, count: int, parts: int = 1) -> list[slice]:
    del parts
    share = count // group.size
    return [slice(group.rank * share, (group.rank + 1) * share)]


def _other_noise(batch: Batch, rank: int) -> Batch:
    noise = {name: np.roll(factors, rank, axis=0) for name, factors in batch.noise.items()}
    return replace(batch, noise=noise)


def main(out: str) -> None:
    """Take part in the group that the environment speaks of."""
    torch.set_num_threads(1)
    group = found_group(os.environ)
    members = resnet_spec_torch.group.join(group)
    together = Together(group, members)
    found = sound(group, together)
    found["gathered"] = {"": members.gather(BITS * (group.rank + 1))}
    found["chunks"] = trained(setup_of("plain", 2), group, (1, 3))
    found["replica"] = trained(setup_of("replica"), group)
    found["overlapping"] = overlapping(group)
    if group.size == 2:
        found["overflow"] = overflowing(group)
        found |= faulty(group)
    members.leave()
    write(found, f"{out}/{group.rank}.npz")


def alone() -> Found:
    """Return what one process comes to."""
    found = sound(ALONE, Together())
    found["accumulated"] = trained(setup_of("replica", 2), ALONE)
    return flat(found)


if __name__ == "__main__":
    main(sys.argv[1])
