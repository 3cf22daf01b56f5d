"""Who evaluates a run as it goes: the session that trains, and another one for its average."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_spec.contract import Session
from resnet_spec.data.dataset import Split
from resnet_spec.running.evaluate import Evaluation, evaluate
from resnet_spec.running.together import Together
from resnet_spec.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Evaluators:
    """trained: the session that trains. judged: the one that the average is loaded into.

    Without an average both are one.
    """

    trained: Session
    judged: Session
    together: Together

    @property
    def has_average(self) -> bool:
        """Whether what is evaluated is an average of the weights."""
        return self.judged is not self.trained

    def evaluate(self, weights: Checkpoint, split: Split) -> Evaluation:
        """Return what the evaluated weights give: those that are trained, or their average."""
        if self.has_average:
            self.judged.load(weights.state)
        return evaluate(self.judged, split, together=self.together)

    def of_weights(self, split: Split) -> Evaluation | None:
        """Return what the weights themselves give beside their average; None without one."""
        if not self.has_average:
            return None
        return evaluate(self.trained, split, together=self.together)
