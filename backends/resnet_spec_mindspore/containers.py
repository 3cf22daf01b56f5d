"""Cells that hold cells, and run those that they hold: whatever is replaced, added or deleted.

MindSpore's `SequentialCell` runs the list that it was built with, and `getattr` by a list of names
graph mode compiles no look-up at run time. Here every change of a child arranges anew what is
run, and a container that was compiled is compiled anew when the tree below it has changed.

The parameters of every child are named by its place: `layer1.0.bn1.weight`. The names are the
canonical ones, so that `parameters_dict()` and a saved checkpoint have torchvision's keys; the
attributes of a norm stay MindSpore's (`gamma`, `moving_variance`).
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from types import NoneType
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from mindspore.nn.layer.normalization import _BatchNorm

Cells = OrderedDict[str, nn.Cell]
Noise = tuple[Tensor, ...]

_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class NoiseCell(nn.Cell):
    """A cell whose `construct` takes `noise` beside its input."""


class Container(nn.Cell):
    """Names the parameters of its children, of those that come later, too.

    In graph mode it is compiled anew where a cell or parameter below it is another than before.
    """

    prefix = ""
    graph_of: tuple[object, ...] = ()
    """The `structure` that was compiled last."""

    def insert_child_to_cell(self, child_name: str, child_cell: nn.Cell | None) -> None:
        """Add a child after the others, or put it in the place of the one of that name."""
        super().insert_child_to_cell(child_name, child_cell)
        if child_cell is not None:
            name_parameters(child_cell, f"{self.prefix}{child_name}.")
        self.arrange()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a cell takes the place of the child of that name, None deletes it."""
        if value is None and name in self._cells:
            delattr(self, name)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute; a child is left out from then on."""
        super().__delattr__(name)
        self.arrange()

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """Put `prefix` before the names of all parameters, and of those that come later."""
        super().update_parameters_name(prefix, recurse)
        name_parameters(self, prefix)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile in graph mode what has not been, and what has changed."""
        now = structure(self)
        if self.graph_of not in ((), now):
            # MindSpore keeps graphs by it; the old ones go with the cell.
            self._create_time = time.time_ns()
            now = structure(self)
        self.graph_of = now
        super().compile(*args, **kwargs)

    def held(self) -> Cells:
        """Return the children by key, in order; one that was set to None is none."""
        return OrderedDict((key, cell) for key, cell in self._cells.items() if cell is not None)

    def arrange(self) -> None:
        """Set the attributes that `construct` runs; called whenever a child has changed."""
        raise NotImplementedError


def name_parameters(cell: nn.Cell, prefix: str) -> None:
    """Give every parameter of `cell` the canonical name of its place, with `prefix` before it."""
    for path, part in cell.cells_and_names():
        place = f"{prefix}{path}." if path else prefix
        if isinstance(part, Container):
            object.__setattr__(part, "prefix", place)
        for key, parameter in part.parameters_and_names(expand=False):
            name = str(key)
            known = _NORM_NAMES.get(name, name) if isinstance(part, _BatchNorm) else name
            parameter.name = place + known


def takes_noise(cell: nn.Cell) -> bool:
    """Return whether `construct` of `cell` takes noise beside its input."""
    return isinstance(cell, Container | NoiseCell)


NO_MATTER = frozenset(
    ("cell_type", "grad_ops_label", "is_top_cell", "prefix", "requires_grad", "training")
)
"""Attributes of a cell that its logits in evaluation mode do not depend on."""


def structure(cell: nn.Cell) -> tuple[object, ...]:
    """Return what tells whether a part of `cell` was replaced, or a cell of one's own set anew.

    Asked for at every call in graph mode, so it walks the tree and compares nothing else.
    """
    found: list[object] = []
    for _, part in cell.cells_and_names():
        # Its time beside it: a new cell may have the address of one that is gone.
        found += (id(part), part.create_time)
        found += map(id, part._params.values())
        if type(part).__module__.partition(".")[0] not in _KNOWN:
            found += _constants(part)
    return tuple(found)


_KNOWN = ("mindspore", __name__.partition(".")[0])


def _constants(cell: nn.Cell) -> Iterator[object]:
    """Yield what a graph has of a cell as constants: what is set later MindSpore does not see."""
    for key, value in vars(cell).items():
        if not key.startswith("_") and key not in NO_MATTER:
            yield key
            yield type(value)
            yield _comparable(value)


def _comparable(value: object) -> object:
    if isinstance(value, Tensor):
        return str(value.dtype), value.shape, bytes(value.get_bytes())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple | list):
        return tuple(map(_comparable, value))
    return value if isinstance(value, bool | int | float | str | NoneType) else _Held(value)


class _Held:
    """Equals what holds the same object, whose address none can take meanwhile."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)


class Chain(Container, nn.SequentialCell):
    """Cells one after another; hands `noise` on to those that take it."""

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells)
        name_parameters(self, "")

    def __getitem__(self, index: int | slice) -> Any:
        """Return the child at a place, or a chain of those of a slice."""
        if isinstance(index, slice):
            part = Chain(OrderedDict(list(self.held().items())[index]))
            name_parameters(self, self.prefix)  # They keep the names that they have here.
            return part
        return self.cell_list[index]

    def __setitem__(self, index: int, cell: nn.Cell) -> None:
        """Put `cell` in the place of the child there."""
        self.insert_child_to_cell(list(self.held())[index], cell)

    def __delitem__(self, index: int | slice) -> None:
        """Leave out the child at a place, or those of a slice; the others keep their keys."""
        keys = list(self.held())[index]
        for key in [keys] if isinstance(keys, str) else keys:
            delattr(self, key)

    def __len__(self) -> int:
        return len(self.held())

    def append(self, cell: nn.Cell) -> None:
        """Put `cell` after the others, under the next free number."""
        free = (str(number) for number in count(len(self)) if str(number) not in self._cells)
        self.insert_child_to_cell(next(free), cell)

    def arrange(self) -> None:
        """Run all children."""
        self.cell_list = list(self.held().values())
        self.noisy = tuple(takes_noise(cell) for cell in self.cell_list)

    def construct(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, C, H, W] to [N, C', H', W'], or [N, F] after the flattening."""
        for cell, is_noisy in zip(self.cell_list, self.noisy):  # noqa: B905 (graph mode)
            x = cell(x) if noise is None or not is_noisy else cell(x, noise)
        return x
