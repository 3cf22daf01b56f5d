"""The first node, in order of execution, whose output is wrong given the inputs that it had.

Every node is computed by the reference from the judged side's *own* outputs of the nodes before it,
so that no error is counted twice: a node that got wrong inputs and did the right thing with them is
right. Nodes whose output the side does not show are computed by the reference, from what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.kink_choices import normalised
from resnet_spec.parity.localise.causes import hypotheses
from resnet_spec.parity.localise.evidence import NODE_LIMIT, Hypothesis, Seen, Work, explain
from resnet_spec.parity.side import Side
from resnet_spec.planning.dataflow import Step, steps
from resnet_spec.reporting.report import Finding


def search_forward(got: Side, floors: Floors) -> Finding | None:
    """Return the first wrong node in evaluation mode, else in training mode; None for none."""
    for training in (False, True):
        work = work_of(got, floors, training)
        outputs = got.activations if training else got.evaluated
        wrong: list[str] = []
        first: Finding | None = None
        for seen in observe(work, floors, outputs):
            if not seen.is_wrong:
                continue
            if first is None:
                first = _finding(got, work, seen, floors, training)
            else:
                wrong.append(seen.step.node.name)
        if first is not None:
            return replace(first, others=tuple(wrong))
    return None


def work_of(got: Side, floors: Floors, training: bool) -> Work:
    """Return what the nodes of `got` are computed with."""
    setup = floors.expected.setup
    noise: Mapping[str, Array] = setup.batches[0].noise if training else {}
    return Work(floors.precision, setup.state, got.state, training, noise)


def observe(work: Work, floors: Floors, outputs: State) -> Iterator[Seen]:
    """Yield every step whose output is in `outputs`, with the reference's from the same inputs."""
    setup = floors.expected.setup
    values: dict[str, Array] = {"input": normalised(setup)}
    hidden: dict[str, Seen] = {}
    for step in steps(setup.plan):
        inputs = tuple(values[value.name] for value in step.inputs)
        name = step.node.name
        expected = _tried(work, step, inputs)
        own = outputs.get(name)
        if own is None:
            if expected is None:
                return
            values[name] = expected
            hidden[name] = Seen(step, inputs, expected, expected, 0.0, dict(hidden))
            continue
        if expected is None:
            # The inputs have shapes that the plan does not have: wrong since an earlier node.
            return
        floor = work.floor(step, inputs, expected)
        yield Seen(step, inputs, own, expected, floor, _before(step, hidden))
        values[name] = own.astype(np.float64)


def _tried(work: Work, step: Step, inputs: tuple[Array, ...]) -> Array | None:
    try:
        return work.output(step, inputs)
    except ValueError:
        return None


def _before(step: Step, hidden: Mapping[str, Seen]) -> dict[str, Seen]:
    """Return the hidden nodes that lead to `step` through hidden nodes alone, the nearest first."""
    found: dict[str, Seen] = {}
    for value in step.inputs:
        if value.name in hidden:
            found[value.name] = hidden[value.name]
            found |= _before(hidden[value.name].step, hidden)
    return found


def _finding(got: Side, work: Work, seen: Seen, floors: Floors, training: bool) -> Finding:
    mode = "training" if training else "evaluation"
    for node, tried in _suspects(work, seen, floors):
        found = explain(seen.got, seen.expected, seen.floor, 2.0 * NODE_LIMIT, tried)
        if found is not None:
            detail = f"{found.cause}: {found.detail} (in {mode} mode)"
            return Finding(got.backend, "forward", node, seen.multiples, found.cause, detail)
    detail = f"in {mode} mode, {_size(seen)}"
    return Finding(got.backend, "forward", seen.step.node.name, seen.multiples, "", detail)


def _suspects(work: Work, seen: Seen, floors: Floors) -> Iterator[tuple[str, Iterator[Hypothesis]]]:
    """Yield nodes that may be at fault with their hypotheses: `seen` itself, then hidden ones."""
    yield seen.step.node.name, hypotheses(work, seen, floors)
    for name, hidden in seen.hidden.items():
        yield name, _through(work, seen, name, hypotheses(work, hidden, floors))


def _through(
    work: Work, seen: Seen, name: str, tried: Iterator[Hypothesis]
) -> Iterator[Hypothesis]:
    """Yield what `seen` would show if the hidden node `name` computed as each hypothesis says."""
    for hypothesis in tried:
        yield hypothesis._replace(
            output=lambda h=hypothesis: _recomputed(work, seen, {name: h.output()})
        )


def _recomputed(work: Work, seen: Seen, known: dict[str, Array]) -> Array:
    inputs: list[Array] = []
    for value, x in zip(seen.step.inputs, seen.inputs, strict=True):
        if value.name not in known and value.name in seen.hidden:
            known[value.name] = _recomputed(work, seen.hidden[value.name], known)
        inputs.append(known.get(value.name, x))
    return work.output(seen.step, tuple(inputs))


def _size(seen: Seen) -> str:
    if seen.got.shape != seen.expected.shape:
        return f"its output has shape {list(seen.got.shape)}, not {list(seen.expected.shape)}"
    return f"its output is off by {seen.multiples:.3g} times the floor"
