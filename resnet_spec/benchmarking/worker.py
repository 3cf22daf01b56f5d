"""The process of a contestant: makes it, and takes turns when it is told to.

    python -m resnet_spec.benchmarking.worker

Told and answered a line of JSON at a time. The first line is the task, `{"asked": ..., "entry":
..., "file": ...}`, and its answer `{"info": ...}`; then `{"turn": steps}` and `{"product": count}`
are answered with what they took, and `{"profile": steps}` with what went where in them, until
`{"end": true}` or the end of the input. Whatever goes wrong is `{"failed": line}`, and ends the
process with status 1; a profile that goes wrong is `{"not_profiled": line}`, and ends nothing.

Between two lines the process waits for the next one and should take no processor from whoever has
its turn: it answers when its threads are quiet, and tells what they took while it waited.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_spec.errors import ResnetSpecError
from resnet_spec.files.json_text import json_text
from resnet_spec.running.memory import peak_memory_mb
from resnet_spec.running.under_launcher import end_with_parent

if TYPE_CHECKING:
    from resnet_spec.benchmarking.making import Made

Answer = dict[str, Any]
Make = Callable[[Mapping[str, Any]], "Made"]

_QUIET_LOOK_S = 0.02
_QUIET_SHARE = 0.05
"""Of a processor, over a look: below it threads count as asleep."""
_QUIET_MOST_S = 1.0


class Clock(NamedTuple):
    """What is read of time: of the wall, and of all processors by this process's threads."""

    wall: Callable[[], float] = time.perf_counter
    processors: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep

    def reading(self) -> tuple[float, float]:
        """Return both, in seconds."""
        return self.wall(), self.processors()


class Worker:
    """Answers the lines that follow the first one."""

    def __init__(self, made: Made, clock: Clock | None = None) -> None:
        self._made, self._clock = made, clock or Clock()
        self._answered = self._clock.reading()

    def answer(self, told: Mapping[str, Any]) -> Answer:
        """Do what is told; return what it took, and what this process took since its last answer.

        Raises ValueError for what cannot be understood, and whatever a contestant raises.
        """
        wall, processors = self._clock.reading()
        waited = {"waited_s": wall - self._answered[0], "idle_s": processors - self._answered[1]}
        if told.get("end"):
            return waited
        found = self._taken(told)
        is_quiet = quiet(self._clock)
        self._answered = self._clock.reading()
        return {**found, **waited, "is_quiet": is_quiet}

    def _taken(self, told: Mapping[str, Any]) -> Answer:
        match dict(told):
            case {"turn": int(steps)} if steps > 0:
                took = self._timed(self._made.contestant.turn, steps)
                return {**took, "memory_mb": peak_memory_mb(), "device_mb": self._device_mb()}
            case {"product": int(count)} if count > 0 and self._made.product is not None:
                return self._timed(self._made.product.turn, count)
            case {"profile": int(steps)} if steps > 0 and self._made.profile is not None:
                return self._profiled(self._made.profile, steps)
            case _:
                raise ValueError(f"{json_text(told)}: is nothing that a worker does")

    def _profiled(self, profile: Callable[[int], Answer], steps: int) -> Answer:
        """Return the profile; where there is none, why: what was timed before stays."""
        gc.collect()
        try:
            return profile(steps)
        except ResnetSpecError as error:
            return {"not_profiled": "; ".join(error.problems)}
        except Exception as error:  # Whatever a profiler raises.
            return {"not_profiled": _reason(error)}

    def _timed(self, turn: Callable[[int], object], steps: int) -> Answer:
        gc.collect()
        wall, processors = self._clock.reading()
        given = turn(steps)
        kind = type(given).__name__
        after = self._clock.reading()
        if isinstance(given, Awaitable | Generator | AsyncGenerator):  # It has not begun.
            raise ValueError(f"turn({steps}) gave a {kind}: has to take the steps, and be done")
        return {"seconds": after[0] - wall, "processor_s": after[1] - processors}

    def _device_mb(self) -> float | None:
        held = self._made.device_bytes()
        return None if held is None else held / 1e6


def quiet(clock: Clock) -> bool:
    """Wait until this process's threads are asleep; return whether they are.

    A pool of threads looks for more work for a while after the last, OpenMP's for milliseconds.
    """
    end = clock.wall() + _QUIET_MOST_S
    while clock.wall() < end:
        wall, before = clock.reading()
        clock.sleep(_QUIET_LOOK_S)
        after = clock.reading()
        if after[1] - before < _QUIET_SHARE * (after[0] - wall):
            return True
    return False


def serve(lines: Iterable[str], say: Callable[[Answer], None], made_of: Make) -> int:
    """Answer `lines` by `say`; return the exit status."""
    worker: Worker | None = None
    try:
        for line in lines:
            told = json.loads(line)
            if not isinstance(told, dict):
                raise ValueError(f"{line.strip()}: is no table")
            if worker is None:
                made = made_of(told)  # pyright: ignore[reportUnknownArgumentType]
                worker = Worker(made)
                say(_ready(made))
                continue
            say(worker.answer(told))  # pyright: ignore[reportUnknownArgumentType]
            if "end" in told:
                break
    except ResnetSpecError as error:
        say({"failed": "; ".join(error.problems)})
        return 1
    except Exception as error:  # Whatever a framework, or somebody's own function, raises.
        say({"failed": _reason(error)})
        return 1
    return 0


def _reason(error: BaseException) -> str:
    """Return what was raised in a line; where it came of something else, that."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {_line(error)[:300]}"


def _line(value: object) -> str:
    """Return what somebody else's code says as a line of text, without what moves a terminal."""
    words = " ".join(str(value).split())
    return "".join(letter for letter in words if letter.isprintable())


def _ready(made: Made) -> Answer:
    product, can_profile = made.product, made.profile is not None
    about = None if product is None else {"size": product.size, "flops": product.flops}
    told = {**({} if product is None else product.info), **made.contestant.info}
    info = {_line(key): _line(text) for key, text in told.items()}
    return {"info": info, "product": about, "can_profile": can_profile}


def _made_of(task: Mapping[str, Any]) -> Made:
    from resnet_spec.benchmarking.asked import Asked
    from resnet_spec.benchmarking.entries import Entry
    from resnet_spec.benchmarking.making import make

    file = task.get("file")
    asked, entry = Asked.from_dict(task["asked"]), Entry(**task["entry"])
    return make(asked, entry, None if file is None else Path(file))


def main() -> int:
    """Serve the process's standard input, and end with who asks.

    Nobody else reads that, where `input()` finds the end, or writes to the standard output.
    """
    end_with_parent(str(os.getppid()))
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # The peers' own.

    def say(answer: Answer) -> None:
        answers.write(json_text(answer) + "\n")
        answers.flush()

    return serve(lines, say, _made_of)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # A framework may take seconds to take its leave, or not return.
