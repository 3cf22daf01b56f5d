"""What `resnet-spec bench --profile` asks of torch: the time of every op, by the plan's nodes.

Every call of a module is a range in the profiler's record, by hooks that are global: those of the
modules themselves would switch the network off that `Session.predict` runs (see `lean`). An op is
of the innermost range around it. One of the backward pass is of the node whose op made autograd's
node, which both have the sequence number of. Reached by name (`manifest.toml`, "bench").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.profiler import ProfilerActivity, record_function

from resnet_spec.bench import Case, Direction, Profile, TimedKind, Timing, Turn
from resnet_spec_torch.fused import Fused, FusedConv
from resnet_spec_torch.session import Session

_RANGE = "resnet_spec: "
_BACKWARD = "autograd::engine::evaluate_function: "
_OPTIMIZER = "Optimizer."
_FUSED = "mkldnn::_convolution_pointwise"
_COPIES = frozenset(
    (
        *("aten::copy_", "aten::_to_copy", "aten::to", "aten::contiguous", "aten::clone"),
        "mkldnn::_reorder_convolution_weight",
    )
)
_LEAN_NOTE = (
    "norms are in the weights of convolutions, and a convolution, the sum that follows it and the "
    "ReLU are one op: it is a convolution's"
)


class Op(NamedTuple):
    """An event of the profiler's record, in order of start.

    seconds: of itself, without those within it. sequence: autograd's number; -1 for none. parent:
    the place in the record of the event around it; None for none.
    """

    name: str
    seconds: float
    sequence: int = -1
    parent: int | None = None


class Ranges(NamedTuple):
    """What a module is called in the plan; "" for the whole network."""

    names: Mapping[nn.Module, str]
    added: Sequence[tuple[FusedConv, str]] = ()
    """Convolutions that are no module's call where they are added to something."""


def profile(case: Case, session: Session, turn: Turn, steps: int) -> Profile:
    """Return the ops of `steps` steps of `turn`, which the session takes; see `bench.Profile`."""
    device = session._device.type
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    turn(1)  # The lean network is made, if it was not.
    ranges = _ranges(session, case)
    with _named(ranges):
        with torch.profiler.profile(activities=activities):
            turn(1)  # What the profiler itself does at first.
        with torch.profiler.profile(activities=activities) as record:
            turn(steps)
    ops = _ops(record.events() or [], is_device=device == "cuda")
    is_fused = any(op.name.startswith(_FUSED) for op in ops)
    notes = (_LEAN_NOTE,) if is_fused else ()
    return Profile(tuple(timings(ops, trains=case.trains)), notes)


def _ranges(session: Session, case: Case) -> Ranges:
    """Return the names of the session's own modules, and of the lean network's where it has one."""
    names: dict[nn.Module, str] = {part: name for name, part in session.native.named_modules()}
    lean = None if case.trains or session._lean is None else session._lean.network
    if not isinstance(lean, Fused):
        lean_names = () if lean is None else lean.named_modules()
        return Ranges({**names, **{part: name for name, part in lean_names}})
    convs = [part for part in lean.modules() if isinstance(part, FusedConv)]
    own: dict[nn.Module, str] = {conv: conv.name for conv in convs}
    return Ranges({**names, lean: "", **lean.named, **own}, [(conv, conv.name) for conv in convs])


@contextmanager
def _named(ranges: Ranges) -> Iterator[None]:
    """Put a range around every call of a module that has a name."""
    open_ranges: list[Any] = []

    def before(module: nn.Module, inputs: object) -> None:
        if module in ranges.names:
            made = record_function(_RANGE + ranges.names[module])
            made.__enter__()
            open_ranges.append(made)

    def after(module: nn.Module, inputs: object, output: object) -> None:
        if module in ranges.names:
            open_ranges.pop().__exit__(None, None, None)

    with ExitStack() as stack:
        for conv, name in ranges.added:
            conv.added_to = _within(name, conv.added_to)
            stack.callback(conv.__dict__.pop, "added_to")
        stack.callback(register_module_forward_pre_hook(before).remove)
        stack.callback(register_module_forward_hook(after).remove)
        yield


def _within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*given: Any) -> Any:
        with record_function(_RANGE + name):
            return function(*given)

    return called


def _ops(events: Iterable[Any], *, is_device: bool) -> list[Op]:
    """Return the profiler's events of the host, in order of start; times are the device's."""
    hosts = [event for event in events if event.device_type.name == "CPU"]
    hosts.sort(key=lambda event: (event.time_range.start, -event.time_range.end))
    places = {id(event): place for place, event in enumerate(hosts)}
    found: list[Op] = []
    for event in hosts:
        took = event.self_device_time_total if is_device else event.self_cpu_time_total
        parent = None if event.cpu_parent is None else places.get(id(event.cpu_parent))
        found.append(Op(event.name, took * 1e-6, event.sequence_nr, parent))
    return found


def timings(ops: Sequence[Op], *, trains: bool) -> Iterator[Timing]:
    """Yield what each of `ops` took, of a plan's node where it is of one.

    Ranges count for nothing themselves: they are Python's, and the profiler's own.
    """
    made: dict[int, _Place] = {}
    places: list[_Place] = []
    before: TimedKind = "images"
    for op in ops:
        place, before = _place(op, places, made, before)
        before = before if trains else "images"
        places.append(place)
        if op.sequence >= 0 and place.direction != "backward":
            made[op.sequence] = place
        if op.seconds > 0 and not op.name.startswith((_RANGE, _OPTIMIZER)):
            is_copy = bool(place.node) and not place.kind and op.name in _COPIES
            kind = "copies" if is_copy else place.kind
            yield Timing(place.node, op.seconds, place.direction, kind)


class _Place(NamedTuple):
    node: str
    direction: Direction
    kind: TimedKind = ""


def _place(
    op: Op, places: Sequence[_Place], made: Mapping[int, _Place], before: TimedKind
) -> tuple[_Place, TimedKind]:
    """Return where `op` belongs, and what an op of no node after it is of.

    before: what one is of here: of the images until a network is entered, then of the loss, until
    the optimiser has stepped; in prediction always of the images. made: where the ops were that
    made autograd's nodes.
    """
    if op.name.startswith(_RANGE):
        name = op.name.removeprefix(_RANGE)
        return _Place(name, "forward"), before if name else "loss"
    if op.name.startswith(_OPTIMIZER):
        return _Place("", "update", "optimizer"), "images"
    if op.parent is not None:
        return places[op.parent], before
    if op.name.startswith(_BACKWARD):
        forward = made.get(op.sequence, _Place("", "backward"))
        return _Place(forward.node, "backward", forward.kind), before
    return _Place("", "forward", "" if op.name == "aten::equal" else before), before
