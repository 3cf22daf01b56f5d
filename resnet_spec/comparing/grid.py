"""The Grid: what is compared, as a frozen, validated value: networks by backends by seeds.

Read by `sources` from TOML, a study's name or options; `cells` turns it into runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from resnet_spec.describing.descriptions import Description, Table
from resnet_spec.describing.from_text import is_file_name
from resnet_spec.errors import GridError, did_you_mean, problem

Text = Annotated[str, Field(min_length=1, max_length=500)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]

SCALED = "scaled down"
"""How the note of a grid's smaller version begins."""


class Network(Table):
    """A row of the grid: a preset or a file, changed by `set`, called `label`.

    `set` changes fields of the spec and of the recipe, as `--set` of `train` does. A network given
    as a text alone is its `spec`.
    """

    spec: Text
    label: str = ""
    set: Texts = ()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"spec": data} if isinstance(data, str) else data

    @property
    def title(self) -> str:
        """The label, or the spec's name and what is set."""
        if self.label:
            return self.label
        path = Path(self.spec)
        name = path.stem if is_file_name(path) else self.spec
        return f"{name} {', '.join(self.set)}".strip()


class Scaled(Table):
    """A smaller version of a grid, for machines that cannot run the whole; `about` says how honest.

    What is given replaces the grid's; `set` comes after the grid's.
    """

    about: Text
    networks: Annotated[tuple[Network, ...] | None, Field(strict=False)] = None
    backends: Texts | None = None
    seeds: Annotated[tuple[Seed, ...] | None, Field(strict=False)] = None
    data: Text | None = None
    recipe: Text | None = None
    set: Texts = ()
    input_size: int | None = None
    target_accuracy: Fraction | None = None


class Grid(Description):
    """What is compared. A run for every network, backend and seed.

    name, about: what the outputs are headed with.
    data, recipe, set, input_size, device, validation: as the options of `train`; `set` reaches
        every network.
    baseline: differences are taken against this network, backend, or `NETWORK/BACKEND`; None takes
        every pair that differs in the network alone or in the backend alone.
    target_accuracy: the accuracy, in 0..1, to which the time is told: of the images that each epoch
        is evaluated on, test or validation.
    show: what curves show, `error` (in percent) as in He et al. 2015, figure 6.
    notes: how this grid differs from the one in the file; every output repeats them.
    """

    error = GridError

    name: Text = "comparison"
    about: str = ""
    networks: Annotated[tuple[Network, ...], Field(strict=False, min_length=1, max_length=100)]
    backends: Annotated[Texts, Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=1000)] = (0,)
    data: Text = "digits"
    recipe: Text = "demo"
    set: Texts = ()
    input_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    device: Text = "auto"
    validation: Fraction | None = None
    baseline: Text | None = None
    target_accuracy: Fraction | None = None
    show: Literal["accuracy", "error"] = "accuracy"
    scaled: Scaled | None = None
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()

    def __init__(self, /, **data: Any) -> None:  # For type checkers: lists stand for tuples.
        super().__init__(**data)

    def broken_rules(self) -> Iterator[str]:
        """See `Description.broken_rules`."""
        return _broken_rules(self)

    @property
    def labels(self) -> list[str]:
        """What the networks are called."""
        return [network.title for network in self.networks]

    def scaled_down(self) -> Self:
        """Return the smaller version of `scaled`. Raises GridError where the grid has none."""
        if self.scaled is None:
            raise GridError(f"--scaled: {self.name} has no smaller version; add a [scaled] table")
        given = self.scaled.model_dump(mode="json", exclude_unset=True, exclude={"about"})
        return self.changed({**given, "set": [*self.set, *self.scaled.set]})

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return the grid with other values of some fields. Raises GridError."""
        return self.from_dict({**self.to_dict(), **changes})

    def noted(self, original: Grid, *, scaled: bool) -> Self:
        """Return the grid with notes of how it differs from the original, and was scaled down."""
        before, now = original.to_dict(), self.to_dict()
        notes = [
            f"{key} = {_shown(now[key])} instead of {_shown(before[key])}"
            for key in before
            if now[key] != before[key]
        ]
        if scaled and self.scaled is not None:
            notes.insert(0, f"{SCALED}: {self.scaled.about}")
        return self.model_copy(update={"notes": tuple(notes)})


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        parts = cast(list[Any], value)
        return "[" + ", ".join(_shown(part) for part in parts) + "]"
    return Network.model_validate(value).title if isinstance(value, dict) else str(value)


def _broken_rules(grid: Grid) -> Iterator[str]:
    """Yield a line for each rule between fields that `grid` breaks."""
    for what, values in (
        ("networks", grid.labels),
        ("backends", grid.backends),
        ("seeds", grid.seeds),
    ):
        for value, count in Counter(values).items():
            if count > 1:
                remedy = "give each a label of its own" if what == "networks" else ""
                yield problem(what, value, f"is there {count} times", remedy)
    for i, label in enumerate(grid.labels):
        if not label.isprintable() or "/" in label or len(label) > 80:
            rule = "must be at most 80 printable characters without a slash"
            remedy = "" if grid.networks[i].label else "give it a label"
            yield problem(f"networks[{i}].label", label, rule, remedy)
    for i, network in enumerate((grid, *grid.networks)):
        where = f"networks[{i - 1}].set" if i else "set"
        for setting in network.set:
            if setting.partition("=")[0].strip() in ("seed", "recipe.seed"):
                yield problem(where, setting, "cannot set a seed; give them in seeds")
    if grid.baseline is not None:
        pairs = [f"{label}/{backend}" for label in grid.labels for backend in grid.backends]
        known = [*grid.labels, *grid.backends, *pairs]
        if grid.baseline not in known:
            rule = "is no network, backend or NETWORK/BACKEND of the grid"
            yield problem("baseline", grid.baseline, rule, did_you_mean(grid.baseline, known))
