"""One process of a run that is compared: reads what to train, trains, and rank 0 leaves what came.

The program of `group_side`: `python -m resnet_spec.parity.group_member FOLDER`, started once for
each process, which the environment tells its rank.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.contract import Array, Batch, Mix, Precision, Session, State
from resnet_spec.data.batches import share_of
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, ResnetSpecError
from resnet_spec.group import Group
from resnet_spec.loader import precisions_of
from resnet_spec.parity.setup import Setup
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.pace import keeps
from resnet_spec.planning.rematerialisation import trained_by
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe
from resnet_spec.running.found_group import found_group
from resnet_spec.running.meeting import end_of_command, joined, leave
from resnet_spec.running.opening import open_session
from resnet_spec.running.together import Together
from resnet_spec.running.under_launcher import end_with_launcher
from resnet_spec.session_state import LOSS_SCALE

NETWORK, ARRAYS, FOUND = "network.json", "arrays.npz", "found.npz"
SAID, FAILED = "said.txt", "resnet-spec: failed: "
OVERFLOW = 1e30
"""What no float16 can hold."""


def main(folder: Path) -> int:
    """Take part; return the exit status. A failure is a line that starts with `FAILED`."""
    end_with_launcher(os.environ)
    group = found_group(os.environ)
    try:
        told = _read(folder)
        with joined(told.backend, group) as together:
            found = _trained(told, together) | _overflowed(told, together)
            if together.is_first:
                np.savez(folder / FOUND, allow_pickle=False, **found)
        leave()
    except ResnetSpecError as error:
        print(f"{FAILED}{error.problems[0]}", flush=True)
        return 2
    return 0


class Told(NamedTuple):
    """What the processes are to train, and by whom."""

    backend: str
    device: str
    precision: Precision
    setup: Setup
    shard: bool = False

    def session(self, precision: Precision, group: Group) -> Session:
        """Return a session that holds the weights."""
        own = self.setup.plan, self.setup.recipe, self.device
        more: Any = {"precision": precision, "group": group, "shard": self.shard}
        made = open_session(self.backend, *own, **more)
        made.load(self.setup.state)
        return made


def _read(folder: Path) -> Told:
    """Return what `write` has left."""
    told: dict[str, Any] = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
    recipe = Recipe.from_dict(told["recipe"])
    with np.load(folder / ARRAYS, allow_pickle=False) as file:
        arrays: dict[str, Array] = {name: file[name] for name in file.files}
    state = _under(arrays, "state")
    batches = tuple(_batch(_under(arrays, f"batch{i}")) for i in range(told["steps"]))
    plan = trained_by(lower(Spec.from_dict(told["spec"])), recipe)
    numbers = rates(recipe, steps_per_epoch=1), keeps(recipe, steps_per_epoch=recipe.steps or 1)
    setup = Setup(plan, recipe, state, batches, *numbers)
    return Told(told["backend"], told["device"], told["precision"], setup, told["shard"])


def write(folder: Path, to_tell: Told, spec: Spec) -> None:
    """Leave what the processes are to train in `folder`; `spec` is that of its plan."""
    setup = to_tell.setup
    told = {
        "backend": to_tell.backend,
        "device": to_tell.device,
        "precision": to_tell.precision,
        "shard": to_tell.shard,
        "spec": spec.to_dict(),
        "recipe": setup.recipe.to_dict(),
        "steps": len(setup.batches),
    }
    arrays = {f"state:{name}": array for name, array in setup.state.items()}
    for i, batch in enumerate(setup.batches):
        parts = {"images": batch.images, "labels": batch.labels, "indices": batch.indices}
        parts |= {f"noise:{name}": factors for name, factors in batch.noise.items()}
        if batch.mix is not None:
            parts |= {"mix:labels": batch.mix.labels, "mix:share": batch.mix.share}
        if batch.teacher is not None:
            parts["teacher"] = batch.teacher
        arrays |= {f"batch{i}:{name}": array for name, array in parts.items()}
    np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
    (folder / NETWORK).write_text(json.dumps(told), encoding="utf-8")


def _batch(arrays: dict[str, Array]) -> Batch:
    noise, mix = _under(arrays, "noise"), _under(arrays, "mix")
    fixed = arrays["images"], arrays["labels"], arrays["indices"]
    given = Mix(**mix) if mix else None
    return Batch(*fixed, noise=noise, mix=given, teacher=arrays.get("teacher"))


def _under(arrays: dict[str, Array], first: str) -> dict[str, Array]:
    start = f"{first}:"
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def shares(setup: Setup, group: Group) -> Sequence[Batch]:
    """Return this process's share of every batch."""
    return [share_of(batch, group, setup.recipe.accumulate) for batch in setup.batches]


def _trained(told: Told, together: Together) -> dict[str, Array]:
    """Return the losses, the state after the first and the last step, and each rank's digests."""
    setup, own = told.setup, shares(told.setup, together.group)
    session = told.session(told.precision, together.group)
    log = session.train(iter(own[:1]), *setup.pace(0, 1))
    first, losses = session.state(), [log.loss]
    if len(own) > 1:
        losses.append(session.train(iter(own[1:]), *setup.pace(1)).loss)
    end = session.state()
    digests = together.gather(np.array([_digest(first), _digest(end)], np.float64))
    found = {f"first:{name}": array for name, array in first.items()}
    found |= {f"end:{name}": array for name, array in end.items()}
    info = json.dumps(dict(session.info))
    return found | {
        "losses": np.concatenate(losses),
        "digests": digests,
        "info": np.frombuffer(info.encode(), np.uint8),
    }


def _overflowed(told: Told, together: Together) -> dict[str, Array]:
    """Return what a float16 step comes to that overflows in the last process alone.

    By rank: whether the weights are as they were, the loss scale, and a digest of the state. {}
    where there is no float16 here, and where the first weights are frozen: what overflows there
    has no gradient, and behind a ReLU that makes 0 of NaN nothing of it is seen.
    """
    group, setup = together.group, told.setup
    if "float16" not in precisions_of(told.backend) or setup.recipe.freeze != "none":
        return {}
    try:
        session = told.session("float16", group)
    except BackendError:
        return {}
    batch = shares(setup, group)[0]
    images = np.zeros(batch.images.shape, np.float32)
    images += OVERFLOW if group.rank == group.size - 1 else 0.0
    session.train(iter([replace(batch, images=images)]), *setup.pace(0, 1))
    state = session.state()
    is_kept = all(np.array_equal(state[name], setup.state[name]) for name in setup.plan.trainable)
    numbers = [is_kept, float(state[f"{LOSS_SCALE}/scale"]), _digest(state)]
    return {"overflow": together.gather(np.array(numbers, np.float64))}


def _digest(state: State) -> int:
    """Return a number that tells states apart to the bit; 48 bits are whole in a float64."""
    digest = hashlib.sha256()
    for name, array in state.items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    return int(digest.hexdigest()[:12], 16)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    end_of_command(status)
    sys.exit(status)
