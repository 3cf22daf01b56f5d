"""One block of a kind in detail: its body from top to bottom, the shortcut beside it.

A squeeze-and-excitation gate branches off to the left, the shortcut to the right.
"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.ops import BaseOp, Chain, Gate, Node, Op
from resnet_spec.plan import walk
from resnet_spec.showing.diagram_ops import op_height, op_shapes, op_width
from resnet_spec.showing.network import Kind
from resnet_spec.showing.op_text import shape_text
from resnet_spec.showing.shapes import Disc, Shape, Sheet, Wire, Words, text_width

_STEP = 10.0
"""Between two boxes."""
_MARGIN = 14.0
_TOP = 52.0
_SIDE = 20.0
"""Between the columns of boxes."""
_RADIUS = 7.5
_QUIET = "#555555"


def kind_sheet(kind: Kind, badge: str, badge_text: str) -> Sheet:
    """Return the panel of `kind`, without a frame.

    badge, badge_text: the colours of its letter's disc and of the letter.
    """
    drawing = _Drawing(kind)
    drawing.draw()
    count = len(kind.names)
    which = "the only one of its kind" if count == 1 else f"one of {count} of its kind"
    title = Words(_MARGIN + 23, 17, kind.about, 9.5, bold=True)
    below = Words(_MARGIN + 23, 32, f"{kind.example.name}, {which}", 7.5, colour=_QUIET)
    width = max(drawing.width, _MARGIN + 23 + max(title.width, below.width) + _MARGIN)
    height = drawing.y + _MARGIN
    disc = Disc(_MARGIN + 8, 21, 9, kind.letter, badge, badge, badge_text)
    return Sheet(width, height, (disc, title, below, *drawing.shapes))


class _Drawing:
    """Shapes so far, and how far down the main column `y` they reach."""

    def __init__(self, kind: Kind) -> None:
        block = kind.example
        self._block = block
        whole_body = block.children if isinstance(block, Chain) else block.body
        gates = [op for node in whole_body if isinstance(node, Gate) for op in _ops(node)]
        self._shortcut = (
            [] if isinstance(block, Chain) or block.shortcut is None else _ops(block.shortcut)
        )
        inside = {op.name for op in (*gates, *self._shortcut)}
        main = [op for op in _ops(block) if op.name not in inside]
        self._gate_width = max(map(op_width, gates), default=0.0)
        self._main_width = max(112.0, *map(op_width, main))
        self._side_width = max(map(op_width, self._shortcut), default=0.0)
        left = _MARGIN + (self._gate_width + _SIDE if gates else 0.0)
        self._main_left = left
        self._middle = left + self._main_width / 2
        self._side = left + self._main_width + _SIDE + self._side_width / 2
        has_side = not isinstance(block, Chain)
        beside = self._side_width if self._shortcut else _IDENTITY_WIDTH
        self.width = left + self._main_width + (_SIDE + beside if has_side else 0.0) + _MARGIN
        self.shapes: list[Shape] = []
        self.y = _TOP

    def draw(self) -> None:
        """Draw the whole block, from the shape that enters to the one that leaves."""
        block = self._block
        first = _ops(block)[0]
        self._shape_label(shape_text(first.in_shape))
        if isinstance(block, Chain):
            self._sequence(block.children)
        else:
            identity = block.shortcut is None
            before = self._split() if identity and block.entry else None
            self._sequence(block.entry)
            split = self._split() if before is None else before
            self._sequence(block.body)
            self._add(split)
            self._sequence(block.tail)
        self._wire_down(_STEP + 4)
        last = block.children[-1] if isinstance(block, Chain) else block.add
        self._shape_label(shape_text(_ops(last)[-1].out_shape))

    def _shape_label(self, text: str) -> None:
        self.shapes.append(Words(self._middle, self.y + 6, text, 8, align="center", colour=_QUIET))
        self.y += 13

    def _wire_down(self, length: float, arrow: bool = True) -> None:
        x = self._middle
        self.shapes.append(Wire(((x, self.y), (x, self.y + length)), arrow))
        self.y += length

    def _split(self) -> float:
        """Return the height at which the shortcut leaves the main line."""
        self._wire_down(8, arrow=False)
        at = self.y
        self.shapes.append(Disc(self._middle, at, 2.2, "", "#444444", "#444444"))
        return at

    def _sequence(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if isinstance(node, Gate):
                self._gate(node)
            else:
                for op in _ops(node):
                    self._wire_down(_STEP)
                    self.shapes += op_shapes(op, self._main_left, self.y, self._main_width)
                    self.y += op_height(op)

    def _gate(self, gate: Gate) -> None:
        """Draw the branch to the left, and the product in which it ends."""
        self._wire_down(8, arrow=False)
        top, left = self.y, _MARGIN
        middle = left + self._gate_width / 2
        self.shapes.append(Disc(self._middle, top, 2.2, "", "#444444", "#444444"))
        self.shapes.append(Words(left, top - 7, "squeeze-and-excitation", 7.5, colour=_QUIET))
        y = top + 4
        points = [(self._middle, top), (middle, top)]
        for op in _ops(gate):
            y += _STEP
            self.shapes.append(Wire((*points, (middle, y))))
            self.shapes += op_shapes(op, left, y, self._gate_width)
            y += op_height(op)
            points = [(middle, y)]
        end = y + _STEP + _RADIUS
        self.shapes.append(Wire((*points, (middle, end), (self._middle - _RADIUS, end))))
        self._wire_down(end - _RADIUS - top)
        self.shapes.append(Disc(self._middle, end, _RADIUS, "×"))
        self.y = end + _RADIUS

    def _add(self, split: float) -> None:
        """Draw the sum, and the shortcut that comes to it from the height `split`."""
        self._wire_down(_STEP)
        at = self.y + _RADIUS
        height = sum(map(op_height, self._shortcut)) + _STEP * (len(self._shortcut) + 1)
        lacking = split + height - at
        if lacking > 0:  # A shortcut of more boxes than the body.
            self.shapes.append(Wire(((self._middle, self.y), (self._middle, self.y + lacking))))
            at += lacking
        x = self._side if self._shortcut else self._main_left + self._main_width + _SIDE
        points = [(self._middle, split), (x, split)]
        y = split + max((at - split - height) / 2, 0.0)
        for op in self._shortcut:
            y += _STEP
            self.shapes.append(Wire((*points, (x, y))))
            self.shapes += op_shapes(op, x - self._side_width / 2, y, self._side_width)
            y += op_height(op)
            points = [(x, y)]
        self.shapes.append(Wire((*points, (x, at), (self._middle + _RADIUS, at))))
        if not self._shortcut:
            self.shapes.append(Words(x + 6, (split + at) / 2, _IDENTITY, 8, colour=_QUIET))
        self.shapes.append(Disc(self._middle, at, _RADIUS, "+"))
        self.y = at + _RADIUS


_IDENTITY = "identity"
_IDENTITY_WIDTH = 6 + text_width(_IDENTITY, 8)


def _ops(node: Node) -> list[Op]:
    """Return the leaves below `node` in order, or itself."""
    return [op for op in walk(node) if isinstance(op, BaseOp)]
