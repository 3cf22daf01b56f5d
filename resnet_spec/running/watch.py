"""What hears of a run as it goes."""

from __future__ import annotations

from typing import Any, Protocol

from resnet_spec.errors import RecipeError, problem
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


def checked_watch(watch: Any) -> Watch:
    """Return `watch`, which hears of what it has a method for. Raises RecipeError for no object."""
    found = {name: getattr(watch, name, None) for name in ("chunk", "epoch")}
    methods = {name: it for name, it in found.items() if it is not None}
    if isinstance(watch, type) or not methods or not all(map(callable, methods.values())):
        rule = "must be an object with a method chunk(position, speed), epoch(epoch), or both"
        raise RecipeError(problem("watch", repr(watch), rule))
    return _Hearing(methods)


class _Hearing:
    """What a person wrote, deaf to what there is no method for."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self._methods = methods

    def chunk(self, position: Position, speed: float) -> None:
        """Pass the position on."""
        if "chunk" in self._methods:
            self._methods["chunk"](position, speed)

    def epoch(self, epoch: Epoch) -> None:
        """Pass the epoch on."""
        if "epoch" in self._methods:
            self._methods["epoch"](epoch)
