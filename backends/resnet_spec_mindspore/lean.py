"""The network as `Session.predict` runs it: norms folded into the convolutions before them.

It is a cell of its own, ever in evaluation mode, and compiled once per batch size: its parameters
are set anew once one of the session's has changed by as much as a bit. A cell whose parts were
replaced, hooked or set otherwise since the session was made predicts as it stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from resnet_spec.contract import Array, State
from resnet_spec.digests import digest
from resnet_spec.folding import fold_norms
from resnet_spec.plan import Plan
from resnet_spec_mindspore.containers import NO_MATTER
from resnet_spec_mindspore.graphs import Logits, mode
from resnet_spec_mindspore.modules import empty
from resnet_spec_mindspore.pools import quicken
from resnet_spec_mindspore.weights import Parameters, copy_into, parameters_of, to_array

_LARGEST = 1e20
"""Logits beyond it are the cell's own: in it, a value may have overflowed on the way."""

Evaluate = Callable[[Tensor], Tensor]
"""Images [N, H, W, C] to logits [N, classes] by the session's cell as it stands."""
Fetch = Callable[[], Array]
"""Waits for what is under way, and returns a copy of it on the host."""
Predict = Callable[[Tensor], Fetch]
"""Images [N, H, W, C] to logits [N, classes]; does not wait."""


class Lean:
    """Makes the folded network of a session's cell, and keeps it."""

    def __init__(self, plan: Plan, network: nn.Cell, *, is_on: bool) -> None:
        """Take a session's cell as it was built. is_on: whether anything is folded at all."""
        self._plan, self._is_on = plan, is_on
        self._built = _settings(network) if is_on else []
        self._source = ""
        """The digest of the weights that the cell's are made of: it says of others in no time,
        and with no copies, whether they have the same bits."""
        self._cell: Any = None
        self._can_fold = False
        self.changes = 0
        """Counts how often the session has changed its weights, and this the folded ones."""

    def predictor(self, network: nn.Cell, weights: Parameters, evaluate: Evaluate) -> Predict:
        """Return what predicts as `network` with its `weights` does, of the weights as they are.

        Those that are changed by other hands than the session's while it is in use, it may miss.
        """
        seen, cell = -1, None

        def predict(images: Tensor) -> Fetch:
            nonlocal seen, cell
            if self.changes != seen:
                cell = self._of(network, weights)
                seen = self.changes
            if cell is None:
                return partial(to_array, evaluate(images))
            with mode(ms.GRAPH_MODE):
                return partial(_checked, cell(images), partial(evaluate, images))

        return predict

    def _of(self, network: nn.Cell, weights: Parameters) -> Any:
        """Return the cell that predicts as `network` does; None where nothing else does."""
        is_float = all(parameter.dtype == ms.float32 for parameter in weights.values())
        if not (self._is_on and is_float) or not _are_same(_settings(network), self._built):
            return None
        state = {name: np.ascontiguousarray(p.asnumpy()) for name, p in weights.items()}
        if (source := digest(state)) != self._source:
            self._source = ""  # Of none, should folding end halfway.
            self._can_fold = self._fold(state)
            self._source = source
            self.changes += 1
        return self._cell if self._can_fold else None

    def _fold(self, state: State) -> bool:
        """Put the folded `state` into the cell; return False where not all is finite."""
        if not _is_finite(state):
            return False
        folded = fold_norms(self._plan, state)
        if not _is_finite(folded.state):
            return False
        if self._cell is None:
            network = empty(folded.plan)
            quicken(network, folded.plan)
            self._cell = Logits(network, folded.plan).set_train(False)
        copy_into(parameters_of(self._cell.network, folded.plan), folded.state)
        return True


def one_ahead(under_way: Iterable[tuple[Fetch, int]]) -> Iterator[Array]:
    """Yield the first rows of each result, as many as are said, once the next is under way."""
    waiting: deque[tuple[Fetch, int]] = deque()
    for item in under_way:
        waiting.append(item)
        if len(waiting) > 1:
            fetch, count = waiting.popleft()
            yield fetch()[:count]
    for fetch, count in waiting:
        yield fetch()[:count]


def _checked(logits: Tensor, evaluate: Callable[[], Tensor]) -> Array:
    found = to_array(logits)
    return found if np.abs(found).max(initial=0.0) < _LARGEST else to_array(evaluate())


def _is_finite(state: State) -> bool:
    return all(np.isfinite(array).all() for array in state.values())


def _settings(network: nn.Cell) -> list[Any]:
    """Return what a cell computes by, weights apart: its parts, their attributes and hooks."""
    found: list[Any] = []
    for name, part in network.cells_and_names():
        hooks = sum(len(kind or ()) for kind in (part._forward_hook, part._forward_pre_hook))
        found += (name, part, type(part), hooks)
        for key, value in vars(part).items():
            if not key.startswith("_") and key not in NO_MATTER:
                found += (key, value)
    return found


def _are_same(one: list[Any], two: list[Any]) -> bool:
    return len(one) == len(two) and all(
        a is b or (isinstance(a, _PLAIN) and type(a) is type(b) and a == b)
        for a, b in zip(one, two, strict=True)
    )


_PLAIN = (int, float, str, tuple)
"""Of what else is set the object must be the same."""
