"""What a person asks `train` for, and which of it means something together.

A new option of `train` is a field here; with a run that goes on it is refused by name unless it
stands in `_CHANGES_LATER`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import cast

from resnet_spec.data.class_matching import IGNORE
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.held_out import check_fraction
from resnet_spec.describing.descriptions import is_none
from resnet_spec.describing.from_text import override
from resnet_spec.describing.spec_files import Source
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import CheckpointError, RecipeError, check_kind, empty, problem
from resnet_spec.recipe import Recipe
from resnet_spec.running.resuming import ACCEPT
from resnet_spec.running.run_folder import checkpoint_to_go_on
from resnet_spec.weights.adopting import Head, check_head


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run as it is asked for; None takes what is usual. See `training.train`."""

    spec: Source | None = None
    backend: str | None = None
    data: str | Path | Dataset | None = None
    recipe: str | Path | Mapping[str, object] | Recipe | None = None
    settings: Texts = ()
    out: str | Path | None = None
    overwrite: bool = False
    resume: bool | str | Path = False
    auto_resume: bool = False
    input_size: int | None = None
    device: str = "auto"
    compile: bool = False
    shard: bool = False
    pretrained: str | Path | None = None
    part: str | None = None
    head: Head | None = None
    freeze: str | None = None
    head_rate: float | None = None
    accept_data: bool = False
    ignore_classes: bool = False
    validation: float | None = None

    def check(self) -> None:
        """Raise for a value that no run can have: a caller in Python is not bound to the types."""
        for field in fields(self):
            given = getattr(self, field.name)
            kinds, rule = _KINDS.get(field.name, ([object], ""))
            check_kind(RecipeError, _option(field.name), given, kinds, rule)
            if any(not text.strip() for text in _texts(given)):
                raise RecipeError(empty(_option(field.name)))
        if self.head is not None:
            check_head(self.head)
        if self.validation is not None:
            check_fraction(self.validation)
        if self.auto_resume and (self.resume is not False or self.overwrite):
            other = "--overwrite" if self.overwrite else "--resume"
            rule = "begins a run, or goes on with the one that is there"
            raise RecipeError(f"--auto-resume: {rule}; leave {other} out")
        resume: object = vars(self)["resume"]
        if not isinstance(resume, bool | str | Path):
            rule = "must be True or False, or name a run"
            raise CheckpointError(problem("--resume", repr(resume), rule))

    def goes_on_from(self) -> Path | None:
        """Return the checkpoint to go on from, or None for a fresh run.

        Raises CheckpointError where `resume` names no run.
        """
        if self.resume is False:
            return None
        if self.resume is not True:
            return checkpoint_to_go_on(self.resume)
        if self.out is None:
            raise CheckpointError("--resume: needs a run; give --resume RUN or --out DIR")
        return checkpoint_to_go_on(self.out, "--resume: --out")

    def folder(self) -> Path | None:
        """Return the run's folder, None where nobody names it."""
        return None if self.out is None else Path(self.out)

    def going_on(self, folder: Path) -> Request:
        """Return the request that goes on with the run in `folder`, as far as this one may."""
        return Request(
            backend=self.backend,
            data=self.data,
            resume=folder,
            device=self.device,
            compile=self.compile,
            shard=self.shard,
            accept_data=self.accept_data,
            ignore_classes=self.ignore_classes,
        )

    def check_fresh(self) -> None:
        """Raise RecipeError for what is given and means nothing to a fresh run."""
        for name, value in (("--head", self.head), ("--part", self.part)):
            if value is not None and self.pretrained is None:
                raise RecipeError(f"{name}: is of pretrained weights; give --pretrained, too")
        if self.accept_data:
            raise RecipeError(f"{ACCEPT}: is of a run that goes on; give --resume, too")
        if self.ignore_classes and self.pretrained is None:
            rule = "is of weights that are there; give --pretrained or --resume"
            raise RecipeError(f"{IGNORE}: {rule}")

    def teacher_is_at(self) -> str | None:
        """Return where a run that goes on finds its teacher now; None: where it was.

        Raises RecipeError for any other setting, which belongs to a run from its beginning.
        """
        place = None
        for setting in listed(self.settings, "settings", RecipeError):
            key, _, value = setting.removeprefix("recipe.").partition("=")
            if key.strip() != _TEACHER:
                rule = f"cannot be changed in the middle of a run, but for {_TEACHER}"
                raise RecipeError(f"--set: {rule}; leave {setting} out")
            given = override({}, [f"{_TEACHER}={value}"], RecipeError)["loss"]["teacher"]
            if not isinstance(given, str) or is_none(given):
                rule = "must be where the run's teacher is now"
                raise RecipeError(problem(f"--set {_TEACHER}", given, rule))
            place = given
        return place

    def check_going_on(self) -> None:
        """Raise RecipeError for what is given and belongs to a run from its beginning."""
        self.teacher_is_at()  # Raises for other settings.
        for field in fields(self):
            if field.name not in _CHANGES_LATER and self._gives(field.name):
                rule = "cannot be changed in the middle of a run; leave it out"
                raise RecipeError(f"{_option(field.name)}: {rule}")

    def _gives(self, name: str) -> bool:
        value = getattr(self, name)
        return not (value is None or value is False or value in ((), []))


def _texts(given: object) -> list[str]:
    """Return the texts among what is given for a field: itself, or those in a list."""
    parts = cast("Sequence[object]", given) if isinstance(given, list | tuple) else [given]
    return [part for part in parts if isinstance(part, str)]


def _option(name: str) -> str:
    """Return how a field is spelled on the command line."""
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


_TEACHER = "loss.teacher"
_PLACE = [str, Path, NoneType], "must be a path"
_TEXT = [str, NoneType], "must be a text"
_NUMBER = [Real, NoneType], "must be a number"
_FLAG = [bool], "must be True or False"
_KINDS: dict[str, tuple[list[type], str]] = {
    "out": _PLACE,
    "pretrained": _PLACE,
    "part": _TEXT,
    "freeze": _TEXT,
    "input_size": ([Integral, NoneType], "must be a whole number of pixels"),
    "head_rate": _NUMBER,
    "validation": _NUMBER,
    # "no" and "false" would be yes.
    **dict.fromkeys(
        ("overwrite", "auto_resume", "compile", "shard", "accept_data", "ignore_classes"), _FLAG
    ),
    "device": ([str], "must be a device's name, or auto"),
}
"""Of what kinds a field is whose own check comes late or never."""
_CHANGES_LATER = {
    *("backend", "data", "out", "overwrite", "resume"),
    *("device", "compile", "shard", "accept_data", "ignore_classes"),
    "settings",  # Of which `teacher_is_at` takes one alone.
}
"""What takes effect, too, where a run goes on."""
_OPTIONS = {"spec": "SPEC", "settings": "--set"}
"""How fields are spelled on the command line that are not simply `--name`."""
