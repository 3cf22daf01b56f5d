"""What a session sees and changes inside its network, op by op."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import mindspore as ms
from mindspore import Tensor, nn

from resnet_spec.contract import State
from resnet_spec_mindspore.weights import to_array

Hook = Callable[[str, nn.Cell, object, Tensor], Tensor | None]
"""Takes a cell's name, the cell, its inputs and its output; what it returns is the output then."""


@contextmanager
def hooked(network: nn.Cell, names: Iterable[str], hook: Hook) -> Generator[None]:
    """Call `hook` for each of the cells `names` when it has run."""
    cells = dict(network.cells_and_names())
    with ExitStack() as stack:
        for name in names:
            handle = cells[name].register_forward_hook(partial(hook, name))
            stack.callback(handle.remove)
        yield


def keeping(outputs: State) -> Hook:
    """Return what puts every output into `outputs`, in float32."""

    def keep(name: str, cell: nn.Cell, inputs: object, output: Tensor) -> None:
        outputs[name] = to_array(output.astype(ms.float32))

    return keep


def adding(added: Mapping[str, Tensor]) -> Hook:
    """Return what adds to every output."""

    def add(name: str, cell: nn.Cell, inputs: object, output: Tensor) -> Tensor:
        return output + added[name].astype(output.dtype)

    return add
