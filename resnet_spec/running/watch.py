"""What hears of a run as it goes."""

from __future__ import annotations

from typing import Protocol

from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Position


class Watch(Protocol):
    """Hears of a run as it goes; the command line's shows a progress bar."""

    def chunk(self, position: Position, speed: float) -> None:
        """Some steps are done; `speed` is in images per second."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done and evaluated, or not due for evaluation."""
        ...
