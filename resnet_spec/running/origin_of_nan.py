"""In which of several processes a loss first was no number.

The loss of a step is a mean over all processes, and so is NaN in all of them when it is in one:
afterwards their weights say nothing. What each process had of its own is looked at instead: its
noise, and what it computes of its own images from weights that are known to be sound.
"""

from __future__ import annotations

import numpy as np

from resnet_spec.contract import Batch, Session
from resnet_spec.data.batches import train_batches
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.running.runs import Run
from resnet_spec.running.stages import stage_at, stages_of
from resnet_spec.running.together import Together

_SOUND, _NOISE, _LOGITS = 0, 1, 2
_WHY = {
    _NOISE: "has dropout factors that are not finite",
    _LOGITS: "computes logits that are not finite from the initial weights, too",
}


def origin_of_nan(run: Run, session: Session, together: Together, step: int) -> list[str]:
    """Return a text for each process that alone could have made step `step` (from 0) not finite.

    All processes call it and get the same, `rank 1: has ...`. Empty where none differs from the
    rest: the run diverged, in all of them. `session` holds the initial weights afterwards.
    """
    if together.group.size == 1:
        return []
    stage = stage_at(stages_of(run), step)
    fixed = stage.plan.noises, stage.split, run.recipe
    source = train_batches(*fixed, step, step + 1, together.group, stage.plan.input.mean)
    batch = next(source)
    session.load(initial_state(run.plan, run.recipe.seed))
    # All of them predict, sound noise or not: where weights are sharded they need each other.
    (logits,) = session.predict([_without_noise(batch)])
    own = _LOGITS if not np.isfinite(logits).all() else _SOUND
    if not all(np.isfinite(factors).all() for factors in batch.noise.values()):
        own = _NOISE
    found = together.gather(np.array([own], np.float64))[:, 0].astype(int).tolist()
    if all(found):
        return []
    return [f"rank {rank}: {_WHY[one]}" for rank, one in enumerate(found) if one != _SOUND]


def _without_noise(batch: Batch) -> Batch:
    return Batch(batch.images, batch.labels, batch.indices)
