"""The errors a user can cause, in one form: `where = value: rule; remedy`.

Anything raised from bad input is one of these classes; the command line prints it and exits
non-zero without a traceback. `assert` is for what cannot happen. May be imported by every module.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real


class ResnetSpecError(Exception):
    """Base of every error that is the input's fault; `problems` holds one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class UsageError(ResnetSpecError):
    """Words of a command that cannot be read."""


class SpecError(ResnetSpecError):
    """A network description that breaks a rule."""


class RecipeError(ResnetSpecError):
    """A training description that breaks a rule."""


class GridError(ResnetSpecError):
    """A comparison that breaks a rule, or does not fit the runs that are there."""


class BackendError(ResnetSpecError):
    """A backend that is unknown, not installed, or cannot do what was asked."""


class LostError(BackendError):
    """Another process of a group that is gone, or no longer answers."""


LOST_STATUS = 3
"""The exit status of a process that a LostError ended: started again, the run goes on."""


class CheckpointError(ResnetSpecError):
    """A checkpoint file that is damaged or belongs to another network."""


_OUT_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "resource_exhausted",
    "memory not enough",
    "not enough memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
)
"""How those say it who do not raise a MemoryError: the frameworks, and what they are made of."""
_LONGEST = 160


def out_of_memory(error: BaseException) -> str | None:
    """Return what an error says of memory that there was not, in a line; None for another error."""
    if isinstance(error, ResnetSpecError):
        return None
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    signs = [line for line in lines if any(sign in line.lower() for sign in _OUT_OF_MEMORY)]
    if not signs and not isinstance(error, MemoryError):
        return None
    said = (signs or lines or ["none is left"])[0]
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."


class DamagedError(CheckpointError):
    """A checkpoint file that no longer holds what was written."""


class DataError(ResnetSpecError):
    """A dataset or image that is missing or malformed."""


class BusyError(DataError):
    """A run's folder that another process trains in."""


class TrackingError(ResnetSpecError):
    """A tracker that is unknown, not installed, or cannot be reached when a run starts."""


class OutputError(ResnetSpecError, OSError):
    """A file that cannot be written: the disk is full, the folder read-only, and the like."""

    def __init__(self, path: object, cause: OSError) -> None:
        why = cause.strerror or " ".join(str(cause).split()) or type(cause).__name__
        super().__init__(f"{path}: cannot be written: {why}")
        self.errno, self.strerror, self.filename = cause.errno, why, str(path)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def problem(where: str, value: object, rule: str, remedy: str = "") -> str:
    """Format one problem as `where = value: rule; remedy`."""
    line = f"{where} = {value}: {rule}"
    return f"{line}; {remedy}" if remedy else line


MOST_LINES = 8
"""Of one kind of problem; more of them say less than their number."""


def few(lines: Sequence[str]) -> list[str]:
    """Return lines on tensors that do not fit: all of few; of many one, with the reason first."""
    if len(lines) <= MOST_LINES:
        return list(lines)
    kinds = {
        "is missing": "missing",
        "is unexpected": "unexpected",
        "must have": "of another shape",
    }
    counts = {told: sum(sign in line for line in lines) for sign, told in kinds.items()}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    rule = f"{len(lines)} do not fit ({told}); is it another network?"
    return [f"tensors: {rule} The first: {lines[0]}; and {len(lines) - 1} more"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def empty(where: str) -> str:
    """Return the problem with an empty text, as of a variable of the shell that is not set.

    It never stands for what is usual: who gave it meant something else.
    """
    return problem(where, '""', "must not be empty", "give a value, or leave it out")


def not_one_of(where: str, value: object, choices: Sequence[str]) -> str | None:
    """Return the problem with a value that is none of `choices`, and None for one that is.

    For callers in Python, whom a type does not bind and no parser guards.
    """
    if isinstance(value, str) and value in choices:
        return None
    rule = f"must be {', '.join(choices[:-1])} or {choices[-1]}"
    shown = value if isinstance(value, str) and value.strip() else repr(value)
    close = nearest(value.lower(), choices) if isinstance(value, str) else None
    return problem(where, shown, rule, "" if close is None else f"did you mean '{close}'?")


def check_kind(
    error: type[ResnetSpecError], where: str, value: object, kinds: Iterable[type], rule: str
) -> None:
    """Raise `error` for a value that is of none of `kinds`; True and False are no numbers.

    For callers in Python, whom a type does not bind. NumPy's numbers are `Integral` and `Real`.
    """
    numbers = (Integral, Real) if isinstance(value, bool) else ()
    if not isinstance(value, tuple(kind for kind in kinds if kind not in numbers)):
        raise error(problem(where, reprlib.repr(value), rule))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?`, or the choices when nothing is close and they are few."""
    choices = sorted(known)
    close = nearest(name, choices)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"choose from {', '.join(choices)}" if 0 < len(choices) <= 12 else ""
