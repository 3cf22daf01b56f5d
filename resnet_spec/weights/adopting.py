"""Weights taken over by a network that a person describes: checked, with a new head where it must.

Everything but the head has to fit, tensor by tensor, and to compute what the weights' own code
does; nothing is converted in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from resnet_spec.contract import State
from resnet_spec.data.class_matching import IGNORE, differing, match_classes
from resnet_spec.describing.from_text import Fields
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import CheckpointError, DataError, SpecError, not_one_of, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import classifier
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.printing.cards import Card, Shown
from resnet_spec.weights.checkpoint import mismatches
from resnet_spec.weights.loading import Pretrained
from resnet_spec.weights.naming import Scheme
from resnet_spec.weights.naming.conventions import Conflict, conflicts
from resnet_spec.weights.recognising.unseen import for_channels

Head = Literal["auto", "keep", "replace"]


def check_head(head: object) -> None:
    """Raise CheckpointError for what is no `Head`."""
    wrong = not_one_of("--head", head, get_args(Head))
    if wrong is not None:
        raise CheckpointError(wrong)


@dataclass(frozen=True, repr=False)
class Adopted(Shown):
    """A network with weights. notes: what was done and what differs, one line each."""

    spec: Spec
    state: State = field(repr=False)
    notes: tuple[str, ...]

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [("tensors", len(self.state)), ("classes", self.spec.classes)]
        notes = [f"note: {note}" for note in self.notes]
        return Card(f"{self.spec.name} with weights", rows, notes=notes)


def with_statistics(weights: Pretrained, spec: Spec) -> tuple[Spec, tuple[str, ...]]:
    """Return `spec` with the mean and deviation that the weights were trained with.

    Those that `spec` gives itself are kept, and a note says so where they differ.
    """
    theirs = weights.spec.input
    if not theirs.mean or theirs.channels != spec.input.channels:
        return spec, ()
    if not spec.input.mean:
        values = {"mean": theirs.mean, "std": theirs.std}
        return spec.model_copy(update={"input": spec.input.model_copy(update=values)}), ()
    return spec, tuple(
        f"input.{key} = {list(ours)}: was set, and the weights were trained with {list(other)}"
        for key, ours, other in (
            ("mean", spec.input.mean, theirs.mean),
            ("std", spec.input.std, theirs.std),
        )
        if ours != other
    )


def adopt(
    weights: Pretrained,
    spec: Spec,
    *,
    settings: Texts = (),
    head: Head = "auto",
    seed: int = 0,
    classes: Sequence[str] = (),
    data_name: str = "",
    ignore_classes: bool = False,
) -> Adopted:
    """Return `spec` with `weights`, and its statistics of images where it has none.

    settings: what was set by hand in `spec`, `key=value`; where it makes the network compute
        otherwise than the weights' own, a note says so.
    head: "auto" draws the classifier anew, from `seed`, where the number of classes differs, or
        their names; "replace" always; "keep" never.
    classes: the names of the classes to be told; () where nobody says. A classifier that is kept
        has its rows in their order. data_name: of their dataset. ignore_classes: keep the rows as
        they are, whatever the names.

    Raises CheckpointError that lists every tensor that does not fit, or says in one line in what
    the spec and the weights' own code compute otherwise, or that the classes of a classifier that
    is to be kept are others.
    """
    check_head(head)
    settings = listed(settings, "settings", SpecError)
    spec, notes = with_statistics(weights, spec)
    plan = lower(spec)
    is_same = weights.has_classifier and spec.classes == weights.spec.classes
    if head == "keep" and not is_same:
        rule = f"the weights have {weights.spec.classes} classes, and {spec.classes} are needed"
        rule = rule if weights.has_classifier else "the weights have no classifier"
        raise CheckpointError(problem("--head", "keep", rule, "use --head replace"))
    is_new = head == "replace" or not is_same
    before = weights.spec.classes if weights.has_classifier else "none"
    change = f"{before} -> {spec.classes} classes"
    matched = None
    if classes and not is_new:
        try:
            matched = match_classes(
                classes,
                weights.class_names,
                count=spec.classes,
                ignore=ignore_classes,
                datasets=(data_name, weights.data_name),
            )
        except DataError:
            change = f"classes {differing(weights.class_names, tuple(classes))}"
            if head == "keep":
                rule = f"the weights have other {change}"
                remedy = f"use --head replace, or keep their order with {IGNORE}"
                raise CheckpointError(problem("--head", "keep", rule, remedy)) from None
            is_new = True
    _check_shapes(weights, plan, is_new)
    notes += _differences(weights, spec, settings)
    last = classifier(plan)
    if is_new:
        # The draw is keyed by the tensor's name, so that the rest of the network is not drawn.
        alone = replace(plan, root=replace(plan.root, children=(last,)))
        state = {**weights.state, **initial_state(alone, seed)}
        drawn = f"{last.name}: {change}, drawn anew from seed {seed}"
        return Adopted(spec, state, (*notes, drawn))
    state = dict(weights.state)
    if matched is not None:
        for tensor in () if matched.is_identity else last.tensors:
            state[tensor.name] = state[tensor.name][list(matched.order)]
        notes += tuple(f"{last.name}: {note}" for note in matched.notes)
    return Adopted(spec, state, notes)


def _check_shapes(weights: Pretrained, plan: Plan, is_new: bool) -> None:
    """Raise with all tensors that do not fit, without those of a head that is replaced."""
    ours = {tensor.name for tensor in classifier(plan).tensors} if is_new else set[str]()
    theirs = {it.name for it in classifier(lower(weights.spec)).tensors} if is_new else ours
    expected = {it.name: it.shape for it in plan.tensors if it.name not in ours}
    state = {name: array for name, array in weights.state.items() if name not in theirs}
    lines = mismatches(expected, state)
    if lines:
        first = f"{weights.source}: is {weights.spec.name}, and its tensors do not fit {plan.name}"
        raise CheckpointError(first, *lines)


def _differences(weights: Pretrained, spec: Spec, settings: Sequence[str]) -> tuple[str, ...]:
    """Return notes on what the network does otherwise than the weights' own.

    Raises CheckpointError where it gives other logits and nobody asked for that.
    """
    found = [it for it in conflicts(_own(weights, spec), spec) if it.changes != "images"]
    said = [setting.partition("=")[0].strip().removeprefix("spec.") for setting in settings]
    unasked = [
        it
        for it in found
        if it.changes == "logits" and not any(path.startswith(it.field) for path in said)
    ]
    if unasked:
        ours = ", ".join(f"{it.field} = {_text(it.value, spec)}" for it in unasked)
        values = {it.field: _text(it.theirs, weights.spec) for it in unasked}
        theirs = ", ".join(f"{name} = {value}" for name, value in values.items())
        remedy = " ".join(f"--set {name}={value}" for name, value in values.items())
        raise CheckpointError(
            f"{spec.name}: has {ours}, and the network of {weights.source} has {theirs}; leave the "
            f"spec out, or say {remedy}"
        )
    return tuple(_note(it, weights, spec) for it in found)


def _note(it: Conflict, weights: Pretrained, spec: Spec) -> str:
    effect = "was set; the logits are not theirs" if it.changes == "logits" else "training differs"
    theirs = f"the network of {weights.source} has {_text(it.theirs, weights.spec)}"
    return f"{it.field} = {_text(it.value, spec)}: {theirs} ({effect})"


def _own(weights: Pretrained, spec: Spec) -> Scheme:
    """Return the weights' scheme with all that is known of their network as its conventions.

    Of a file that says nothing but names and shapes that is what the code of its project fixes.
    """
    is_known = weights.entry is not None or weights.checkpoint is not None
    fields = _of_function(weights.spec) if is_known else weights.scheme.conventions
    return for_channels(replace(weights.scheme, conventions=fields), spec)


_OF_TRAINING = ("name", "classes", "init", "zero_init_last_norm", "stochastic_depth", "dropout")


def _of_function(spec: Spec) -> Mapping[str, Any]:
    """Return the fields that say what the network computes, whatever its size and classes."""
    fields: Fields = {key: it for key, it in spec.to_dict().items() if key not in _OF_TRAINING}
    norm = {key: it for key, it in fields["norm"].items() if key != "sync"}
    return {**{key: it for key, it in fields.items() if key != "input"}, "norm": norm}


def _text(value: object, spec: Spec) -> str:
    """Return a value as a setting has it; a stem's padding that is None is the network's."""
    value = spec.padding if value is None else value
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
