"""Where a module can be mutated, and into what: found in its syntax tree, cut into its text.

Left out is what no test should read: annotations, decorators, messages, tables of addresses,
`__all__`, and what only a type checker or `__main__` runs. A dropped assignment that would leave a
name without a value is left out, too: any test that comes by would notice it.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
"""Operator -> what it becomes; an order moves by the one value on its border."""


@dataclass(frozen=True)
class Mutation:
    """One change of one module: bytes `start` to `stop` of its text become `after`."""

    kind: str
    line: int
    end_line: int
    start: int
    stop: int
    before: str
    after: str
    names: tuple[str, ...]
    """Names whose use runs it: of the constant, function or class in whose header or body it is
    evaluated at import; () where a call of a function runs it."""

    def applied(self, source: str) -> str:
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.stop :]).decode()


def chosen(source: str, count: int, seed: str, is_table: bool = False) -> list[Mutation]:
    """Return up to `count` mutations of a module: a kind is drawn first, then one of its places.

    is_table: numbers outside functions stay as they are.
    """
    by_kind: dict[str, list[Mutation]] = {}
    for mutation in mutations(source):
        if is_table and mutation.names and mutation.kind == "changed constant":
            continue
        by_kind.setdefault(mutation.kind, []).append(mutation)
    draw = random.Random(seed)
    found: list[Mutation] = []
    while by_kind and len(found) < count:
        kind = draw.choice(sorted(by_kind))
        places = by_kind[kind]
        mutation = places.pop(draw.randrange(len(places)))
        if not places:
            del by_kind[kind]
        if _compiles(mutation.applied(source)):
            found.append(mutation)
    return found


def mutations(source: str) -> list[Mutation]:
    """Return every mutation of a module, in the order of its text."""
    return sorted(_Finder(source).found(), key=lambda m: (m.start, m.stop, m.kind))


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, source: str) -> None:
        self._text = source.encode()
        self._tree = ast.parse(source)
        starts = [0]
        for line in self._text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts

    def found(self) -> Iterator[Mutation]:
        yield from self._of_body(self._tree.body, (), Counter())

    def _of_body(
        self, body: list[ast.stmt], names: tuple[str, ...], bound: Counter[str]
    ) -> Iterator[Mutation]:
        for statement in body:
            yield from self._of_statement(statement, names, bound)

    def _of_statement(
        self, node: ast.stmt, names: tuple[str, ...], bound: Counter[str]
    ) -> Iterator[Mutation]:
        if _is_left_out(node):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            header = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
            for default in header:
                yield from self._of_expression(default, (*names, node.name))
            inner = Counter(_bound_names(node))
            yield from self._of_body(node.body, (), inner)
            return
        if isinstance(node, ast.ClassDef):
            for base in [*node.bases, *(k.value for k in node.keywords)]:
                yield from self._of_expression(base, (node.name,))
            yield from self._of_body(node.body, (node.name,), Counter())
            return
        at_import = (*names, *_targets(node)) if not bound else ()
        if _can_be_dropped(node, bound):
            yield self._mutation("dropped statement", node, "pass", at_import)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from self._of_statement(child, names, bound)
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                yield from self._of_body(child.body, names, bound)
            elif isinstance(child, ast.withitem):
                yield from self._of_expression(child.context_expr, at_import)
            elif isinstance(child, ast.expr) and child is not getattr(node, "annotation", None):
                yield from self._of_expression(child, at_import)
        if isinstance(node, ast.If | ast.While):
            yield self._negated(node.test, at_import)

    def _of_expression(self, expression: ast.expr, names: tuple[str, ...]) -> Iterator[Mutation]:
        pending: list[ast.AST] = [expression]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.JoinedStr) or _is_table_of_addresses(node):
                continue
            pending += ast.iter_child_nodes(node)
            if isinstance(node, ast.keyword) and node.arg == "repr":
                pending.pop()
            if isinstance(node, ast.IfExp):
                yield self._negated(node.test, names)
            changed = _changed(node)
            if changed is not None:
                kind, after = changed
                assert isinstance(node, ast.expr)
                yield self._mutation(kind, node, after, names)

    def _negated(self, test: ast.expr, names: tuple[str, ...]) -> Mutation:
        return self._mutation("negated condition", test, f"not ({ast.unparse(test)})", names)

    def _mutation(
        self, kind: str, node: ast.expr | ast.stmt, after: str, names: tuple[str, ...]
    ) -> Mutation:
        end_line = node.end_lineno or node.lineno
        start = self._starts[node.lineno - 1] + node.col_offset
        stop = self._starts[end_line - 1] + (node.end_col_offset or 0)
        before = self._text[start:stop].decode()
        return Mutation(kind, node.lineno, end_line, start, stop, before, after, names)


def _changed(node: ast.AST) -> tuple[str, str] | None:
    """Return the kind of a node's mutation and its new text, in parentheses where it needs them."""
    match node:
        case ast.Constant(value=bool(value)):
            return "changed constant", str(not value)
        case ast.Constant(value=int(value)):
            return "changed constant", str(value + 1)
        case ast.Constant(value=float(value)):
            return "changed constant", repr(value * 2 if value else 1.0)
        case ast.Compare(left=left, ops=[operator], comparators=right) if (
            type(operator) in COMPARED
        ):
            other = COMPARED[type(operator)]()
            return "flipped comparison", f"({ast.unparse(ast.Compare(left, [other], right))})"
        case ast.BoolOp(op=operator, values=values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            return "swapped and/or", f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            if any(_is_text(side) for side in (left, right)):
                return None
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            return "swapped +/-", f"({ast.unparse(ast.BinOp(left, other, right))})"
    return None


def _can_be_dropped(node: ast.stmt, bound: Counter[str]) -> bool:
    if isinstance(node, ast.Raise | ast.AugAssign):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.Await)
    if not isinstance(node, ast.Assign):
        return False
    written = [
        target for target in node.targets if isinstance(target, ast.Attribute | ast.Subscript)
    ]
    again = all(bound[name] > 1 for name in _targets(node))
    return len(written) == len(node.targets) or (again and not written and bool(_targets(node)))


def _bound_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield each name as often as the function binds it; "" first, for one that binds none."""
    yield ""
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        yield argument.arg
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _targets(node: ast.stmt) -> list[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _is_left_out(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        return "TYPE_CHECKING" in test or "__name__" in test
    return "__all__" in _targets(node)


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _is_table_of_addresses(node: ast.AST) -> bool:
    """Say whether a call or a display holds an address: its numbers are sizes that it publishes."""
    if not isinstance(node, ast.Call | ast.Dict | ast.List | ast.Tuple):
        return False
    return any(
        isinstance(child, ast.Constant) and isinstance(child.value, str) and "://" in child.value
        for child in ast.iter_child_nodes(node)
    )
