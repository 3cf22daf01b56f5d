"""What `resnet-spec bench --profile` asks of JAX: the time of every op, by the plan's nodes.

XLA names each op of a compiled program by the scopes it was traced in, and the modules' scopes are
their names in the plan. A fusion of several is of the convolutions and products in it, shared out
by their operations, or else of the node of its last op. On a CPU an op may run on threads
beside others: every moment is shared out among those that are under way, so that no moment counts
twice. Reached by name (`manifest.toml`, "bench").
"""

from __future__ import annotations

import math
import re
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData, ProfileOptions

from resnet_spec.bench import Case, Direction, Profile, TimedKind, Timing, Turn, time_shared
from resnet_spec.ops import Conv, Linear
from resnet_spec.plan import Plan, walk
from resnet_spec_flax.session import Session
from resnet_spec_flax.weights import read

_UPDATES = ("jit__updated", "jit_add")
"""What the programs are called in which the optimiser steps, and gradients are added up."""
_MOVES = frozenset(("parameter", "copy", "transpose", "convert", "bitcast", "reshape", "tuple"))
_LOOPS = frozenset(("while", "conditional", "call"))
"""Ops around others, which are counted themselves where the record has them."""
_HEAVY = frozenset(("convolution", "dot"))
_NOTES = (
    "a fusion is of the convolutions in it, by their operations, or else of its last op",
    "an op that XLA made without a name is of the node that takes its result",
    "ops that ran at once share the time in which they did",
)


class Event(NamedTuple):
    """An op's run, by its program's and its own name; in nanoseconds."""

    program: str
    op: str
    start: float
    end: float


class Made(NamedTuple):
    """An op of a compiled program.

    scopes: those that it was traced in; of a fusion with convolutions or products, theirs, else its
    last op's. moves: whether it only moves. within: the computation that it is in. around: the one
    that it runs op by op, if it does.
    """

    scopes: tuple[str, ...] = ("",)
    moves: bool = False
    within: str = ""
    around: str = ""


Programs = Mapping[tuple[str, str], Made]
"""By the names of a program and an op in it."""


def profile(case: Case, session: Session, turn: Turn, steps: int) -> Profile:
    """Return the ops of `steps` steps of `turn`, which the session takes; see `bench.Profile`."""
    options = ProfileOptions()
    options.python_tracer_level = 0  # It would take longer than the ops.
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            turn(steps)
            weights = read(session.native, case.plan.tensors)
            jax.block_until_ready((weights, session._slots))  # The last update.
        (file,) = Path(folder).rglob("*.xplane.pb")
        events = list(events_of(ProfileData.from_file(str(file))))
    ran = {event.program for event in events}
    programs = dict[tuple[str, str], Made]()
    for executable in session._device.client.live_executables():
        for module in executable.hlo_modules():
            if module.name in ran:
                programs |= made_of(module.name, module.to_string())
    return Profile(tuple(timings(events, programs, costs_of(case.plan))), _NOTES)


def events_of(data: Any) -> Iterator[Event]:
    """Yield the ops' runs in a record. One that goes on after its call has an event for its end."""
    begun: list[Event] = []
    ends: dict[str, list[float]] = defaultdict(list)
    for event in (event for plane in data.planes for line in plane.lines for event in line.events):
        stats = dict(event.stats)
        if event.name.startswith("end: "):
            ends[event.name.removeprefix("end: ")].append(event.start_ns)
        elif "hlo_op" in stats:
            last = event.start_ns + event.duration_ns
            begun.append(
                Event(str(stats["hlo_module"]), str(stats["hlo_op"]), event.start_ns, last)
            )
    for of in ends.values():
        of.sort()
    for event in begun:
        of = ends.get(event.op, [])
        place = bisect_left(of, event.start)
        yield event._replace(end=max([event.end, *of[place : place + 1]]))


_LINE = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = .*?[\])}] ([\w-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERAND = re.compile(r"%([\w.-]+)")
_SCOPE = re.compile(r'metadata=\{[^}]*?op_name="([^"]*)"')
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.-]+)")


def made_of(program: str, text: str) -> dict[tuple[str, str], Made]:
    """Return every op of a compiled program, of its text in XLA's language.

    One that XLA made without a scope, as to lay a weight out anew, is of whoever takes its result.
    """
    scopes: dict[str, str] = {}
    opcodes: dict[str, set[str]] = defaultdict(set)
    heavy: dict[str, list[str]] = defaultdict(list)
    roots: dict[str, str] = {}
    operands: dict[str, list[str]] = {}
    found: dict[tuple[str, str], Made] = {}
    here = ""
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        here = start[1] if start else here
        told = _LINE.match(line)
        if told is None:
            continue
        is_root, name, opcode, rest = told.groups()
        scope, called = _SCOPE.search(rest), _CALLED.search(rest)
        inner = called[1] if called else ""
        fused = inner if opcode == "fusion" else ""
        scopes[name] = scope[1] if scope else roots.get(fused, "")
        moves = (opcodes[fused] if fused else {opcode}) <= _MOVES
        operands[name] = _OPERAND.findall(rest.partition(")")[0])
        opcodes[here].add(opcode)
        if opcode in _HEAVY:
            heavy[here].append(scopes[name])
        if is_root:
            roots[here] = scopes[name]
        of = tuple(heavy[fused]) if fused and heavy[fused] else (scopes[name],)
        found[program, name] = Made(of, moves, here, inner if opcode in _LOOPS else "")
    for name in reversed(operands):  # Whoever takes a result stands after it.
        for other in operands[name]:
            made = found.get((program, other))
            if made is not None and made.scopes == ("",):
                found[program, other] = made._replace(scopes=found[program, name].scopes)
    return found


def timings(
    events: Sequence[Event], programs: Programs, costs: Mapping[str, int]
) -> Iterator[Timing]:
    """Yield what each op took, of a plan's node where it is of one.

    costs: of every node of the plan by name, as parts of a fusion share it out.
    """
    unknown = Made()
    made = {key: programs.get(key, unknown) for key in {(e.program, e.op) for e in events}}
    run = {(key[0], one.within) for key, one in made.items()}
    rounds = {key for key, one in made.items() if one.around and (key[0], one.around) in run}
    counted = [event for event in events if (event.program, event.op) not in rounds]
    for key, seconds in shared(counted).items():
        places = [_place(key[0], scope, costs) for scope in made[key].scopes]
        parts = [max(1, costs.get(node, 0)) for node, _, _ in places]
        for (node, kind, direction), part in zip(places, parts, strict=True):
            told = "copies" if made[key].moves and not kind else kind
            yield Timing(node, seconds * part / sum(parts), direction, told)


def costs_of(plan: Plan) -> dict[str, int]:
    """Return the multiply-accumulates of every node for one image; 0 for those without weights."""
    found = {node.name: 0 for node in walk(plan.root) if node.name}
    for op in plan.ops:
        if isinstance(op, Conv | Linear):
            found[op.name] = math.prod(op.out_shape) * math.prod(op.weight.shape[1:])
    return found


def _place(program: str, scope: str, names: Collection[str]) -> tuple[str, TimedKind, Direction]:
    if program.startswith(_UPDATES):
        return "", "optimizer", "update"
    direction: Direction = "backward" if "transpose(" in scope else "forward"
    words = re.findall(r"[\w-]+", scope)
    node = node_of(words, names)
    if node:
        return node, "", direction
    if "images" in words or "loss" in words:
        return "", "images" if "images" in words else "loss", direction
    return "", "", direction if scope else ""


def node_of(words: Sequence[str], names: Collection[str]) -> str:
    """Return the longest name of a node that consecutive words make; "" for none."""
    found = ""
    for first in range(len(words)):
        for last in range(len(words), first, -1):
            name = ".".join(words[first:last])
            if name in names and len(name) > len(found):
                found = name
    return found


def shared(events: Sequence[Event]) -> dict[tuple[str, str], float]:
    """Return the seconds of each op; see `time_shared`."""
    spans = (((event.program, event.op), event.start, event.end) for event in events)
    return {op: ns * 1e-9 for op, ns in time_shared(spans).items()}
