"""The sessions of a run: one that trains, and where it is needed another one that evaluates.

Another one is there for the average of the weights, and for images of another size. Where training
images change their size, each size is trained by a session of its own plan. A teacher has one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resnet_spec.contract import Batch, Session
from resnet_spec.data.dataset import Split
from resnet_spec.plan import Plan
from resnet_spec.running.evaluate import Evaluation, evaluate
from resnet_spec.running.runs import Run
from resnet_spec.running.stages import Stage, stage_at, stages_of
from resnet_spec.running.teaching import Teach, untaught
from resnet_spec.running.together import Together
from resnet_spec.session_state import AVERAGE, family
from resnet_spec.weights.checkpoint import Checkpoint


class Sessions:
    """trained: the session that trains. judged: the one that evaluates; it may be the same.

    made: makes one that trains a plan; needed where the run has stages of several sizes. teach: see
    `teaching.Teach`.
    """

    def __init__(
        self,
        run: Run,
        trained: Session,
        judged: Session,
        together: Together,
        made: Callable[[Plan], Session] | None = None,
        teach: Teach = untaught,
    ) -> None:
        self.trained, self.judged, self.together = trained, judged, together
        self._made, self._teach, self._stages = made, teach, stages_of(run)
        self.stage: Stage | None = None

    @property
    def is_apart(self) -> bool:
        """Whether weights are to be loaded before they are evaluated."""
        return self.judged is not self.trained

    def enter(self, step: int) -> Stage:
        """Return the stage of the step that follows `step` ones, which `trained` is of then."""
        stage = stage_at(self._stages, step)
        if self.stage is not None and stage.first_step != self.stage.first_step:
            assert self._made is not None, "a run of several sizes is given what makes sessions"
            state = self.trained.state()
            self.trained = self._made(stage.plan)
            self.trained.load(state)
        self.stage = stage
        return stage

    def taught(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return the batches of the stage that was entered with a teacher's logits, if any."""
        assert self.stage is not None
        return self._teach(batches, self.stage.plan)

    def evaluate(self, weights: Checkpoint, split: Split) -> Evaluation:
        """Return what the evaluated weights give: those that are trained, or their average."""
        if self.is_apart:
            self.judged.load(weights.state)
        return evaluate(self.judged, split, together=self.together)

    def evaluate_weights(self, last: Checkpoint, split: Split) -> Evaluation | None:
        """Return what the weights themselves give beside their average; None without one."""
        if not any(family(name) == AVERAGE for name in last.state):
            return None
        self.judged.load({name: last.state[name] for name in last.state if not family(name)})
        return evaluate(self.judged, split, together=self.together)
