"""What `resnet-spec bench --profile` asks of MindSpore: the time of every op, by the plan's nodes.

An op of a graph that predicts carries the names of the cells around it. One of a graph that takes
gradients does not, and is known by what it is: the ops of one kind on arrays of one shape, in the
order in which they ran, are the nodes of that kind and shape in the plan's order, backwards in the
backward pass. Where there are not as many of them as nodes, they are of no node. MindSpore's public
profiler starts processes and prints; here is asked what it asks itself. Reached by name
(`manifest.toml`, "bench").
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mindspore as ms

from resnet_spec.bench import Case, Profile, Timing, Turn, time_shared
from resnet_spec.errors import BackendError
from resnet_spec_mindspore.nodes_of_ops import Op, OpKinds, Shapes, place_of
from resnet_spec_mindspore.session import Session

_NOTES = (
    "its graphs that train do not name cells: ops of one kind and shape are told apart by the order"
    " they ran in, which may swap a shortcut's and a body's",
)
_RUN = re.compile(r"(\d+),([\d.e+-]+),\d+")
_SHAPE = re.compile(r"input_\d+:\[([\d, ]*)\]")


class Run(NamedTuple):
    """When an op ran, in seconds."""

    op: str
    start: float
    end: float


def profile(case: Case, session: Session, turn: Turn, steps: int) -> Profile:
    """Return the ops of `steps` steps of `turn`; see `bench.Profile`.

    Raises BackendError where MindSpore has no such profiler, as on accelerators.
    """
    del session  # Its graphs are what runs, and nothing is asked of it.
    target = ms.get_context("device_target")
    if target != "CPU":
        rule = "MindSpore's profile is read on a CPU alone here"
        raise BackendError(f"--profile: {rule}, and the device is {target}; use --device cpu")
    with tempfile.TemporaryDirectory() as folder:
        _recorded(Path(folder), lambda: turn(steps))
        runs = list(runs_of(_text(folder, "cpu_op_execute_timestamp_*.txt")))
        shapes = shapes_of(_text(folder, "cpu_framework_*.txt"))
    return Profile(tuple(timings(runs, shapes, case)), _NOTES)


def _recorded(folder: Path, run: Any) -> None:
    """Do `run` with the record of ops' times on, and leave that in `folder`."""
    try:
        from mindspore import _c_expression  # pyright: ignore[reportAttributeAccessIssue]

        profiler = _c_expression.Profiler.get_instance("CPU")
        profiler.init(str(folder))
        profiler.step_profiling_enable(True)
        profiler.enable_op_time()
    except (ImportError, AttributeError, TypeError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise BackendError(f"mindspore: this version has no profiler for CPUs: {why}") from error
    try:
        run()
    finally:
        profiler.stop()


def _text(folder: str, pattern: str) -> str:
    files = sorted(Path(folder).glob(pattern))
    if not files:
        raise BackendError(f"mindspore: its profiler left no {pattern}")
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def runs_of(text: str) -> Iterator[Run]:
    """Yield the runs in a record: `name;HostCpuOps;start in ns,milliseconds,thread ...` a line."""
    for line in text.splitlines():
        name, _, rest = line.partition(";")
        for start, took in _RUN.findall(rest):
            began = int(start) * 1e-9
            yield Run(name, began, began + float(took) * 1e-3)


def shapes_of(text: str) -> dict[str, list[Shapes]]:
    """Return the shapes of inputs, of ops of one short name in the order in which they ran first.

    text: `kind;op;number;input_1:[8, 3];...` a line.
    """
    found: dict[str, list[Shapes]] = defaultdict(list)
    for line in text.splitlines():
        parts = line.split(";", 3)
        if len(parts) == 4:
            shapes = _SHAPE.findall(parts[3])
            found[parts[1]].append(tuple(tuple(map(int, re.findall(r"\d+", it))) for it in shapes))
    return found


def timings(
    runs: Sequence[Run], shapes: Mapping[str, Sequence[Shapes]], case: Case
) -> Iterator[Timing]:
    """Yield what each op took, of a plan's node where it is of one."""
    first: dict[str, float] = {}
    for run in runs:
        first[run.op] = min(run.start, first.get(run.op, run.start))
    names = sorted(first, key=first.__getitem__)
    left = {short: iter(of) for short, of in shapes.items()}
    ops = {name: Op.named(name, next(left.get(_short(name), iter(())), ())) for name in names}
    kinds = OpKinds(case)
    nodes = kinds.nodes_of(list(ops.values()))
    for name, seconds in shared(runs).items():
        node, direction, kind = place_of(ops[name], nodes.get(name, ""), kinds)
        yield Timing(node, seconds, direction, kind)


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def shared(runs: Iterable[Run]) -> dict[str, float]:
    """Return the seconds of each op; see `time_shared`."""
    return time_shared((run.op, run.start, run.end) for run in runs)
